"""The events of a log: one struct for each kind of thing that can happen in a process.

A log is a file of JSON lines; each line is one event. Writers encode these structs and readers
decode them. `docs/trace-format.md` describes the format; its table is generated from this module.
"""

from __future__ import annotations

import contextlib
import enum
import json
from collections.abc import Iterable
from sys import intern
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Union

import msgspec
from msgspec import Meta, Struct

VERSION = 1

MOST_LINE_BYTES = 16_000_000
"""The largest event describes the models of a run: 5 MB for 10,000 models."""


class Unknown(enum.Enum):
    """The type of `UNKNOWN`."""

    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return self.value

    __str__ = __repr__

    def __bool__(self) -> bool:
        return False


UNKNOWN: Literal[Unknown.UNKNOWN] = Unknown.UNKNOWN
"""An unknown value: the bytes of a model, or a hint or limit that Beam does not expose.

It differs from 0 and from None, which means that there is no hint or no limit.
"""

# Without bounds, msgspec accepts integers of any length.
_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Process(NamedTuple):
    """A worker process: the name of its machine and its process id there."""

    host: str
    pid: int

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class TracedModel(Struct, frozen=True, gc=False, omit_defaults=True):
    """A model that a run can load.

    Attributes:
      step: label of the `RunInference` step.
      model: its name, unique in the step.
      handler: class of its model handler.
      weights: their source: file, folder, URI or hub name.
      device: as given to the handler.
      cohort: the first key of its mapping, as text; None for a handler with one model.
      keys: all keys of its mapping, as text.
      hint: `max_models_per_worker_hint` of the step; None without one.
    """

    step: str
    model: str
    handler: str | None = None
    weights: str | None = None
    device: str | None = None
    cohort: str | None = None
    keys: tuple[str, ...] = ()
    hint: _Int64 | None | Unknown = None


class ProcessInfo(Struct, frozen=True, gc=False, omit_defaults=True):
    """What a process records about itself.

    Attributes:
      boot: id of the current boot of its machine.
      segments: whether it buffers its events and writes `close` after the last one.
      clock_off_ns: difference of its wall clock to that of the first process of its machine; set
        by readers.
    """

    boot: str | None = None
    segments: bool = False
    clock_off_ns: int = 0


class RunInfo(Struct, frozen=True, gc=False, omit_defaults=True):
    """What is known about a run before it begins.

    Attributes:
      models: all models that it can load.
      python: version of the interpreter.
      sharing: groups of steps that share models.
    """

    models: tuple[TracedModel, ...] = ()
    python: str | None = None
    sharing: tuple[tuple[str, ...], ...] = ()


class EndInfo(Struct, frozen=True, gc=False, omit_defaults=True):
    """How a run ended.

    Attributes:
      state: `DONE`, `FAILED`, … as Beam names it.
      element_counts: elements of each PCollection, if the runner counts them.
      oom_kills: processes that the kernel of the machine killed for lack of memory during the run,
        of any program; None if the kernel does not count them.
      reached: elements that reached the model of each step, as counted by the runner; steps
        without a count are missing.
      elsewhere: whether workers were in processes other than the one that submitted the pipeline,
        according to the runner and its options.
    """

    state: str = "UNKNOWN"
    element_counts: dict[str, _Count] = {}
    oom_kills: _Count | None = None
    reached: dict[str, _Count] = {}
    elsewhere: bool = False


_UNSTAMPED = "(not written yet)"
"""Run and host of an event until its writer adds them."""


class Event(Struct, kw_only=True, omit_defaults=True, gc=False):
    """One line of a log.

    Attributes:
      run: identifies the run.
      host, pid, tid: machine, process and native thread in which it happened.
      t_ns: nanoseconds since the epoch; in a log file, of the machine's monotonic clock.
      v: version of the format.
    """

    event: ClassVar[str] = ""

    run: str = _UNSTAMPED
    host: str = _UNSTAMPED
    pid: _Int64 = 0
    tid: _Int64 = 0
    t_ns: _Int64 = 0
    v: _Int64 = VERSION

    @property
    def process(self) -> Process:
        return Process(self.host, self.pid)

    def to_json(self) -> str:
        """The event as one line, without the newline."""
        return f'{{"v":{self.v},{encode(self)[1:]}'


class _Other(Event, kw_only=True):
    """An event of a kind that this version does not know, without its members.

    Attributes:
      event: its kind.
    """

    event: str  # type: ignore[misc]  # other events have it in their class


