"""What happened in one run: load it, ask it, save it."""

from __future__ import annotations

import gc
import io
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from numbers import Real
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pandas as pd

from mmlab._arguments import file_to_write, path_argument, short
from mmlab._files import replacing
from mmlab.events import MOST_LINE_BYTES, Clocks, Event, Process, parse
from mmlab.log.files import LogReader
from mmlab.log.folders import (
    NOT_REGULAR,
    SUFFIX,
    Location,
    exists_remote,
    folder_at,
    location,
    open_regular,
    read_remote,
)
from mmlab.reports.notes import missing, unseen
from mmlab.reports.perfetto import write_perfetto
from mmlab.state import Residence, covered_ns, residences, steps_of_count

if TYPE_CHECKING:
    from mmlab.draw.picture import Picture

NS = 1e-9
MOST_BYTES = 2_000_000_000


@dataclass(frozen=True)
class TracedModel:
    """A model that the run could load, as `mmlab.beam.cards.ModelCard` described it beforehand."""

    step: str
    model: str
    handler: str | None = None
    weights: str | None = None
    device: str | None = None
    cohort: str | None = None
    keys: tuple[str, ...] = ()
    hint: int | None = None


@dataclass(frozen=True)
class ModelCounts:
    """What one model did in the run, over all processes.

    Attributes:
      loads, reloads, evictions, uses, elements: counts; a use is one batch in one model.
      load_seconds: summed over loads.
      keys: elements per key.
      refreshes: how often it was given another path, once it had been loaded.
    """

    step: str
    model: str
    loads: int
    reloads: int
    evictions: int
    uses: int
    elements: int
    load_seconds: float
    keys: dict[str, int] = field(default_factory=dict)
    refreshes: int = 0


@dataclass(frozen=True)
class Summary:
    """A run in a few numbers.

    Attributes:
      loads: models that finished loading; `reloads` of them had been loaded before in that process.
      evictions: models that the model manager dropped.
      uses: batches in models; a batch that touches two models counts twice.
      elements: elements in those batches.
      most_resident: most models that one process held at once, evicted but unfreed ones included.
      hint: `max_models_per_worker_hint` as given; None without one, or where steps differ.
      limit: how many models the model manager really allowed; None without a limit.
      load_seconds: summed over loads.
      loading_share: share of the wall time in which at least one model was loading, 0 to 1.
      wall_seconds: from submission to the end.
      model_bytes: most bytes of models that one process held at once; None when not known.
      rss_bytes: resident set size at the end, of the worker process whose peak was highest.
      peak_rss_bytes: its highest resident set size during the run.
      device_bytes: highest memory allocated on GPUs by one process; None without a GPU.
      refreshes: how often a model that had been loaded was given another path.
    """

    loads: int
    reloads: int
    evictions: int
    uses: int
    elements: int
    most_resident: int
    hint: int | None
    limit: int | None
    load_seconds: float
    loading_share: float
    wall_seconds: float
    model_bytes: int | None
    rss_bytes: int | None
    peak_rss_bytes: int | None
    device_bytes: int | None
    refreshes: int = 0

    _COUNTS = ("loads", "reloads", "evictions", "uses", "elements", "most_resident")

    def counts(self) -> dict[str, int | None]:
        """The integers alone: the same on every machine when batches have a fixed size."""
        return {name: getattr(self, name) for name in (*self._COUNTS, "hint", "limit")}

    def __str__(self) -> str:
        return "\n".join(f"{name:<20}{value}" for name, value in _wording(self))

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align:left">{name}</th>'
            f'<td style="text-align:right">{value}</td></tr>'
            for name, value in _wording(self)
        )
        return f"<table>{rows}</table>"


