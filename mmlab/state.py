"""Events become the state of a run: what each model did, and when, and what ruled it."""

from __future__ import annotations

import gc
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from mmlab._arguments import short
from mmlab.events import (
    UNKNOWN,
    Event,
    Evicts,
    Frees,
    Limit,
    LoadBegins,
    LoadEnds,
    LoadFails,
    Memory,
    OfLoad,
    OfModel,
    Process,
    RunBegins,
    RunEnds,
    TracedModel,
    Unknown,
    UseBegins,
    UseEnds,
)

NS = 1e-9


@dataclass(slots=True)
class Use:
    """One batch in one model.

    Attributes:
      begin_ns, end_ns: nanoseconds since the epoch; `end_ns` is None when the end was never seen.
      n: elements.
      keys: elements per key, for keyed handlers.
      process: the process that asked, which need not be the one that holds the model.
      error: type and text of the exception that ended it.
    """

    begin_ns: int
    n: int
    process: Process
    keys: Mapping[str, int] = field(default_factory=dict)
    end_ns: int | None = None
    error: str | None = None


@dataclass(slots=True)
class Residence:
    """One load of one model in one process, from the first byte to the last.

    Attributes:
      process: the process that holds the model.
      generation: 1 for the first load of this model in this process, 2 for the first reload, …
      load_begin_ns, load_end_ns, evict_ns, free_ns: nanoseconds since the epoch; None for what did
        not happen or was not seen. Evicted is a decision; freed means that nothing refers to it.
      last_ns: the last moment of the run in which the memory was, as far as is known, still held.
      bytes: of the model's own tensors or arrays.
      free_observable: whether the model can be weakly referenced, so that its release is seen.
      error: why it could not be loaded.
    """

    process: Process
    step: str
    model: str
    generation: int
    load_begin_ns: int
    load_end_ns: int | None = None
    evict_ns: int | None = None
    free_ns: int | None = None
    last_ns: int = 0
    bytes: int | Unknown = UNKNOWN
    free_observable: bool = True
    error: str | None = None
    uses: list[Use] = field(default_factory=list)

    def resident_at(self, t_ns: int) -> bool:
        return self.load_end_ns is not None and self.load_end_ns <= t_ns < self.last_ns


def residences(events: Sequence[Event], end_ns: int) -> list[Residence]:
    """Every load among `events`, in the order in which the loads began.

    Args:
      events: of one run, by time.
      end_ns: when the run ended; models that were never released were held until then.
    """
    loads = _Loads()
    for event in events:
        loads.add(event)
    for residence in loads.all:
        residence.last_ns = _last_moment(residence, end_ns)
    return loads.all


def steps_of_count(residences: Iterable[Residence]) -> tuple[list[int], list[int]]:
    """Number of models resident over time.

    Returns:
      Times, nanoseconds, ascending; and the number of models from each of them on.
    """
    change: dict[int, int] = defaultdict(int)
    for residence in residences:
        if residence.load_end_ns is not None:
            change[residence.load_end_ns] += 1
            change[residence.last_ns] -= 1
    times, counts, count = [], [], 0
    for t_ns in sorted(change):
        count += change[t_ns]
        times.append(t_ns)
        counts.append(count)
    return times, counts


def covered_ns(intervals: Iterable[tuple[int, int]]) -> int:
    """Length of the union of `intervals`.

    >>> covered_ns([(0, 10), (5, 20), (30, 31)])
    21
    """
    total, reached = 0, None
    for begin, end in sorted(intervals):
        if reached is None or begin > reached:
            total, reached = total + end - begin, end
        elif end > reached:
            total, reached = total + end - reached, end
    return total


def _last_moment(residence: Residence, end_ns: int) -> int:
    if residence.free_ns is not None:
        return residence.free_ns
    if residence.evict_ns is not None and not residence.free_observable:
        return residence.evict_ns
    return max(end_ns, residence.load_end_ns or residence.load_begin_ns)


_Model = tuple[str, str | None]
"""A model, whichever step asks for it: a step and a name, or, if steps share it, its cohort."""


