"""A run as a table."""

from __future__ import annotations

from typing import Any

import msgspec
import pandas as pd

from mmlab.events import KINDS, UNKNOWN, Event
from mmlab.state import NS, State


def event_table(state: State) -> pd.DataFrame:
    """One row per event, with `seconds` since the run was submitted."""
    rows = [_row(event) for event in state.events]
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    frame.insert(0, "seconds", (frame["t_ns"] - state.start_ns) * NS)
    return frame


def _row(event: Event) -> dict[str, Any]:
    values = {name: getattr(event, name) for name in event.__struct_fields__}
    values["event"] = event.event
    if "info" in values:
        values["info"] = msgspec.to_builtins(values["info"])
    return {name: None if value is UNKNOWN else value for name, value in values.items()}


_COLUMNS = list(dict.fromkeys(
    ["run", "t_ns", "host", "pid", "tid", "event", "step", "model", "generation", "cohort"]
    + [name for kind in KINDS.values() for name in kind.__struct_fields__]
))  # fmt: skip
