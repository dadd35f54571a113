"""The state of a run: what each model did, and when, and what ruled it."""

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
    """What is known of a run from its events.

    `add` is the only code that knows what an event does. It keeps what each process wrote apart,
    and looks at no other process: what needs several of them is worked out when it is asked for. So
    the events of processes may come in any order that keeps each process's own.

    Args:
      events: to begin with.

    Attributes:
      run: identifies the run; None when there are no events.
      processes: what each process wrote.

    Raises:
      ValueError: the events are of several runs.
    """

    def __init__(self, events: Iterable[Event] = ()):
        self.run: str | None = None
        self.processes: dict[Process, ProcessState] = {}
        self.add(events)

    def add(self, events: Iterable[Event]) -> None:
        """Take events, in any order that keeps each process's own.

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

    # What was said

    def facts(self, kind: type[Kind]) -> list[Kind]:
        """Events of a kind that is kept as events, by time; none of loads, batches and memory."""
        found = [event for state in self._in_order for event in state.of(kind)]
        found.sort(key=attrgetter("t_ns"))
        return found

    @cached_property
    def models(self) -> list[TracedModel]:
        """The models that the run could load, in the order in which the author wrote them."""
        said: list[RunBegins | Models] = [*self.facts(RunBegins), *self.facts(Models)]
        said.sort(key=attrgetter("t_ns"))
        known = [model for event in said for model in event.info.models]
        if not known:
            seen = dict.fromkeys((r.step, r.model) for r in self.residences)
            return [TracedModel(step, model) for step, model in seen]
        return known

    def limits(self, step: str) -> list[Limit]:
        """How many models the model manager of `step` allowed, each time that changed."""
        return [event for event in self.facts(Limit) if event.step == step]

    @property
    def sharing(self) -> tuple[tuple[str, ...], ...]:
        """Groups of steps that share models."""
        runs = self.facts(RunBegins)
        return runs[-1].info.sharing if runs else ()

    @cached_property
    def element_counts(self) -> dict[str, int]:
        """Elements that crossed each PCollection, where the runner counts them."""
        return dict(self._end.info.element_counts) if self._end else {}

    @property
    def reached(self) -> dict[str, int]:
        """Elements that came to the model of each step, where the runner counts them."""
        return dict(self._end.info.reached) if self._end else {}

    @property
    def inferred(self) -> Counter[str]:
        """Elements of each step that processes wrote of, in whichever attempt."""
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
        """Whether a process wrote that is not the one that submitted the pipeline."""
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
        """Processes that the kernel ended for want of memory during the run; None: not known."""
        return self._end.info.oom_kills if self._end else None

    @property
    def dropped(self) -> int:
        """Events that a process could not write."""
        return sum(event.n for event in self.facts(Dropped))

    @cached_property
    def start_ns(self) -> int:
        """When the run began: with its submission; else with the first load; else its events."""
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
        """When the run ended, or the last event until now."""
        if self._end is not None:
            return self._end.t_ns
        return max((state.last_ns for state in self._in_order), default=0)

    @cached_property
    def ended_early(self) -> dict[Process, int]:
        """Processes that ended before the run, and when each gave its last sign of life.

        Such a process was stopped or killed, which it cannot tell: it is known by its silence. For
        one that buffers its events, the silence says nothing.
        """
        submitter = self._end.process if self._end else None
        return {
            state.process: state.last_ns
            for state in self.processes.values()
            if state.process != submitter and _is_silent(state, self.end_ns)
        }

    def until(self, process: Process) -> int:
        """When a process ended, as far as is known: with the run, or with its last sign of life."""
        return min(self.ended_early.get(process, self.end_ns), self.end_ns)

    @cached_property
    def _end(self) -> RunEnds | None:
        return next(reversed(self.facts(RunEnds)), None)

    @property
    def processes_by_time(self) -> list[Process]:
        """The processes, by their first events."""
        return [state.process for state in self._in_order]

    @cached_property
    def _in_order(self) -> list[ProcessState]:
        return sorted(self.processes.values(), key=lambda state: (state.first_ns, state.process))

    # What models did

    @property
    def counts(self) -> Counts:
        """What happened, counted."""
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
        """Counts up to the end of the run, where a process went on."""
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
        """Step to the batches that it gave out as failed, and the elements in them."""
        letters: dict[str, tuple[int, int]] = {}
        for event in self._letters:
            if event.step is not None:
                batches, elements = letters.get(event.step, (0, 0))
                letters[event.step] = batches + 1, elements + event.n
        return letters

    @property
    def timeouts(self) -> list[DeadLetter]:
        """Batches that Beam stopped waiting for at a model that is known, by time."""
        return [e for e in self._letters if e.timed_out and e.model is not None]

    @cached_property
    def _letters(self) -> list[DeadLetter]:
        return [event for event in self.facts(DeadLetter) if event.t_ns <= self.end_ns]

    @property
    def held_now(self) -> int:
        """Models that are loaded and not freed, in all processes that live."""
        living = (
            state for state in self.processes.values() if state.process not in self.ended_early
        )
        return sum(_models_held(state.open.values()) for state in living)

    @cached_property
    def memory(self) -> RunMemory:
        """Memory of the process whose resident set size was highest, up to the end of the run."""
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
        """The process whose resident set size was highest; None where none is known."""
        known = [state for state in self._in_order if self._ends(state.rss) is not None]
        return max(known, key=self._peak).process if known else None

    def peak_rss_of(self, process: Process) -> int | None:
        """The highest resident set size of a process during the run; None where not known."""
        state = self.processes[process]
        return None if self._ends(state.rss) is None else self._peak(state)

    @cached_property
    def surplus(self) -> int | None:
        """Bytes by which peak RSS exceeds the highest RSS while no model was loading.

        Of the process whose peak was highest; None where that is not known. A model that takes
        twice its size while it loads makes it as large as the last model that was loaded.
        """
        if self.largest_process is None:
            return None
        state = self.processes[self.largest_process]
        between = self._between_loads(state, state.rss)[1]
        return max(self._peak(state) - int(between.max()), 0) if len(between) else None

    @cached_property
    def data_beside_models(self) -> int | None:
        """Address space that a process took beside its models, in bytes, while none was loading.

        It counts from where the memory limit of the run does. None in a run without such a limit,
        where the sizes of models are not known, or nothing was sampled.
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
        """The samples of a curve while no model of its process was loading."""
        t_ns, values = self.curve(curve)
        loading = [r.loading for r in self.residences_by_process.get(state.process, [])]
        loads = over_time([begin for begin, _ in loading], [end + 1 for _, end in loading])
        free = at(t_ns, *loads) == 0
        return t_ns[free], values[free]

    @cached_property
    def machines(self) -> dict[str, MachineMemory]:
        """Memory of each machine whose processes' memory is known, by host, up to the end."""
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
        """The highest resident set size of one process during the run.

        The system remembers the highest since the process began. Where that rose during the run, it
        is exact; otherwise an earlier peak hides the run's own, and the highest sample stands in.
        """
        sampled, system = self._highest(state.rss), self._ends(state.peak_rss)
        return max(sampled, system[1]) if system is not None and system[1] > system[0] else sampled

    def _is_whole(self, curve: Curve) -> bool:
        """Whether all of a curve is of the run, by time: so it is until the run ends."""
        return curve.in_order and (not curve.t_ns or curve.t_ns[-1] <= self.end_ns)

    def _ends(self, curve: Curve) -> tuple[int, int] | None:
        """The first and the last value up to the end of the run."""
        values = curve.values if self._is_whole(curve) else self.curve(curve)[1]
        return (int(values[0]), int(values[-1])) if len(values) else None

    def _highest(self, curve: Curve) -> int:
        return curve.highest if self._is_whole(curve) else int(self.curve(curve)[1].max())

    def curve(self, curve: Curve) -> tuple[Ints, Ints]:
        """A quantity of a process up to the end of the run: nanoseconds and values, by time."""
        t_ns, values = np.array(curve.t_ns), np.array(curve.values)
        if self._is_whole(curve):
            return t_ns, values
        during = np.flatnonzero(t_ns <= self.end_ns)
        during = during[np.argsort(t_ns[during], kind="stable")]
        return t_ns[during], values[during]

    def some_loads(self, state: ProcessState, places: Iterable[int]) -> list[Residence]:
        """Loads of a process as they stand, without their batches; places are those in its list."""
        loads = (state.loads[place] for place in places)
        until = self.until(state.process)
        return [_residence(state.process, load, self.start_ns, until) for load in loads]

    @cached_property
    def holders(self) -> Holders:
        """Which load held a model at a time."""
        return Holders(self._loads[0], self._shared_model)

    @cached_property
    def residences(self) -> list[Residence]:
        """Every load of a model: when it was loading, resident, in use, evicted and freed."""
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
        """`residences` of each process that loaded a model, by the first of them."""
        groups: dict[Process, list[Residence]] = {}
        for residence in self.residences:
            groups.setdefault(residence.process, []).append(residence)
        return groups

    @property
    def residences_by_machine(self) -> dict[str, list[Residence]]:
        """`residences` of each host that loaded a model, by the first of them."""
        groups: dict[str, list[Residence]] = {}
        for residence in self.residences:
            groups.setdefault(residence.process.host, []).append(residence)
        return groups

    @cached_property
    def batches(self) -> Batches:
        """Every batch that began before the run ended, by time."""
        _, places = self._loads
        return join_batches(self._in_order, places, self.holders, self.end_ns)

    @cached_property
    def _loads(self) -> tuple[list[Residence], dict[Process, Ints]]:
        """Every load by time; and, for each load of a process, its place among them, or -1."""
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
        """Say of each load which refresh came before it."""
        refreshes: dict[tuple[Process, str, str], list[Refreshes]] = {}
        for event in self.facts(Refreshes):
            refreshes.setdefault((event.process, event.step, event.model), []).append(event)
        for r in residences if refreshes else ():
            for event in refreshes.get((r.process, r.step, r.model), ()):
                if event.t_ns <= r.load_begin_ns:
                    r.version = event.path

    def _apply_stray(self, event: OfModel, candidates: Sequence[Residence]) -> None:
        """What happened to a model that another step of the same process had loaded."""
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
        """Step to the first of the steps that share its models."""
        groups = (steps for event in self.facts(RunBegins) for steps in event.info.sharing)
        return {step: steps[0] for steps in groups for step in steps}

    def _shared_model(self, step: str, model: str, cohort: str | None) -> tuple[str, str | None]:
        """A model whichever step asks for it: a step and a name or, if steps share it, a cohort."""
        first = self._shared_with.get(step)
        return (step, model) if first is None else (first, cohort)


SILENT_NS = 2_000_000_000
"""A process that lives gives a sign of it many times in that, unless it has paused so before."""


def _is_silent(state: ProcessState, now_ns: int) -> bool:
    silent_ns = now_ns - state.last_ns
    if silent_ns <= SILENT_NS or len(state.rss) < 2:
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
    """A load as it stood when the run ended."""

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