class _Known(Event, tag_field="event"):
    """An event of one of the kinds below."""


class _OfStep(_Known, kw_only=True):
    """An event of a step.

    Attributes:
      step: its label; None where it is not known.
    """

    step: str | None = None


class OfModel(_Known, kw_only=True):
    """An event of a model.

    Attributes:
      step, model: identify the model.
      generation: 1 for the model's first load in its process, 2 for the second, …; None if another
        process holds the model.
      cohort: the first key of the model's mapping, as text.
    """

    step: str
    model: str
    cohort: str | None = None
    generation: _Int64 | None = None


class OfLoad(OfModel, kw_only=True):
    """An event of a load. In logs of the first version it also has memory; see `Memory`."""

    rss: _Count | None = None
    peak_rss: _Count | None = None
    device_bytes: _Count | None = None


class ProcessBegins(_Known, tag="process", kw_only=True):
    """A process began to write; anchors its clock.

    Attributes:
      wall_ns: the wall clock at `t_ns`, nanoseconds since the epoch.
    """

    event: ClassVar[str] = "process"
    wall_ns: _Int64 | None = None
    info: ProcessInfo = ProcessInfo()


class RunBegins(_Known, tag="run", kw_only=True):
    """The pipeline was submitted; names its steps and models."""

    event: ClassVar[str] = "run"
    info: RunInfo = RunInfo()


class Models(_Known, tag="models", kw_only=True):
    """A handler was watched on its own; names its models."""

    event: ClassVar[str] = "models"
    info: RunInfo = RunInfo()


class RunEnds(_Known, tag="end", kw_only=True):
    """The pipeline ended.

    Attributes:
      error: type and text of the exception that ended it.
    """

    event: ClassVar[str] = "end"
    info: EndInfo = EndInfo()
    error: str | None = None


class Close(_Known, tag="close", kw_only=True):
    """A process that buffers its events has written the last of them."""

    event: ClassVar[str] = "close"


class LoadBegins(OfLoad, tag="load_begin", kw_only=True):
    """A model handler was asked for its model."""

    event: ClassVar[str] = "load_begin"


class LoadEnds(OfLoad, tag="load_end", kw_only=True):
    """The model is loaded.

    Attributes:
      bytes: of the model.
      sized_by: how they were found, one of `SIZED_BY`.
      rss_growth: growth of the resident set size during the load in bytes, including other work of
        the process; recorded if `bytes` may not be found otherwise.
      what: "free" if the release of the model cannot be observed.
      object: number of the loaded object in its process; loads with the same number returned the
        same object, which is in memory once.
    """

    event: ClassVar[str] = "load_end"
    bytes: _Count | Unknown = UNKNOWN
    sized_by: str = "tensors"
    rss_growth: _Int64 | None = None
    what: str | None = None
    object: _Int64 | None = None


class InMemory(OfModel, tag="in_memory", kw_only=True):
    """A model was in memory before this run came to use it: another run had loaded it.

    Attributes:
      age_ns: how long it had been in memory, nanoseconds.
      bytes, sized_by, what, object: see `LoadEnds`.
    """

    event: ClassVar[str] = "in_memory"
    age_ns: _Count = 0
    bytes: _Count | Unknown = UNKNOWN
    sized_by: str = "tensors"
    what: str | None = None
    object: _Int64 | None = None


class LoadFails(OfLoad, tag="load_fail", kw_only=True):
    """The model could not be loaded.

    Attributes:
      error: type and text of the exception.
    """

    event: ClassVar[str] = "load_fail"
    error: str | None = None


class UseBegins(OfModel, tag="use_begin", kw_only=True):
    """A batch reached a model.

    Attributes:
      n: elements in the batch.
      keys: elements per key, keys as text; empty without keys.
    """

    event: ClassVar[str] = "use_begin"
    n: _Count = 0
    keys: dict[str, _Count] = {}


class UseEnds(OfModel, tag="use_end", kw_only=True):
    """The model has answered the batch.

    Attributes:
      error: type and text of the exception, if the batch failed.
    """

    event: ClassVar[str] = "use_end"
    error: str | None = None


class Evicts(OfLoad, tag="evict", kw_only=True):
    """The model manager dropped a model: least recently used."""

    event: ClassVar[str] = "evict"


class Frees(OfModel, tag="free", kw_only=True):
    """Nothing refers to a model any more: its memory is released."""

    event: ClassVar[str] = "free"


