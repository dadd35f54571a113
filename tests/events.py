"""Events as tests write them: in the order of a line, with names of their kinds."""

from __future__ import annotations

from typing import Any

import msgspec

from mmlab import events


def Event(
    run: str,
    t_ns: int,
    host: str,
    pid: int,
    tid: int,
    event: str,
    step: str | None = None,
    model: str | None = None,
    generation: int | None = None,
    **fields: Any,
) -> events.Event:
    """An event of a kind, checked as one that is read from a log is."""
    given = {"step": step, "model": model, "generation": generation, **fields}
    known = {name: value for name, value in given.items() if value is not None}
    stamp = {"run": run, "t_ns": t_ns, "host": host, "pid": pid, "tid": tid, "event": event}
    return msgspec.convert({**stamp, **known}, events.KINDS[event])
