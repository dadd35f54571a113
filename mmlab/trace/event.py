"""The event schema: one thing that happened in one process, at one time."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

VERSION = 1

KINDS = {
    "process": "a process began to write; anchors its clock",
    "run": "the pipeline was submitted; names its steps and models",
    "models": "a handler was watched on its own; names its models",
    "end": "the pipeline ended",
    "load_begin": "a model handler was asked for its model",
    "load_end": "the model is there",
    "load_fail": "the model could not be loaded",
    "use_begin": "a batch reached a model",
    "use_end": "the model has answered the batch",
    "evict": "the model manager dropped a model: least recently used",
    "free": "nothing refers to a model any more: its memory is released",
    "limit": "the model manager changed how many models it will hold",
    "refresh": "a model that was loaded is to come from another place from now on",
    "memory": "a sample of a process's memory",
    "memory_limit": "the run may take no more memory than so many bytes",
    "unknown_key": "a batch holds a key that no mapping names",
    "unobserved": "something that cannot be seen here",
    "dropped": "events that could not be written",
}

UNOBSERVED = {
    "evictions": "evictions are not shown: this version of Beam hides them",
    "limit": "the limit that ruled is not shown: this version of Beam hides it",
    "free": "cannot be weakly referenced: when its memory is released is not seen",
    "model manager": "Beam's ModelManager keeps each load of a model in a process of its own: a "
    "batch is shown at the latest of several loads, and what it evicts is shown as freed",
    "handler": "not watched: its model handler cannot be copied together with what records",
    "watched": "not in this trace: its handler is watched on its own, with mmlab.watch",
}
"""What the field `what` of an event can say, in words."""


class Process(NamedTuple):
    """A worker process: the name of its machine and its process id there."""

    host: str
    pid: int

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of an event log.

    Attributes:
      run: identifies the run.
      t_ns: nanoseconds since the epoch; in a log as written, of the machine's monotonic clock.
      host, pid, tid: machine, process and native thread that wrote the line.
      event: one of `KINDS`.
      step, model, generation: which load of which model, where the event is about one;
        generation 1 is a model's first load in its process.
      cohort: the first key of the model's mapping, as text.
      keys: elements per key in the batch, keys as text.
      n: elements in the batch, or events dropped.
      rss, peak_rss, device_bytes: bytes; resident set size now, its highest since the process
        began, memory allocated on GPUs.
      bytes: bytes of a model's own tensors or arrays, or that the run may take.
      limit: number of models that the manager will hold.
      error: type and text of the exception.
      what: what cannot be observed.
      path: where a refreshed model comes from: file, folder, URI or hub name.
      wall_ns: the wall clock at `t_ns`, nanoseconds since the epoch.
      info: of the whole run, for `run` and `end`.
    """

    run: str
    t_ns: int
    host: str
    pid: int
    tid: int
    event: str
    step: str | None = None
    model: str | None = None
    generation: int | None = None
    cohort: str | None = None
    keys: Mapping[str, int] | None = None
    n: int | None = None
    rss: int | None = None
    peak_rss: int | None = None
    device_bytes: int | None = None
    bytes: int | None = None
    limit: int | None = None
    error: str | None = None
    what: str | None = None
    path: str | None = None
    wall_ns: int | None = None
    info: Mapping[str, Any] | None = None
    v: int = VERSION

    @property
    def process(self) -> Process:
        return Process(self.host, self.pid)

    def to_json(self) -> str:
        """The event as one line of ASCII, without the newline."""
        values = ((name, getattr(self, name)) for name in _FIELDS)
        return encode({name: value for name, value in values if value is not None})


_FIELDS = tuple(f.name for f in fields(Event))
_KNOWN = frozenset(_FIELDS)
_REQUIRED = {"run": str, "t_ns": int, "host": str, "pid": int, "tid": int, "event": str}
_OPTIONAL = {
    **dict.fromkeys(("step", "model", "cohort", "error", "what", "path"), str),
    **dict.fromkeys(("generation", "n", "rss", "peak_rss", "device_bytes", "bytes"), int),
    **dict.fromkeys(("limit", "wall_ns", "v"), int),
    **dict.fromkeys(("keys", "info"), dict),
}

encode = json.JSONEncoder(separators=(",", ":")).encode


def parse(line: str | bytes, clocks: dict[str, int]) -> Event:
    """Read one line of an event log and put it on the wall clock.

    Args:
      line: as `Event.to_json` writes it.
      clocks: nanoseconds from each machine's monotonic clock to the epoch. The first `process`
        event of a machine adds its entry, so that a clock that is set back later moves nothing.

    Raises:
      ValueError: the line is not an event, or was written by a newer mmlab.
    """
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not a line of JSON") from None
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    version = data.get("v")
    if isinstance(version, int) and version > VERSION:
        raise NewerTraceError(version)
    for name, kind in _REQUIRED.items():
        if type(data.get(name)) is not kind:
            raise ValueError(f"{name!r} is not {kind.__name__}")
    for name, value in data.items():
        kind = _OPTIONAL.get(name)
        if kind is not None and type(value) is not kind:
            raise ValueError(f"{name!r} is not {kind.__name__}")
    event = {name: value for name, value in data.items() if name in _KNOWN}
    _align(event, clocks)
    return Event(**event)


def _align(event: dict[str, Any], clocks: dict[str, int]) -> None:
    if event["event"] == "process" and "wall_ns" in event:
        clocks.setdefault(event["host"], event["wall_ns"] - event["t_ns"])
    event["t_ns"] += clocks.get(event["host"], 0)
    if event["event"] == "process":
        event["wall_ns"] = event["t_ns"]


def dropped(n: int, last: Event) -> Event:
    """The event that says that after `last` a process could not write `n` events."""
    return Event(last.run, last.t_ns, last.host, os.getpid(), last.tid, "dropped", n=n)


class NewerTraceError(ValueError):
    """The trace was written by a newer mmlab than this one."""

    def __init__(self, version: int):
        super().__init__(
            f"the trace has format {version}, this mmlab reads up to {VERSION}: update mmlab"
        )