class Limit(_OfStep, tag="limit", kw_only=True):
    """The model manager changed how many models it will hold.

    Attributes:
      limit: that number; None for no limit.
    """

    event: ClassVar[str] = "limit"
    limit: _Int64 | None | Unknown = None


class Copy(_OfStep, tag="copy", kw_only=True):
    """A copy of a keyed handler gets its first batch.

    Each worker thread has a copy, and each copy adds its hint to the limit of the manager.
    """

    event: ClassVar[str] = "copy"


class Refreshes(OfModel, tag="refresh", kw_only=True):
    """A loaded model gets another path for its next load.

    Attributes:
      path: file, folder, URI or hub name.
    """

    event: ClassVar[str] = "refresh"
    path: str | None = None


class Memory(_Known, tag="memory", kw_only=True):
    """A sample of a process's memory.

    Attributes:
      rss: resident set size, bytes.
      peak_rss: the highest resident set size since the process began, bytes.
      data: private writable memory, used or not, bytes; None if the system does not report it.
      data_limit: upper limit of `data` (`RLIMIT_DATA`), bytes; None without a limit.
      device_bytes: allocated on GPUs, bytes; None without a GPU.
    """

    event: ClassVar[str] = "memory"
    rss: _Count | None = None
    peak_rss: _Count | None = None
    data: _Count | None = None
    data_limit: _Count | None = None
    device_bytes: _Count | None = None


class MemoryLimit(_Known, tag="memory_limit", kw_only=True):
    """The run has a memory limit, in bytes.

    It applies to each process, on top of the `data` that the process had before the run.
    """

    event: ClassVar[str] = "memory_limit"
    bytes: _Count


class Conflicts(_OfStep, tag="conflict", kw_only=True):
    """Two threads changed the model manager's maps at once, and a load failed.

    Attributes:
      error: type and text of the exception.
    """

    event: ClassVar[str] = "conflict"
    error: str | None = None


class UnknownKey(_OfStep, tag="unknown_key", kw_only=True):
    """A batch holds a key that no mapping names.

    Attributes:
      error: the key.
    """

    event: ClassVar[str] = "unknown_key"
    error: str | None = None


class Unobserved(_OfStep, tag="unobserved", kw_only=True):
    """Something cannot be observed in this run.

    Attributes:
      model: the model concerned, if it is about one.
      what: one of `UNOBSERVED`, or a sentence.
    """

    event: ClassVar[str] = "unobserved"
    model: str | None = None
    what: str


class DeadLetter(_OfStep, tag="dead_letter", kw_only=True):
    """A batch went to the dead letters of its step, which handles exceptions.

    Attributes:
      n: elements in the batch, for all models.
      error: type and text of the exception.
      timed_out: whether Beam stopped waiting for the batch. Its thread continues: the use may end
        later, or never.
      model, cohort: the model that was processing the batch; None if not known.
      thread: native id of the thread of the batch.
    """

    event: ClassVar[str] = "dead_letter"
    n: _Count = 0
    error: str | None = None
    timed_out: bool = False
    model: str | None = None
    cohort: str | None = None
    thread: _Int64 | None = None


class Dropped(_Known, tag="dropped", kw_only=True):
    """Events that could not be written.

    Attributes:
      n: how many.
    """

    event: ClassVar[str] = "dropped"
    n: _Count = 0


KINDS: dict[str, type[Event]] = {
    kind.event: kind
    for kind in (
        ProcessBegins, RunBegins, Models, RunEnds, Close,
        LoadBegins, LoadEnds, InMemory, LoadFails, UseBegins, UseEnds, Evicts, Frees, DeadLetter,
        Limit, Copy, Refreshes, Memory, MemoryLimit, Conflicts, UnknownKey, Unobserved, Dropped,
    )
}  # fmt: skip
"""Every kind of event, by its name in a log."""

SIZED_BY = {
    "tensors": "their own tensors or arrays",
    "file": "the files of their weights",
    "rss": "growth of RSS while they loaded",
}
"""How the bytes of models were found, in words."""

