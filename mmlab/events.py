"""The event schema: one thing that happened in one process, at one time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from operator import itemgetter
from sys import intern
from typing import Any, NamedTuple

VERSION = 1

KINDS = {
    "process": "a process began to write; anchors its clock",
    "run": "the pipeline was submitted; names its steps and models",
    "models": "a handler was watched on its own; names its models",
    "end": "the pipeline ended",
    "close": "a process that buffers its events has written the last of them",
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
    "conflict": "two threads changed the model manager's maps at once, and a load failed",
    "unknown_key": "a batch holds a key that no mapping names",
    "unobserved": "something that cannot be seen here",
    "dropped": "events that could not be written",
}

UNOBSERVED = {
    "evictions": "evictions are not shown: this version of Beam hides them",
    "limit": "the effective limit is not shown: this version of Beam hides it",
    "hint": "the hint is not shown: this version of Beam hides it",
    "free": "cannot be weakly referenced: when its memory is released is not seen",
    "refresh": "refreshes are not shown: this version of Beam hides them",
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
      info: of the whole run, for `run` and `end`; of the process, for `process`.
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
_REPEATED = ("run", "host", "event", "step", "model", "cohort")
_OPTIONAL = {
    **dict.fromkeys(("step", "model", "cohort", "error", "what", "path"), str),
    **dict.fromkeys(("generation", "n", "rss", "peak_rss", "device_bytes", "bytes"), int),
    **dict.fromkeys(("limit", "wall_ns", "v"), int),
    **dict.fromkeys(("keys", "info"), dict),
}


def printable(text: str) -> str:
    """Text from a trace as a terminal or a page may show it: signs that command them are gone.

    >>> printable("a\\x1b[2Jb")
    'a?[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text)


encode = json.JSONEncoder(separators=(",", ":")).encode


CLOCK_TOLERANCE_NS = 10_000_000_000
"""Wall clocks of one machine that differ by less agree: a process that waits for its turn between
two looks at the clock is a second or two off."""


class Clocks(dict[str, int]):
    """Nanoseconds from machines' monotonic clocks to the epoch, for the events of one log.

    A monotonic clock begins anew when its machine does, and two machines may have one name: so
    clocks are told apart by name and boot. The first process of a boot that is read says how its
    clock stands, so that a wall clock that is set back later moves nothing.

    Args:
      beside: of a log that is read beside this one, to share what is known of machines.
    """

    def __init__(self, beside: Clocks | None = None):
        super().__init__()
        self._boots: dict[tuple[str, str | None], int] = {} if beside is None else beside._boots
        self._first: dict[str, int] = {} if beside is None else beside._first

    def __missing__(self, host: str) -> int:
        return self._first.get(host, 0)  # the process that wrote this log did not say, others may

    def anchor(self, event: dict[str, Any]) -> None:
        """Take note of a `process` event; where its clock disagrees with the first, it says so."""
        host, info = event["host"], event.get("info") or {}
        own = event["wall_ns"] - event["t_ns"]
        _check_range(own)
        self[host] = self._boots.setdefault((host, info.get("boot")), own)
        self._first.setdefault(host, own)
        if abs(own - self[host]) > CLOCK_TOLERANCE_NS:
            event["info"] = {**info, "clock_off_ns": own - self[host]}


def parse(line: str | bytes, clocks: Clocks) -> Event:
    """Read one line of an event log and put it on the wall clock.

    Args:
      line: as `Event.to_json` writes it; at most `MOST_LINE_BYTES`.
      clocks: of the log that the line stands in; `process` events add to them.

    Raises:
      ValueError: the line is not an event, or was written by a newer mmlab.
    """
    event = _checked(_object(line))
    _align(event, clocks)
    return Event(**event)


MOST_LINE_BYTES = 16_000_000
"""A run of 10,000 models describes them in 5 MB; no other event is near that."""
MOST_DEPTH = 8
_BEYOND = 2**63
_MOST_SHAPES = 1_000


def _object(line: str | bytes) -> dict[str, Any]:
    if len(line) > MOST_LINE_BYTES:
        raise ValueError(f"not an event: the line is longer than {MOST_LINE_BYTES:,} bytes")
    try:
        text = (line if isinstance(line, str) else line.decode()).strip()
        data, end = _decode(text)
    except (ValueError, RecursionError):
        raise ValueError("not a line of JSON") from None
    if not isinstance(data, dict) or end != len(text):
        raise ValueError("not a JSON object")
    return _whole_text(data) if r"\ud" in text or r"\uD" in text else data


