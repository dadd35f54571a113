"""A run as a table."""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter

import pandas as pd

from mmlab.events import Event
from mmlab.state import NS, State


def event_table(state: State) -> pd.DataFrame:
    """One row per event, with `seconds` since the run was submitted."""
    names = [field.name for field in fields(Event)]
    columns = {name: list(map(attrgetter(name), state.events)) for name in names}
    frame = pd.DataFrame(columns, columns=names)
    frame.insert(0, "seconds", (frame["t_ns"] - state.start_ns) * NS)
    return frame
