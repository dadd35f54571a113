"""The state of a run: its models, loads, batches, limits and memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from operator import attrgetter

import numpy as np

from mmlab.events import (
    UNKNOWN,
    Close,
    DeadLetter,
    Dropped,
    Event,
    Evicts,
    Frees,
    Limit,
    MemoryLimit,
    Models,
    OfModel,
    Process,
    ProcessBegins,
    Refreshes,
    RunBegins,
    RunEnds,
    TracedModel,
)
from mmlab.state.batches import Holders, join_batches
from mmlab.state.intervals import Ints, at, over_time
from mmlab.state.process import WHAT_IT_DOES, Curve, Kind, Load, ProcessState
from mmlab.state.records import (
    NO_BATCHES,
    NONE,
    Batches,
    Counts,
    MachineMemory,
    Residence,
    RunMemory,
    held_as,
    held_over_time,
    most_bytes_held,
)

NS = 1e-9


class State:
    """The state of a run, built from its events.

    `add` updates the state of the event's own process only; whatever needs several processes is
    computed on access. So events of different processes may be interleaved in any order.

    Args:
      events: the first events, as for `add`.
    Attributes:
      run: identifies the run; None when there are no events.
      processes: the state of each process.

    Raises:
      ValueError: the events are of several runs.
    """

    def __init__(self, events: Iterable[Event] = ()):
        self.run: str | None = None
        self.processes: dict[Process, ProcessState] = {}
        self.add(events)

    def add(self, events: Iterable[Event]) -> None:
        """Add events; those of one process must be in the order of writing.

        Raises:
          ValueError: they are of another run.
        """
        self._forget_what_was_read()
        others: set[str] = set()
        run, host, pid, state = self.run, None, None, None
        for event in events:
            if event.run != run:
                run = run or event.run
                others |= {event.run} - {run}
            if state is None or event.pid != pid or event.host != host:
                host, pid = event.host, event.pid
                state = self._process(event)
            t_ns = event.t_ns
            if t_ns > state.last_ns:
                state.last_ns = t_ns
            elif t_ns < state.first_ns:
                state.first_ns = t_ns
            WHAT_IT_DOES.get(event.__class__, ProcessState.keep)(state, event)
        self.run = run
        if others:
            raise ValueError(
                f"these are events of {len(others) + 1} runs ({', '.join(sorted(others))} besides "
                f"{run}): load one at a time"
            )

    def _process(self, event: Event) -> ProcessState:
        process = event.process
        if process not in self.processes:
            self.processes[process] = ProcessState(process, event.t_ns, event.t_ns)
        return self.processes[process]

    def _forget_what_was_read(self) -> None:
        kind = type(self)
        for name in list(self.__dict__):
            if isinstance(getattr(kind, name, None), cached_property):
                del self.__dict__[name]

    # Facts

    def facts(self, kind: type[Kind]) -> list[Kind]:
        """Return the events of a kind, sorted by time; not for loads, batches and memory."""
        found = [event for state in self._in_order for event in state.of(kind)]
        found.sort(key=attrgetter("t_ns"))
        return found

    @cached_property
    def models(self) -> list[TracedModel]:
        """The models that the run can load, in the order of the pipeline's code."""
        said: list[RunBegins | Models] = [*self.facts(RunBegins), *self.facts(Models)]
        said.sort(key=attrgetter("t_ns"))
        known = [model for event in said for model in event.info.models]
        if not known:
            seen = dict.fromkeys((r.step, r.model) for r in self.residences)
            return [TracedModel(step, model) for step, model in seen]
        return known

    def limits(self, step: str) -> list[Limit]:
        """Return the changes of the number of models that the manager of `step` allows."""
        return [event for event in self.facts(Limit) if event.step == step]

    @property
    def sharing(self) -> tuple[tuple[str, ...], ...]:
        """Groups of steps that share models."""
        runs = self.facts(RunBegins)
        return runs[-1].info.sharing if runs else ()

    @cached_property
    def element_counts(self) -> dict[str, int]:
        """Elements of each PCollection, if the runner counts them."""
        return dict(self._end.info.element_counts) if self._end else {}

    @property
    def reached(self) -> dict[str, int]:
        """Elements that reached the model of each step, if the runner counts them."""
        return dict(self._end.info.reached) if self._end else {}

    @property
    def inferred(self) -> Counter[str]:
        """Elements of each step in events, including those of failed attempts."""
        batches, elements = self.batches, Counter[str]()
        sums = np.bincount(batches.asked, batches.n, len(batches.models)).astype(np.int64)
        for (step, *_), n in zip(batches.models, sums.tolist(), strict=True):
            elements[step] += n
        return +elements

    @property
    def elsewhere(self) -> bool:
        """Whether workers were in other processes than the one that submitted the pipeline."""
        return self._end is not None and self._end.info.elsewhere

    @property
    def wrote_elsewhere(self) -> bool:
        """Whether there are events of a process other than the one that submitted the pipeline."""
        submitter = self._end.process if self._end else None
        return any(process != submitter for process in self.processes)

    @property
    def state(self) -> str:
        """`DONE`, `FAILED`, … as Beam names it; `UNKNOWN` when the end was not seen."""
        return self._end.info.state if self._end else "UNKNOWN"

    @property
    def error(self) -> str | None:
        """Type and text of the exception that ended the run."""
        return self._end.error if self._end else None

    @property
    def oom_kills(self) -> int | None:
        """Processes that the kernel killed for lack of memory during the run; None if not known."""
        return self._end.info.oom_kills if self._end else None

    @property
    def dropped(self) -> int:
        """Events that processes could not write."""
        return sum(event.n for event in self.facts(Dropped))

    @cached_property
    def start_ns(self) -> int:
        """Start of the run: its submission, else its first load, else its first event."""
        runs = self.facts(RunBegins)
        if runs:
            return runs[0].t_ns
        firsts = [
            next((load.begin_ns for load in state.loads if not load.already), state.first_ns)
            for state in self._in_order
            if state.loads
        ]
        firsts += [limit.t_ns for limit in self.facts(Limit)[:1]]
        return min(firsts or [state.first_ns for state in self._in_order], default=0)

    @cached_property
    def end_ns(self) -> int:
        """End of the run; of an unfinished run, its last event."""
        if self._end is not None:
            return self._end.t_ns
        return max((state.last_ns for state in self._in_order), default=0)

    @cached_property
    def ended_early(self) -> dict[Process, int]:
        """Processes that ended before the run, with the time of the last event of each.

        A process that was killed writes no event about it, so it is recognized by missing events.
        For a process that buffers its events, missing events prove nothing.
        """
        submitter = self._end.process if self._end else None
        return {
            state.process: state.last_ns
            for state in self.processes.values()
            if state.process != submitter and _is_silent(state, self.end_ns)
        }

    def until(self, process: Process) -> int:
        """Return when a process ended, as far as is known: at its last event, or with the run."""
        return min(self.ended_early.get(process, self.end_ns), self.end_ns)

    @cached_property
    def _end(self) -> RunEnds | None:
        return next(reversed(self.facts(RunEnds)), None)

    @property
    def processes_by_time(self) -> list[Process]:
        """The processes, sorted by their first events."""
        return [state.process for state in self._in_order]

    @cached_property
    def _in_order(self) -> list[ProcessState]:
        return sorted(self.processes.values(), key=lambda state: (state.first_ns, state.process))

    # Counts, memory and loads

    @property
    def counts(self) -> Counts:
        """Counts of loads, evictions, batches and failures."""
        states = self.processes.values()
        if any(state.last_ns > self.end_ns or state.strays for state in states):
            totals = self._totals_of_residences()
        else:
            totals = _totals_of(states)
        return Counts(
            **totals,
            refreshes=sum(event.t_ns <= self.end_ns for event in self.facts(Refreshes)),
            failed=self._failed,
            timed_out=sum(event.timed_out for event in self._letters),
            dead_letters=len(self._letters),
        )

    def _totals_of_residences(self) -> dict[str, int]:
        """Counts up to the end of the run, for runs whose processes wrote later events."""
        held = [r for r in self.residences if r.load_end_ns is not None]
        return {
            "loads": sum(r.loaded for r in held),
            "reloads": sum(r.loaded and r.again for r in held),
            "already": sum(r.already for r in held),
            "evictions": sum(r.evict_ns is not None for r in held),
            "uses": len(self.batches),
            "elements": sum(self.batches.n.tolist()),
        }

    @property
    def _failed(self) -> int:
        states = self.processes.values()
        if not any(state.errors for state in states):
            return 0
        if any(state.last_ns > self.end_ns for state in states):
            return int(self.batches.failed.sum())
        return sum(len(state.errors.keys() - state.given_up.keys()) for state in states)

    @cached_property
    def dead_letters(self) -> dict[str, tuple[int, int]]:
        """Number of failed batches that each step output, and of the elements in them."""
        letters: dict[str, tuple[int, int]] = {}
        for event in self._letters:
            if event.step is not None:
                batches, elements = letters.get(event.step, (0, 0))
                letters[event.step] = batches + 1, elements + event.n
        return letters

    @property
    def timeouts(self) -> list[DeadLetter]:
        """Batches that timed out at a known model, sorted by time."""
        return [e for e in self._letters if e.timed_out and e.model is not None]

    @cached_property
    def _letters(self) -> list[DeadLetter]:
        return [event for event in self.facts(DeadLetter) if event.t_ns <= self.end_ns]

    @property
    def held_now(self) -> int:
        """Number of models loaded and not freed, in all live processes."""
        living = (
            state for state in self.processes.values() if state.process not in self.ended_early
        )
        return sum(_models_held(state.open.values()) for state in living)

    @cached_property
    def memory(self) -> RunMemory:
        """Memory of the process with the highest resident set size, up to the end of the run."""
        peaks = {s.process: self._peak(s) for s in self._in_order if self._ends(s.rss) is not None}
        highest = max(peaks, key=peaks.__getitem__, default=None)
        last = None if highest is None else self._ends(self.processes[highest].rss)
        devices = [s.device_bytes for s in self._in_order if self._ends(s.device_bytes) is not None]
        return RunMemory(
            rss=None if last is None else last[1],
            peak_rss=None if highest is None else peaks[highest],
            device_bytes=max(map(self._highest, devices), default=None),
            processes=len(peaks),
        )

    @property
    def largest_process(self) -> Process | None:
        """The process with the highest resident set size; None if none is known."""
        known = [state for state in self._in_order if self._ends(state.rss) is not None]
        return max(known, key=self._peak).process if known else None

    def peak_rss_of(self, process: Process) -> int | None:
        """Return the peak resident set size of a process during the run; None if not known."""
        state = self.processes[process]
        return None if self._ends(state.rss) is None else self._peak(state)

    @cached_property
    def surplus(self) -> int | None:
        """Bytes by which peak RSS exceeds the highest RSS while no model was loading.

        Taken from the process with the highest peak; None if not known. If a model needs twice its
        size during a load, this equals the size of the last model loaded.
        """
        if self.largest_process is None:
            return None
        state = self.processes[self.largest_process]
        between = self._between_loads(state, state.rss)[1]
        return max(self._peak(state) - int(between.max()), 0) if len(between) else None

    @cached_property
    def data_beside_models(self) -> int | None:
        """Most bytes of address space besides models, in any process, while none was loading.

        Counted from the same base as the memory limit of the run. None without such a limit, if
        the size of a model is unknown, or without samples.
        """
        limits = self.facts(MemoryLimit)
        if not limits:
            return None
        most = None
        for state in self._in_order:
            if state.data_limit is None:
                continue
            loads = self.residences_by_process.get(state.process, [])
            if most_bytes_held([loads]) is UNKNOWN:
                return None
            t_ns, data = self._between_loads(state, state.data)
            held = at(t_ns, *held_over_time(loads, sizes=True))
            base = state.data_limit - limits[-1].bytes
            most = max([most or 0, *(data - base - held).tolist()]) if len(data) else most
        return most

    def _between_loads(self, state: ProcessState, curve: Curve) -> tuple[Ints, Ints]:
        """Return the samples of a curve taken while no model of its process was loading."""
        t_ns, values = self.curve(curve)
        loading = [r.loading for r in self.residences_by_process.get(state.process, [])]
        loads = over_time([begin for begin, _ in loading], [end + 1 for _, end in loading])
        free = at(t_ns, *loads) == 0
        return t_ns[free], values[free]

    @cached_property
    def machines(self) -> dict[str, MachineMemory]:
        """Memory of each host up to the end of the run, if that of its processes is known."""
        by_host: dict[str, list[ProcessState]] = {}
        for state in self._in_order:
            if self._ends(state.rss) is not None:
                by_host.setdefault(state.process.host, []).append(state)
        held = self.residences_by_machine
        return {host: self._machine(states, held.get(host, [])) for host, states in by_host.items()}

    def _machine(
        self, states: Sequence[ProcessState], residences: Sequence[Residence]
    ) -> MachineMemory:
        curves = [self.curve(state.rss) for state in states]
        begins = [t_ns[:1] for t_ns, _ in curves]
        ends = [t_ns[-1:] + 1 for t_ns, _ in curves]
        living = over_time(np.concatenate(begins), np.concatenate(ends))[1]
        together = over_time(
            np.concatenate([t_ns for t_ns, _ in curves]),
            np.concatenate([np.append(t_ns[1:], t_ns[-1] + 1) for t_ns, _ in curves]),
            np.concatenate([rss for _, rss in curves]),
        )[1]
        return MachineMemory(
            peak_rss=max(int(together.max()), *map(self._peak, states)),
            processes=int(living.max()),
            holding=len({r.process for r in residences if r.load_end_ns is not None}),
            model_bytes=most_bytes_held([residences]),
        )

    def _peak(self, state: ProcessState) -> int:
        """Return the peak resident set size of one process during the run.

        The system reports the peak since the process began, which is exact if it rose during the
        run. Otherwise an earlier peak hides that of the run, and the highest sample is used.
        """
        sampled, system = self._highest(state.rss), self._ends(state.peak_rss)
        return max(sampled, system[1]) if system is not None and system[1] > system[0] else sampled

    def _is_whole(self, curve: Curve) -> bool:
        """Whether a curve is sorted and has no samples from after the run."""
        return curve.in_order and (not curve.t_ns or curve.t_ns[-1] <= self.end_ns)

    def _ends(self, curve: Curve) -> tuple[int, int] | None:
        """Return the first and last value up to the end of the run."""
        values = curve.values if self._is_whole(curve) else self.curve(curve)[1]
        return (int(values[0]), int(values[-1])) if len(values) else None

    def _highest(self, curve: Curve) -> int:
        return curve.highest if self._is_whole(curve) else int(self.curve(curve)[1].max())

    def curve(self, curve: Curve) -> tuple[Ints, Ints]:
        """Return a curve up to the end of the run: nanoseconds and values, sorted by time."""
        t_ns, values = np.array(curve.t_ns), np.array(curve.values)
        if self._is_whole(curve):
            return t_ns, values
        during = np.flatnonzero(t_ns <= self.end_ns)
        during = during[np.argsort(t_ns[during], kind="stable")]
        return t_ns[during], values[during]

    def some_loads(self, state: ProcessState, places: Iterable[int]) -> list[Residence]:
        """Return the loads of a process at these indices, without their batches."""
        loads = (state.loads[place] for place in places)
        until = self.until(state.process)
        return [_residence(state.process, load, self.start_ns, until) for load in loads]

    @cached_property
    def holders(self) -> Holders:
        """Finds the load that held a model at a given time."""
        return Holders(self._loads[0], self._shared_model)

    @cached_property
    def residences(self) -> list[Residence]:
        """Every load of a model: when it was loading, in memory, in use, evicted and freed."""
        residences, _ = self._loads
        order = np.argsort(self.batches.residence, kind="stable")
        edges = np.searchsorted(self.batches.residence[order], np.arange(len(residences) + 1))
        edges = edges.tolist()
        for residence, begin, end in zip(residences, edges[:-1], edges[1:], strict=True):
            residence.rows = order[begin:end]
            residence._all = self.batches
        return residences

    @property
    def residences_by_process(self) -> dict[Process, list[Residence]]:
        """`residences` by process, in the order of the first load."""
        groups: dict[Process, list[Residence]] = {}
        for residence in self.residences:
            groups.setdefault(residence.process, []).append(residence)
        return groups

    @property
    def residences_by_machine(self) -> dict[str, list[Residence]]:
        """`residences` by host, in the order of the first load."""
        groups: dict[str, list[Residence]] = {}
        for residence in self.residences:
            groups.setdefault(residence.process.host, []).append(residence)
        return groups

    @cached_property
    def batches(self) -> Batches:
        """Every batch that began before the run ended, sorted by time."""
        _, places = self._loads
        return join_batches(self._in_order, places, self.holders, self.end_ns)

    @cached_property
    def _loads(self) -> tuple[list[Residence], dict[Process, Ints]]:
        """All loads by time and, for each load of a process, its index among them, or -1."""
        end_ns = self.end_ns
        start_ns = self.start_ns
        rows = [
            (max(load.begin_ns, start_ns) if load.already else load.begin_ns, number, place)
            for number, state in enumerate(self._in_order)
            for place, load in enumerate(state.loads)
            if load.begin_ns <= end_ns
        ]
        rows.sort()
        places = {s.process: np.full(len(s.loads), -1, np.int64) for s in self._in_order}
        residences: list[Residence] = []
        for _, number, place in rows:
            state = self._in_order[number]
            places[state.process][place] = len(residences)
            until = self.until(state.process)
            residences.append(_residence(state.process, state.loads[place], start_ns, until))
        for state in self._in_order:
            for event in state.strays:
                self._apply_stray(event, [residences[i] for i in places[state.process] if i >= 0])
        self._name_versions(residences)
        return residences, places

    def _name_versions(self, residences: Iterable[Residence]) -> None:
        """Set the `version` of each load from the refresh before it."""
        refreshes: dict[tuple[Process, str, str], list[Refreshes]] = {}
        for event in self.facts(Refreshes):
            refreshes.setdefault((event.process, event.step, event.model), []).append(event)
        for r in residences if refreshes else ():
            for event in refreshes.get((r.process, r.step, r.model), ()):
                if event.t_ns <= r.load_begin_ns:
                    r.version = event.path

    def _apply_stray(self, event: OfModel, candidates: Sequence[Residence]) -> None:
        """Apply an event to a model that another step of the same process had loaded."""
        model, generation = self._shared_model(event.step, event.model, event.cohort), _first(event)
        for r in reversed(candidates):
            same = (self._shared_model(r.step, r.model, r.cohort), r.generation)
            if same == (model, generation) and r.load_begin_ns <= event.t_ns <= self.end_ns:
                if isinstance(event, Evicts):
                    r.evict_ns = event.t_ns
                    self._is_loaded_again(r, candidates)
                elif isinstance(event, Frees):
                    r.free_ns = r.last_ns = event.t_ns
                return

    def _is_loaded_again(self, evicted: Residence, candidates: Iterable[Residence]) -> None:
        for r in candidates:
            if (r.step, r.model, r.generation) == (
                evicted.step, evicted.model, evicted.generation + 1,
            ) and not r.already:  # fmt: skip
                r.again = True

    @cached_property
    def _shared_with(self) -> dict[str, str]:
        """For each step, the first of the steps that share its models."""
        groups = (steps for event in self.facts(RunBegins) for steps in event.info.sharing)
        return {step: steps[0] for steps in groups for step in steps}

    def _shared_model(self, step: str, model: str, cohort: str | None) -> tuple[str, str | None]:
        """Return a key that is equal for the same model in all steps that share it."""
        first = self._shared_with.get(step)
        return (step, model) if first is None else (first, cohort)