UNOBSERVED = {
    "evictions": "evictions are not shown: this version of Beam hides them",
    "limit": "the effective limit is not shown: this version of Beam hides it",
    "hint": "the hint is not shown: this version of Beam hides it",
    "free": "cannot be weakly referenced: when its memory is released is not seen",
    "dead letters": "dead letters and timeouts are not shown: this version of Beam hides them",
    "refresh": "refreshes are not shown: this version of Beam hides them",
    "model manager": "Beam's ModelManager keeps each load of a model in a process of its own: a "
    "batch is shown at the latest of several loads, and what it evicts is shown as freed",
    "earlier run": "models of an earlier run, which was not watched, were still in memory and "
    "answered: their loads and evictions, and the limit, cannot be seen",
    "other run": "another watched run, which had not ended, used the same model manager: its loads "
    "and evictions are shown here too",
    "handler": "not watched: its model handler cannot be copied together with what records",
    "steps": "The pipeline has no RunInference, so there is no model to watch",
    "watched": "not in this trace: its handler is watched on its own, with mmlab.watch",
}
"""Values of `what` in events, in words."""


def printable(text: str) -> str:
    """Replace control characters in text from a trace, for output in a terminal or a page.

    >>> printable("a\\x1b[2Jb")
    'a?[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text)


# Encoding

_encoder = msgspec.json.Encoder()


def encode(value: Any) -> str:
    """Encode as JSON without spaces; a lone surrogate, which cannot be written, becomes "?".

    >>> encode({"n": 1, "key": "a\\ud800"})
    '{"n":1,"key":"a?"}'
    """
    try:
        return _encoder.encode(value).decode()
    except UnicodeEncodeError:
        return _whole_text(json.dumps(msgspec.to_builtins(value), separators=(",", ":")))


def _whole_text(line: str) -> str:
    """Replace lone surrogates in a line of JSON by "?": they cannot be written to a file."""
    data = json.loads(line)
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode()


# Decoding

_decoder = msgspec.json.Decoder(Union[tuple(KINDS.values())])  # noqa: UP007
_decoder_of_others = msgspec.json.Decoder(_Other)


class _Version(Struct):
    v: int = VERSION


_decoder_of_versions = msgspec.json.Decoder(_Version)


def decode(line: str | bytes) -> Event:
    """Decode one line of a log; its time stays that of the writer's clock.

    Raises:
      ValueError: the line is not an event, or was written by a newer mmlab.
    """
    if len(line) > MOST_LINE_BYTES:
        raise ValueError(f"not an event: the line is longer than {MOST_LINE_BYTES:,} bytes")
    try:
        event: Event = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        event = _decode_oddity(line, problem)
    _check((event,))
    return event


def _decode_oddity(line: str | bytes, problem: Exception) -> Event:
    """Decode a line that has an event of an unknown kind or a lone surrogate.

    Raises:
      ValueError: the line is not an event.
    """
    text = line if isinstance(line, str) else line.decode("utf-8", "replace")
    with contextlib.suppress(msgspec.DecodeError, json.JSONDecodeError, RecursionError):
        if "\\ud" in text.lower():
            whole = _whole_text(text)
            if whole != text:
                return decode(whole)
        stamp = _decoder_of_versions.decode(text)
        if stamp.v > VERSION:
            raise NewerTraceError(stamp.v)
        other = _decoder_of_others.decode(text)
        if other.event not in KINDS:
            return other
    raise ValueError(f"not an event: {problem}") from None


def decode_lines(lines: bytes) -> list[Event]:
    """Decode whole lines of a log at once, which is faster than one by one.

    Raises:
      ValueError: one of them is not an event, or was written by a newer mmlab.
    """
    if len(lines) > MOST_LINE_BYTES:
        raise ValueError("not an event: one of these lines may be too long")
    try:
        events = _decoder.decode_lines(lines)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise ValueError(f"not an event: {problem}") from None
    _check(events)
    return events


_OF_MODELS = frozenset(kind for kind in KINDS.values() if issubclass(kind, OfModel))


def _check(events: Iterable[Event]) -> None:
    """Check that events have a run and a host, and intern their names.

    Interning saves most of a trace's memory.
    """
    run = host = _UNSTAMPED
    for event in events:
        if event.v > VERSION:
            raise NewerTraceError(event.v)
        if event.run != run:
            run = intern(event.run)
        if event.host != host:
            host = intern(event.host)
        if run == _UNSTAMPED or host == _UNSTAMPED:
            raise ValueError("not an event: it has no run or no host")
        event.run, event.host = run, host
        if event.__class__ in _OF_MODELS:
            event.step, event.model = intern(event.step), intern(event.model)
            if event.cohort is not None:
                event.cohort = intern(event.cohort)


class NewerTraceError(ValueError):
    """The trace was written by a newer mmlab than this one."""

    def __init__(self, version: int):
        super().__init__(
            f"the trace has format {version}, this mmlab reads up to {VERSION}: update mmlab"
        )
