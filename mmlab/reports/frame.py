"""The table of a run's events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter

import msgspec
import numpy as np
import pandas as pd

from mmlab.events import KINDS, UNKNOWN, Event
from mmlab.state import NS


def event_table(events: Sequence[Event], start_ns: int) -> pd.DataFrame:
    """Table with one row per event, and `seconds` since the submission of the run."""
    places: dict[type[Event], list[int]] = defaultdict(list)
    for place, event in enumerate(events):
        places[type(event)].append(place)
    columns = {name: np.full(len(events), None, object) for name in _COLUMNS}
    for kind, rows in places.items():
        chosen = [events[row] for row in rows]
        columns["event"][rows] = [event.event for event in chosen]
        for name in kind.__struct_fields__:
            columns[name][rows] = _values(name, chosen)
    frame = pd.DataFrame(columns, columns=_COLUMNS).infer_objects()
    frame.insert(0, "seconds", (frame["t_ns"] - start_ns) * NS)
    return frame


def _values(name: str, events: Sequence[Event]) -> np.ndarray:
    values = map(attrgetter(name), events)
    if name == "info":
        values = map(msgspec.to_builtins, values)
    column = np.empty(len(events), object)
    column[:] = [None if value is UNKNOWN else value for value in values]
    return column


_COLUMNS = list(dict.fromkeys(
    ["run", "t_ns", "host", "pid", "tid", "event", "step", "model", "generation", "cohort"]
    + [name for kind in KINDS.values() for name in kind.__struct_fields__]
))  # fmt: skip