class _Loads:
    """Collects events into residences."""

    def __init__(self) -> None:
        self.all: list[Residence] = []
        self._by_generation: dict[tuple[Process, _Model, int], Residence] = {}
        self._latest: dict[tuple[Process, _Model], Residence] = {}
        self._holders: dict[tuple[str, _Model], list[Residence]] = defaultdict(list)
        self._shared: dict[str, str] = {}
        self._open_uses: dict[tuple[Process, int, str, str], Use] = {}
        self._handlers = {
            LoadBegins: self._load_begin,
            LoadEnds: self._load_end,
            LoadFails: self._load_fail,
            Evicts: self._evict,
            Frees: self._free,
            UseBegins: self._use_begin,
            UseEnds: self._use_end,
        }

    def add(self, event: Event) -> None:
        if type(event) is RunBegins:
            for steps in event.info.sharing:
                self._shared.update(dict.fromkeys(steps, steps[0]))
        handle = self._handlers.get(type(event))
        if handle is not None:
            handle(event)

    def _model(self, event: OfModel) -> _Model:
        first = self._shared.get(event.step)
        return (event.step, event.model) if first is None else (first, event.cohort)

    def _load_begin(self, event: LoadBegins) -> None:
        generation = event.generation or 1
        residence = Residence(event.process, event.step, event.model, generation, event.t_ns)
        self.all.append(residence)
        model = self._model(event)
        self._by_generation[event.process, model, generation] = residence
        self._latest[event.process, model] = residence
        self._holders[event.host, model].append(residence)

    def _load_end(self, event: LoadEnds) -> None:
        if residence := self._exact(event):
            residence.load_end_ns = event.t_ns
            residence.bytes = event.bytes
            residence.free_observable = event.what != "free"

    def _load_fail(self, event: LoadFails) -> None:
        if residence := self._exact(event):
            residence.error = event.error
            residence.free_ns = event.t_ns

    def _evict(self, event: Evicts) -> None:
        if residence := self._exact(event):
            residence.evict_ns = event.t_ns

    def _free(self, event: Frees) -> None:
        if residence := self._exact(event):
            residence.free_ns = event.t_ns

    def _use_begin(self, event: UseBegins) -> None:
        process = event.process
        use = Use(event.t_ns, event.n, process, event.keys)
        self._open_uses[process, event.tid, event.step, event.model] = use
        if residence := self._used(event):
            residence.uses.append(use)

    def _use_end(self, event: UseEnds) -> None:
        use = self._open_uses.pop((event.process, event.tid, event.step, event.model), None)
        if use is not None:
            use.end_ns, use.error = event.t_ns, event.error

    def _exact(self, event: OfModel) -> Residence | None:
        key = (event.process, self._model(event), event.generation or 1)
        return self._by_generation.get(key)

    def _used(self, event: UseBegins) -> Residence | None:
        """The load that served a batch; another process may hold it."""
        if event.generation is not None:
            return self._exact(event)
        own = self._latest.get((event.process, self._model(event)))
        if own is not None:
            return own
        there = self._holders.get((event.host, self._model(event)))
        return there[-1] if there else None


class State:
    """The events of one run, and what each model did in it.

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

    @cached_property
    def models(self) -> list[TracedModel]:
        """The models that the run could load, in the order in which the author wrote them."""
        known = [model for event in self.of_kind("run", "models") for model in event.info.models]
        if not known:
            seen = dict.fromkeys((r.step, r.model) for r in self.residences)
            return [TracedModel(step, model) for step, model in seen]
        return known

    @cached_property
    def residences(self) -> list[Residence]:
        """Every load of a model: when it was loading, resident, in use, evicted and freed."""
        during = [event for event in self.events if event.t_ns <= self.end_ns]
        with collector_paused():
            return residences(during, self.end_ns)

    def limits(self, step: str) -> list[Limit]:
        """How many models the model manager of `step` allowed, each time that changed."""
        return [event for event in self.of_kind("limit") if event.step == step]

    @cached_property
    def element_counts(self) -> dict[str, int]:
        """Elements that crossed each PCollection, where the runner counts them."""
        return dict(self._end.info.element_counts) if self._end else {}

    @property
    def state(self) -> str:
        """`DONE`, `FAILED`, … as Beam names it; `UNKNOWN` when the end was not seen."""
        return self._end.info.state if self._end else "UNKNOWN"

    @property
    def error(self) -> str | None:
        """Type and text of the exception that ended the run."""
        return self._end.error if self._end else None

    @property
    def dropped(self) -> int:
        """Events that a process could not write."""
        return sum(event.n for event in self.of_kind("dropped"))

    @cached_property
    def start_ns(self) -> int:
        first = self.of_kind("run") or self.of_kind("limit", "load_begin") or self.events
        return first[0].t_ns if first else 0

    @cached_property
    def end_ns(self) -> int:
        last = self._last("end") or (self.events[-1] if self.events else None)
        return last.t_ns if last else 0

    def of_kind(self, *kinds: str) -> list[Event]:
        """Events of these kinds, by time."""
        if len(kinds) == 1:
            return list(self._by_kind.get(kinds[0], ()))
        return [event for event in self.events if event.event in kinds]

    @cached_property
    def samples(self) -> list[Memory | OfLoad]:
        """Events that carry the memory of their process, by time."""
        return [
            event
            for event in self.events
            if isinstance(event, Memory | OfLoad)
            and (event.rss is not None or event.device_bytes is not None)
        ]

    @property
    def sharing(self) -> tuple[tuple[str, ...], ...]:
        """Groups of steps that share models."""
        run = self._last("run")
        return run.info.sharing if run else ()

    @cached_property
    def _by_kind(self) -> dict[str, list[Event]]:
        groups: dict[str, list[Event]] = defaultdict(list)
        for event in self.events:
            groups[event.event].append(event)
        return dict(groups)

    @property
    def _end(self) -> RunEnds | None:
        return self._last("end")

    def _last(self, kind: str) -> Event | None:
        return next(reversed(self._by_kind.get(kind, ())), None)


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


@contextmanager
def collector_paused() -> Iterator[None]:
    """Hold off the garbage collector, which looks for cycles among a million events, many times."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