def _whole_text(data: dict[str, Any]) -> dict[str, Any]:
    """`data` with `?` for halves of surrogate pairs: no page and no file takes those."""
    text = json.dumps(data, ensure_ascii=False).encode("utf-8", "replace").decode()
    return json.loads(text)


def _no_constant(name: str) -> None:
    raise ValueError(name)


_decode = json.JSONDecoder(parse_constant=_no_constant).raw_decode

_shapes: dict[tuple[Any, ...], Callable[[Any], tuple[int, ...]]] = {}
"""Names and types of members that have been found right, to what reads their integers: the lines
of a log have a few shapes, and are then read in half the time."""


def _checked(data: dict[str, Any]) -> dict[str, Any]:
    """The members of an event, each of its type and within its range."""
    shape = (*data, *map(type, data.values()))
    integers = _shapes.get(shape)
    if integers is None:
        known = _with_right_types(data)
        integers = itemgetter(*(name for name, value in known.items() if type(value) is int))
        if len(known) == len(data) and len(_shapes) < _MOST_SHAPES:
            _shapes[shape] = integers
        data = known
    if data.get("v", VERSION) > VERSION:
        raise NewerTraceError(data["v"])
    values = integers(data)
    if max(values) >= _BEYOND or min(values) < -_BEYOND:
        raise ValueError("not an event: a number has more than 64 bits")
    if "keys" in data:
        _check_counts("keys", data["keys"])
    if "info" in data:
        _check_info(data["info"])
    for name in _REPEATED:
        if name in data:
            data[name] = intern(data[name])  # half of a trace's memory, otherwise
    return data


def _check_range(value: int) -> None:
    if not -_BEYOND <= value < _BEYOND:
        raise ValueError("not an event: a number has more than 64 bits")


def _with_right_types(data: dict[str, Any]) -> dict[str, Any]:
    """The members that this version knows."""
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
    return {name: value for name, value in data.items() if name in _KNOWN}


def _check_counts(name: str, counts: Any) -> None:
    values = counts.values() if isinstance(counts, dict) else (None,)
    for n in values:
        if type(n) is not int or not 0 <= n < _BEYOND:
            raise ValueError(f"{name!r} is not a number of elements for each name")


_CARD = {
    **dict.fromkeys(("step", "model"), (str,)),
    **dict.fromkeys(("handler", "weights", "device", "cohort"), (str, type(None))),
    "keys": (list,),
    "hint": (int, type(None)),
}


def _check_info(info: dict[str, Any]) -> None:
    """See that what a run says of itself has the form that `Trace` reads."""
    if not _is_flat(info, MOST_DEPTH):
        raise ValueError("'info' is not plain: it is nested too deep")
    models = info.get("models", [])
    if not isinstance(models, list) or not all(_is_card(card) for card in models):
        raise ValueError("'info' is not a description of models")
    _check_counts("element_counts", info.get("element_counts", {}))
    if not isinstance(info.get("state", ""), str):
        raise ValueError("'state' is not str")
    if not isinstance(info.get("boot", ""), str):
        raise ValueError("'boot' is not str")
    off = info.get("clock_off_ns", 0)
    if type(off) is not int or abs(off) >= 2 * _BEYOND:
        raise ValueError("'clock_off_ns' is not a number of nanoseconds")


def _is_card(card: Any) -> bool:
    return (
        isinstance(card, dict)
        and "step" in card
        and "model" in card
        and all(type(card[name]) in kinds for name, kinds in _CARD.items() if name in card)
        and all(type(key) is str for key in card.get("keys", ()))
        and abs(card.get("hint") or 0) < _BEYOND
    )


def _is_flat(value: Any, depth: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return depth > 0 and all(_is_flat(item, depth - 1) for item in value)
    return True


def _align(event: dict[str, Any], clocks: Clocks) -> None:
    if event["event"] == "process" and "wall_ns" in event:
        clocks.anchor(event)
    event["t_ns"] += clocks[event["host"]]
    _check_range(event["t_ns"])
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