_SILENT_NS = 2_000_000_000
"""A live process writes many events in this time, unless it has had such a pause before."""


def _is_silent(state: ProcessState, now_ns: int) -> bool:
    silent_ns = now_ns - state.last_ns
    if silent_ns <= _SILENT_NS or len(state.rss) < 2:
        return False
    if any(event.info.segments for event in state.of(ProcessBegins)) and not state.of(Close):
        return False
    longest_ns = int(np.diff(np.sort(np.array(state.rss.t_ns))).max())
    return silent_ns > 10 * longest_ns


def _first(event: OfModel) -> int:
    return event.generation or 1


def _models_held(loads: Iterable[Load]) -> int:
    held = [load for load in loads if load.end_ns is not None]
    things = [held_as(load.object, (load.step, load.model)) for load in held]
    return len(set(things) - {None}) + things.count(None)


def _residence(process: Process, load: Load, start_ns: int, end_ns: int) -> Residence:
    """Return a load in its state at the end of the run."""

    def until_end(t_ns: int | None) -> int | None:
        return None if t_ns is None or t_ns > end_ns else t_ns

    begin_ns = max(load.begin_ns, start_ns) if load.already else load.begin_ns
    ended, evicted, freed = map(until_end, (load.end_ns, load.evict_ns, load.free_ns))
    ended = begin_ns if load.already else ended
    if freed is not None:
        last_ns = freed
    elif evicted is not None and not load.free_observable:
        last_ns = evicted
    else:
        last_ns = max(end_ns, ended or begin_ns)
    return Residence(
        process, load.step, load.model, load.generation, begin_ns, ended, evicted, freed,
        last_ns, UNKNOWN if ended is None else load.bytes, load.free_observable,
        None if freed is None else load.error, load.cohort, load.object, load.already, load.again,
        None, NO_BATCHES, NONE, load.sized_by,
    )  # fmt: skip


def _totals_of(states: Collection[ProcessState]) -> dict[str, int]:
    return {
        "loads": sum(state.finished_loads for state in states),
        "reloads": sum(state.reloads for state in states),
        "already": sum(state.already for state in states),
        "evictions": sum(state.evictions for state in states),
        "uses": sum(state.uses for state in states),
        "elements": sum(state.elements for state in states),
    }