class Trace:
    """The events of one run, and what follows from them.

    Attributes:
      events: by time.
      run: identifies the run; None when there are no events.
      torn: lines that were cut off or are not events.

    Raises:
      TypeError: what it is made of are no events.
      ValueError: they are of several runs.
    """

    def __init__(self, events: Iterable[Event], torn: int = 0):
        self.events: Sequence[Event] = sorted(_checked(events), key=lambda event: event.t_ns)
        self.torn = torn
        self.run = self.events[0].run if self.events else None
        others = {event.run for event in self.events} - {self.run}
        if others:
            raise ValueError(
                f"these are events of {len(others) + 1} runs ({', '.join(sorted(others))} besides "
                f"{self.run}): load one at a time"
            )

    # Files

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, most_bytes: float | None = MOST_BYTES) -> Trace:
        """Read a trace that was saved, or the log folder of a run, finished or not.

        A trace is read as data: nothing in it is ever run, and what does not have the form of an
        event is refused (in a file) or counted (in a folder, where killed processes cut lines off).

        Args:
          path: a file from `save`, or a folder of event logs; a path, or a URI that Beam knows.
          most_bytes: what the files may hold together, so that a wrong file does not fill the
            memory; None for no limit. A million events are about 200 MB, and take about 1 GB.

        Raises:
          TypeError: `path` is no path, or `most_bytes` no number.
          FileNotFoundError: there is nothing at `path`, or no trace in that folder.
          OSError: what is there cannot be read, or is no file, but a pipe or a device.
          ValueError: a file that is no trace, a folder with several runs, a newer format, or more
            than `most_bytes`, which is 1 or more.
        """
        path_argument("path", path, "a saved trace or the log folder of a run")
        most_bytes = _bytes_or_none("most_bytes", most_bytes)
        where = location(path)
        with _collector_paused():
            if isinstance(where, str):
                return _load_remote(where, most_bytes)
            if where.is_dir():
                return _load_folder(str(where), most_bytes)
            if not where.exists():
                raise FileNotFoundError(f"no trace at {where}: the file does not exist")
            with open_regular(where) as file:
                _check_size(where, where.stat().st_size, most_bytes)
                return _load_lines(where, file, most_bytes)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write all events to one file of JSON lines, which `Trace.load` reads.

        The file is there whole or not at all. Returns its path.

        Args:
          path: of this machine.

        Raises:
          ValueError: `path` is a URI, or cannot be one of a file.
          OSError: the file cannot be written.
        """
        path = _local(path)
        with replacing(path, "w", encoding="ascii") as file:
            file.writelines(event.to_json() + "\n" for event in self.events)
        return path

    def to_perfetto(self, path: str | os.PathLike[str]) -> Path:
        """Write the trace for https://ui.perfetto.dev, or for `chrome://tracing`.

        There, each process has a lane for each of its models, with loading and batches in it, and
        counters of its resident set size, models and limit. Nothing is sent: Perfetto reads the
        file in the browser. `Trace.load` does not read it back.

        Args:
          path: of this machine; Perfetto expects it to end in `.json`.

        Returns:
          The path. The file is there whole or not at all.

        Raises:
          ValueError: `path` is a URI, or cannot be one of a file.
          OSError: the file cannot be written.
        """
        path = _local(path)
        with replacing(path, "w", encoding="ascii") as file:
            write_perfetto(self, file)
        return path

    # The run

    @cached_property
    def models(self) -> list[TracedModel]:
        """The models that the run could load, in the order in which the author wrote them."""
        listed = (event.info or {} for event in self.of_kind("run", "models"))
        known = [card for info in listed for card in info.get("models", ())]
        if not known:
            seen = dict.fromkeys((r.step, r.model) for r in self.residences)
            return [TracedModel(step, model) for step, model in seen]
        return [_traced_model(card) for card in known]

    @cached_property
    def element_counts(self) -> dict[str, int]:
        """Elements that crossed each PCollection, where the runner counts them."""
        return dict(self.info("end").get("element_counts", {}))

    @property
    def state(self) -> str:
        """`DONE`, `FAILED`, … as Beam names it; `UNKNOWN` when the end was not seen."""
        return self.info("end").get("state", "UNKNOWN")

    @property
    def error(self) -> str | None:
        """Type and text of the exception that ended the run."""
        return self._last("end").error if self._last("end") else None

    @cached_property
    def notes(self) -> list[str]:
        """What this trace does not hold, in sentences: what is never seen, then `incomplete`."""
        return [*unseen(self), *self.incomplete]

    @cached_property
    def incomplete(self) -> list[str]:
        """What was seen, or must have been, and is missing here, in sentences.

        Events that could not be written, lines that were cut off, batches and loads whose end was
        not seen, processes that may have seen more, a run without its end. Empty when nothing is
        known to be missing: a process that was killed while it did nothing is not noticed.
        """
        return list(missing(self))

    @property
    def dropped(self) -> int:
        """Events that a process could not write."""
        return sum(event.n or 0 for event in self.of_kind("dropped"))

    def of_kind(self, *kinds: str) -> list[Event]:
        """Events of these kinds, by time."""
        if len(kinds) == 1:
            return list(self._by_kind.get(kinds[0], ()))
        return [event for event in self.events if event.event in kinds]

    @cached_property
    def _by_kind(self) -> dict[str, list[Event]]:
        groups: dict[str, list[Event]] = defaultdict(list)
        for event in self.events:
            groups[event.event].append(event)
        return dict(groups)

    @cached_property
    def start_ns(self) -> int:
        first = self.of_kind("run") or self.of_kind("limit", "load_begin") or self.events
        return first[0].t_ns if first else 0

    @cached_property
    def end_ns(self) -> int:
        last = self._last("end") or (self.events[-1] if self.events else None)
        return last.t_ns if last else 0

    @cached_property
    def residences(self) -> list[Residence]:
        """Every load of a model: when it was loading, resident, in use, evicted and freed."""
        during = [event for event in self.events if event.t_ns <= self.end_ns]
        with _collector_paused():
            return residences(during, self.end_ns)

    def limits(self, step: str) -> list[Event]:
        """How many models the model manager of `step` allowed, each time that changed."""
        return [event for event in self.of_kind("limit") if event.step == step]

    # Answers

    def summary(self) -> Summary:
        """The run in a few numbers: integers that can be compared, and figures."""
        held = [r for r in self.residences if r.load_end_ns is not None]
        uses = self.of_kind("use_begin")
        loading = [_loading(r, self.end_ns) for r in self.residences]
        wall_ns = self.end_ns - self.start_ns
        memory = _memory(self)
        return Summary(
            loads=len(held),
            reloads=sum(r.generation > 1 for r in held),
            evictions=sum(r.evict_ns is not None for r in held),
            uses=len(uses),
            elements=sum(use.n or 0 for use in uses),
            most_resident=max((max(counts) for counts in _counts(held)), default=0),
            hint=_single({model.hint for model in self.models}),
            limit=max((event.limit for event in self.of_kind("limit")), default=None),
            load_seconds=sum(end - begin for begin, end in loading) * NS,
            loading_share=covered_ns(loading) / wall_ns if wall_ns else 0.0,
            wall_seconds=wall_ns * NS,
            model_bytes=_most_model_bytes(held),
            refreshes=len(self.of_kind("refresh")),
            **memory,
        )

    def per_model(self) -> list[ModelCounts]:
        """What each model did, in the order of `models`; models that were never asked for too."""
        groups: dict[tuple[str, str], list[Residence]] = {
            (model.step, model.model): [] for model in self.models
        }
        for residence in self.residences:
            groups.setdefault((residence.step, residence.model), []).append(residence)
        uses: dict[tuple[str, str], list[Event]] = defaultdict(list)
        for use in self.of_kind("use_begin"):
            uses[use.step, use.model].append(use)
        refreshes = Counter((event.step, event.model) for event in self.of_kind("refresh"))
        return [
            _model_counts(
                step, model, group, uses[step, model], refreshes[step, model], self.end_ns
            )
            for (step, model), group in groups.items()
        ]

    def to_frame(self) -> pd.DataFrame:
        """One row per event, with `seconds` since the run was submitted."""
        names = [field.name for field in fields(Event)]
        columns = {name: list(map(attrgetter(name), self.events)) for name in names}
        frame = pd.DataFrame(columns, columns=names)
        frame.insert(0, "seconds", (frame["t_ns"] - self.start_ns) * NS)
        return frame

    def timeline(self, **options: Any) -> Picture:
        """The run as a picture: see `mmlab.draw.timeline.draw_timeline`."""
        from mmlab.draw.timeline import draw_timeline  # a trace is data, and needs no matplotlib

        return draw_timeline(self, **options)

    def __repr__(self) -> str:
        s = self.summary()
        return (
            f"Trace({self.state}: {s.loads} loads, {s.evictions} evictions, {s.elements} elements, "
            f"{s.wall_seconds:.1f} s)"
        )

    def _last(self, kind: str) -> Event | None:
        return next(reversed(self._by_kind.get(kind, ())), None)

    def info(self, kind: str) -> dict[str, Any]:
        """What the last `run` or `end` event says of the whole run."""
        event = self._last(kind)
        return dict(event.info or {}) if event else {}


def _checked(events: Iterable[Event]) -> list[Event]:
    if isinstance(events, str | os.PathLike) or not isinstance(events, Iterable):
        raise TypeError(f"Trace takes events, not {short(events)}: read files with Trace.load")
    events = list(events)
    for i, event in enumerate(events):
        if not isinstance(event, Event):
            raise TypeError(
                f"Trace takes events, and events[{i}] is {short(event)}: read files with Trace.load"
            )
    return events


def _bytes_or_none(name: str, value: float | None) -> int | None:
    if value is None:
        return None
    advice = "give a number of bytes from 1 on, such as 2e9, or None for no limit"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {short(value)}: {advice}")
    if not 1 <= value < float("inf"):
        raise ValueError(f"{name} is {value!r}: {advice}")
    return int(value)


def _local(path: str | os.PathLike[str]) -> Path:
    path_argument("path", path, "the path of a file")
    where = location(path)
    if isinstance(where, str):
        raise ValueError(f"traces are saved to this machine, not to {where}")
    return file_to_write(where)


def _traced_model(card: dict[str, Any]) -> TracedModel:
    known = {name: card[name] for name in TracedModel.__dataclass_fields__ if name in card}
    return TracedModel(**{**known, "keys": tuple(card.get("keys", ()))})


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Without the garbage collector, which looks for cycles among a million events, many times."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _check_size(where: Location, size: int, most_bytes: int | None) -> None:
    if most_bytes is not None and size > most_bytes:
        raise ValueError(
            f"{where} holds {size:,} bytes, and a trace is read into memory: to read more than "
            f"{most_bytes:,}, give Trace.load(…, most_bytes=…)"
        )


def _load_folder(path: str, most_bytes: int | None) -> Trace:
    folder = folder_at(path)
    for name in folder.irregular():
        raise OSError(NOT_REGULAR.format(name))
    if not folder.logs():
        runs = folder.runs()
        if len(runs) == 1:
            return _load_folder(f"{path}/{runs[0]}", most_bytes)
        if runs:
            raise ValueError(f"{path} holds {len(runs)} runs, load one of: {', '.join(runs)}")
        raise FileNotFoundError(f"no trace in {path}: it holds no event log (*{SUFFIX})")
    _check_size(path, folder.size(), most_bytes)
    reader = LogReader(path, most_bytes)
    reader.fetch()
    _check_size(path, reader.bytes_read, most_bytes)  # it may have grown
    events = reader.parse()
    return Trace(events, torn=reader.torn)


def _load_remote(uri: str, most_bytes: int | None) -> Trace:
    if not uri.endswith(SUFFIX):
        return _load_folder(uri, most_bytes)
    if not exists_remote(uri):
        raise FileNotFoundError(f"no trace at {uri}: the file does not exist")
    data = read_remote(uri, None if most_bytes is None else most_bytes + 1)
    _check_size(uri, len(data), most_bytes)
    return _load_lines(uri, io.BytesIO(data), most_bytes)


def _load_lines(where: Location, file: BinaryIO, most_bytes: int | None) -> Trace:
    clocks = Clocks()
    events = []
    number = size = 0
    while line := file.readline(MOST_LINE_BYTES + 2):
        number += 1
        size += len(line)
        _check_size(where, size, most_bytes)
        try:
            events.append(parse(line, clocks))
        except ValueError as problem:
            raise ValueError(f"{where}, line {number}: {problem}") from None
    if not events:
        raise ValueError(f"{where} is empty: not a trace")
    return Trace(events)


def _loading(residence: Residence, end_ns: int) -> tuple[int, int]:
    end = residence.load_end_ns or residence.free_ns or end_ns
    return residence.load_begin_ns, end


def _by_process(held: Iterable[Residence]) -> list[list[Residence]]:
    groups: dict[Process, list[Residence]] = defaultdict(list)
    for residence in held:
        groups[residence.process].append(residence)
    return list(groups.values())


def _counts(held: Iterable[Residence]) -> list[list[int]]:
    return [steps_of_count(group)[1] for group in _by_process(held)]


def _most_model_bytes(held: list[Residence]) -> int | None:
    if not held or any(r.bytes is None for r in held):
        return None
    most = 0
    for group in _by_process(held):
        change: Counter[int] = Counter()
        for residence in group:
            change[residence.load_end_ns] += residence.bytes
            change[residence.last_ns] -= residence.bytes
        now = 0
        for t_ns in sorted(change):
            now += change[t_ns]
            most = max(most, now)
    return most


def _memory(trace: Trace) -> dict[str, int | None]:
    samples: dict[Process, list[Event]] = defaultdict(list)
    for event in trace.events:
        if event.rss is not None:
            samples[event.process].append(event)
    peaks = {process: _peak(events) for process, events in samples.items()}
    highest = max(peaks, key=peaks.__getitem__, default=None)
    devices = [event.device_bytes for event in trace.events if event.device_bytes is not None]
    return {
        "rss_bytes": samples[highest][-1].rss if highest else None,
        "peak_rss_bytes": peaks[highest] if highest else None,
        "device_bytes": max(devices, default=None),
    }


def _peak(samples: list[Event]) -> int:
    """The highest resident set size of one process during the run.

    The system remembers the highest since the process began. Where that rose during the run, it is
    exact; otherwise an earlier peak hides the run's own, and the highest sample stands in.
    """
    sampled = max(event.rss for event in samples)
    system = [event.peak_rss for event in samples if event.peak_rss is not None]
    return max(sampled, system[-1]) if system and system[-1] > system[0] else sampled


def _model_counts(
    step: str,
    model: str,
    group: list[Residence],
    uses: list[Event],
    refreshes: int,
    end_ns: int,
) -> ModelCounts:
    held = [r for r in group if r.load_end_ns is not None]
    keys: Counter[str] = Counter()
    for use in uses:
        keys.update(use.keys or {})
    return ModelCounts(
        step=step,
        model=model,
        loads=len(held),
        reloads=sum(r.generation > 1 for r in held),
        evictions=sum(r.evict_ns is not None for r in held),
        uses=len(uses),
        elements=sum(use.n or 0 for use in uses),
        load_seconds=sum(end - begin for begin, end in (_loading(r, end_ns) for r in group)) * NS,
        keys=dict(keys),
        refreshes=refreshes,
    )


def _single(values: set[Any]) -> Any:
    return values.pop() if len(values) == 1 else None


def _wording(s: Summary) -> list[tuple[str, str]]:
    megabytes = [
        ("model bytes held", s.model_bytes),
        ("RSS at the end", s.rss_bytes),
        ("peak RSS", s.peak_rss_bytes),
        ("GPU memory", s.device_bytes),
    ]
    return [
        ("loads", f"{s.loads} ({s.reloads} again)"),
        ("evictions", f"{s.evictions}"),
        *([("refreshes", f"{s.refreshes}")] if s.refreshes else []),
        ("uses", f"{s.uses} batches, {s.elements} elements"),
        ("most resident", f"{s.most_resident} models"),
        ("hint → limit", f"{s.hint or 'none'} → {s.limit or 'none'}"),
        ("wall", f"{s.wall_seconds:.2f} s, {s.loading_share:.0%} of it loading"),
        *((name, f"{value / 1e6:,.0f} MB") for name, value in megabytes if value is not None),
    ]
