"""Incremental reading of a run's state for pictures: seconds, lanes and curves."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mmlab.draw.lanes import (
    BARS,
    LATE_PIXELS,
    MOMENTS,
    MOST_LANES,
    LaneKey,
    Seconds,
    bars_of,
    lane_keys,
    lane_labels,
    others_label,
    timeouts_of,
    versions_of,
)
from mmlab.draw.paint import Flags
from mmlab.draw.pixels import Cover, Highest, Intervals, TimeAxis
from mmlab.events import Process, Refreshes
from mmlab.state import NS, UNSEEN, Curve, Ints, Load, ProcessState, Residence, State, held_as

STATES = (*BARS, *MOMENTS, "used", "refreshed", "batch failed", "timed out")


@dataclass(frozen=True)
class LiveLane:
    """A lane of the picture.

    Attributes:
      model, label: name of the model and label of the lane.
      numbers: rows of the covers that the lane shows; empty if the model was never loaded.
      others: whether all models without a lane of their own share this lane.
    """

    model: str
    label: str
    numbers: tuple[int, ...] = ()
    others: bool = False


_Change = tuple[float, int]
"""Time in seconds, and the difference that is added to a level then."""


class _Level:
    """A level that rises and falls.

    Attributes:
      curve: the level over time.
      most: the highest level.
    """

    def __init__(self) -> None:
        self.curve = Highest(steps=True)
        self.most = 0
        self._now = 0

    def change(self, changes: Iterable[_Change]) -> None:
        """Add the changes since the last call."""
        changes = sorted(changes)
        values = []
        for _, by in changes:
            self._now += by
            values.append(self._now)
        self.most = max([self.most, *values])
        self.curve.add([seconds for seconds, _ in changes], values)


class _Counted:
    """Loads that count: if several loads gave the same object, only one counts while it is held."""

    def __init__(self) -> None:
        self._holder: dict[tuple[object, ...], int] = {}
        self._places: set[int] = set()

    def takes(self, place: int, thing: tuple[object, ...] | None) -> bool:
        """Whether a load that gave `thing` counts: see `held_as`."""
        if thing is not None and self._holder.setdefault(thing, place) != place:
            return False
        self._places.add(place)
        return True

    def lets_go(self, place: int) -> bool:
        """Remove a load that is over. Returns whether it counted."""
        counts = place in self._places
        self._places.discard(place)
        return counts


@dataclass
class _Read:
    """Progress of reading the state of a process.

    Attributes:
      lanes: number of the lane of each load.
      over, batches: numbers of finished loads and of batches that were read.
      unanswered: rows of batches whose load has not been seen.
      failed: flags of the `unanswered` batches that ended with an exception.
      open: rows of batches that have not ended.
      ended: indices of loads that succeeded.
      counted, counted_bytes: loads that count as models held, and as bytes held.
      held, both: number of models held, and of models held or loading.
      rss, device: resident set size and GPU memory.
    """

    lanes: array[int] = field(default_factory=lambda: array("q"))
    over: int = 0
    batches: int = 0
    unanswered: Ints = field(default_factory=lambda: np.zeros((0, 6), np.int64))
    failed: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    open: Ints = field(default_factory=lambda: np.zeros((0, 6), np.int64))
    ended: set[int] = field(default_factory=set)
    counted: _Counted = field(default_factory=lambda: _Counted())
    counted_bytes: _Counted = field(default_factory=lambda: _Counted())
    held: _Level = field(default_factory=_Level)
    both: _Level = field(default_factory=_Level)
    rss: Highest = field(default_factory=lambda: Highest(steps=False))
    device: Highest = field(default_factory=lambda: Highest(steps=False))


class Reader:
    """Reads the growing state of a run; each call reads only what is new.

    Attributes:
      machine_bytes: bytes of models held by all processes of a machine, keyed by host.
      highest_rss: highest resident set size of any process, bytes.
    """

    def __init__(self, state: State):
        self._state = state
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._start_ns = self._state.start_ns
        self._had_already = self._already()
        self._reads: dict[Process, _Read] = {}
        self._numbers: dict[LaneKey, int] = {}
        self._first_ns: dict[LaneKey, int] = {}
        self._last_load_ns: dict[LaneKey, int] = {}
        self._guessed: dict[LaneKey, tuple[int, int]] = {}
        self._work, self._loads, self._evictions = array("q"), array("q"), array("q")
        self._covers = {state: Cover() for state in STATES}
        self._longest_leaving = 0.0
        self.machine_bytes: dict[str, _Level] = {}
        self.highest_rss = 0

    def read(self) -> None:
        """Read what is new."""
        if (self._state.start_ns, self._already()) != (self._start_ns, self._had_already):
            self._begin_anew()
        byte_changes: dict[str, list[_Change]] = {}
        self._guessed = {}
        for process, state in self._state.processes.items():
            read = self._reads.setdefault(process, _Read())
            byte_changes.setdefault(process.host, []).extend(self._read_loads(state, read))
            self._read_batches(state, read)
            self._read_curve(state.rss, read.rss)
            self._read_curve(state.device_bytes, read.device)
            self.highest_rss = max(self.highest_rss, round(read.rss.highest))
        for host, changes in byte_changes.items():
            self.machine_bytes.setdefault(host, _Level()).change(changes)

    def _already(self) -> int:
        """Number of models that were in memory before the run; a new one changes past curves."""
        return sum(state.already for state in self._state.processes.values())

    @property
    def most_models(self) -> int:
        """The most models held by one process; with a single process, held or loading."""
        reads = self._holding()
        if len(reads) == 1:
            return reads[0].both.most
        return max((read.held.most for read in reads), default=0)

    @property
    def most_machine_bytes(self) -> int:
        """The most bytes of models held by all processes of one machine."""
        return max((level.most for level in self.machine_bytes.values()), default=0)

    @property
    def highest_memory(self) -> int:
        """Highest drawn value, in bytes: memory of a process, or models on a machine."""
        return max(self.highest_rss, self.most_machine_bytes)

    def leaves_late(self, seconds: float) -> bool:
        """Whether a model is freed visibly later than evicted on an axis of `seconds`."""
        return self._longest_leaving > LATE_PIXELS * Seconds(0, round(seconds / NS)).pixel

    def held_curves(self) -> list[tuple[Highest, Highest]]:
        """For each process that holds models: number held, and number held or loading."""
        return [(read.held.curve, read.both.curve) for read in self._holding()]

    def memory_curves(self) -> list[tuple[Highest, bool]]:
        """Resident set size and GPU memory (dashed) of each process."""
        reads = self._reads.values()
        return [curve for read in reads for curve in ((read.rss, False), (read.device, True))]

    def _holding(self) -> list[_Read]:
        return [read for read in self._reads.values() if read.lanes]

    def _seconds(self, t_ns: int) -> float:
        return (t_ns - self._start_ns) * NS

    # Lanes

    def lanes(self, most: int = MOST_LANES) -> list[LiveLane]:
        """Return the lanes to draw: at most `most`, and one shared by all other models."""
        guessed = {key: first_ns for key, (first_ns, _) in self._guessed.items()}
        first_ns = {**guessed, **self._first_ns}
        for key in guessed.keys() & self._first_ns.keys():
            first_ns[key] = min(guessed[key], self._first_ns[key])
        loaded = sorted(first_ns, key=first_ns.__getitem__)
        keys = lane_keys(self._state.models, loaded)
        versions = versions_of(self._state, self._last_load_ns)
        shown = keys
        if len(keys) > most:
            chosen = set(sorted(keys, key=lambda key: -self._work_of(key))[:most])
            shown = [key for key in keys if key in chosen]
        labels = lane_labels(shown, keys, versions, self._state.ended_early)
        lanes = [
            LiveLane(key[2], label, self._numbers_of([key] if key in first_ns else []))
            for key, label in zip(shown, labels, strict=True)
        ]
        if len(shown) < len(keys):
            drawn = set(shown)
            lanes.append(self._others([key for key in keys if key not in drawn]))
        return lanes

    def _others(self, keys: Sequence[LaneKey]) -> LiveLane:
        numbers = self._numbers_of(keys)
        loads = sum(self._loads[number] for number in numbers)
        evictions = sum(self._evictions[number] for number in numbers)
        return LiveLane("", others_label(len(keys), loads, evictions), numbers, others=True)

    def _numbers_of(self, keys: Iterable[LaneKey]) -> tuple[int, ...]:
        return tuple(self._numbers[key] for key in keys if key in self._numbers)

    def _work_of(self, key: LaneKey) -> int:
        number, (_, guessed) = self._numbers.get(key), self._guessed.get(key, (0, 0))
        return guessed if number is None else self._work[number] + guessed

    def _number(self, key: LaneKey) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            for counts in (self._work, self._loads, self._evictions):
                counts.append(0)
        return self._numbers[key]

    def _seen(self, key: LaneKey, t_ns: int) -> None:
        self._first_ns[key] = min(t_ns, self._first_ns.get(key, t_ns))

    def covers(self, axis: TimeAxis) -> dict[str, Flags]:
        """Flags of the pixels that each state covers, shape (lanes, columns)."""
        still = {state: Intervals() for state in STATES}
        for process, state in self._state.processes.items():
            self._add_open(state, self._reads[process], still)
        for event in self._state.facts(Refreshes):
            number = self._numbers.get((event.process, event.step, event.model))
            if number is not None:
                moment = [self._seconds(event.t_ns)]
                still["refreshed"].add([number], moment, moment)
        for letter, process in timeouts_of(self._state):
            number = self._numbers.get((process, letter.step or "", letter.model or ""))
            if number is not None:
                moment = [self._seconds(letter.t_ns)]
                still["timed out"].add([number], moment, moment)
        lanes = len(self._numbers)
        return {
            state: cover.covered(axis, lanes, still[state]) for state, cover in self._covers.items()
        }

    def _add_open(self, state: ProcessState, read: _Read, still: dict[str, Intervals]) -> None:
        """Add loads and batches that have not ended, up to now."""
        loads = self._state.some_loads(state, state.open)
        self._add_bars(still, loads, [read.lanes[place] for place in state.open])
        for rows in (read.unanswered, read.open):
            lanes, _ = self._lanes_of_batches(state, rows)
            ends = np.where(rows[:, 5] == UNSEEN, self._state.until(state.process), rows[:, 5])
            self._add_uses(still["used"], lanes, rows[:, 2], ends)
            if rows is read.unanswered:
                self._add_failures(still["batch failed"], lanes, rows, read.failed)

    # Loads

    def _read_loads(self, state: ProcessState, read: _Read) -> list[_Change]:
        """Read new loads and changes of earlier ones. Returns changes of models' bytes."""
        both, held, size = [], [], []
        for load in state.loads[len(read.lanes) :]:
            key, begin_ns = (state.process, load.step, load.model), self._begin_ns(load)
            number = self._number(key)
            self._seen(key, begin_ns)
            self._last_load_ns[key] = max(begin_ns, self._last_load_ns.get(key, begin_ns))
            read.lanes.append(number)
            self._work[number] += 1
            both.append((self._seconds(begin_ns), 1))
        over = state.over[read.over :]
        read.over = len(state.over)
        for place in (*state.open, *over):
            load = state.loads[place]
            if load.end_ns is not None and place not in read.ended:
                read.ended.add(place)
                self._loads[read.lanes[place]] += not load.already
                since = self._seconds(self._begin_ns(load) if load.already else load.end_ns)
                if read.counted.takes(place, held_as(load.object, (load.step, load.model))):
                    held.append((since, 1))
                if read.counted_bytes.takes(place, held_as(load.object, None)):
                    size.append((since, _bytes(load.bytes)))
        ended = self._state.some_loads(state, over)
        for place, residence in zip(over, ended, strict=True):
            last = self._seconds(residence.last_ns)
            both.append((last, -1))
            if place in read.ended:
                read.ended.discard(place)
                self._evictions[read.lanes[place]] += residence.evict_ns is not None
            if read.counted.lets_go(place):
                held.append((last, -1))
            if read.counted_bytes.lets_go(place):
                size.append((last, -_bytes(residence.bytes)))
        known = {state: cover.known for state, cover in self._covers.items()}
        self._add_bars(known, ended, [read.lanes[place] for place in over])
        read.both.change(both)
        read.held.change(held)
        return size

    def _begin_ns(self, load: Load) -> int:
        return max(load.begin_ns, self._start_ns) if load.already else load.begin_ns

    def _add_bars(
        self, to: dict[str, Intervals], loads: Sequence[Residence], lanes: Sequence[int]
    ) -> None:
        numbers = np.array(lanes, np.int64)
        for state, bars in bars_of(loads).items():
            begins, ends = ((bars.ns - self._start_ns) * NS).T
            to[state].add(numbers[bars.loads], begins, ends)
            if state == "leaving" and len(begins):
                self._longest_leaving = max(self._longest_leaving, float((ends - begins).max()))

    # Batches and memory

    def _read_batches(self, state: ProcessState, read: _Read) -> None:
        new = state.batches.since(read.batches)
        read.batches += len(new)
        still = [(*row, UNSEEN) for row in state.open_batches()]
        read.open = np.array(still, np.int64).reshape(-1, 6)
        rows = np.concatenate([read.unanswered, new])
        lanes, is_known = self._lanes_of_batches(state, rows)
        failed = np.concatenate([read.failed, _failures(state, read.batches - len(new), new)])
        read.unanswered, read.failed = rows[~is_known], failed[~is_known]
        self._add_uses(self._covers["used"].known, lanes[is_known], *rows[is_known][:, [2, 5]].T)
        self._add_failures(self._covers["batch failed"].known, lanes, rows, failed & is_known)
        numbers, times = np.unique(lanes[is_known], return_counts=True)
        for number, n in zip(numbers.tolist(), times.tolist(), strict=True):
            self._work[number] += n
        _, is_known = self._lanes_of_batches(state, read.open)
        self._guess_lanes(state, np.concatenate([read.unanswered, read.open[~is_known]]))

    def _guess_lanes(self, state: ProcessState, rows: Ints) -> None:
        """Assign batches without a load to the lane of the process that asked for them.

        Batches that have not ended are counted with them.
        """
        for asked in np.unique(rows[:, 1]).tolist():
            of_model = rows[rows[:, 1] == asked]
            key = (state.process, *state.asked[asked][:2])
            self._guessed[key] = int(of_model[:, 2].min()), len(of_model)

    def _lanes_of_batches(
        self, state: ProcessState, rows: Ints
    ) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Number of the lane of each batch, and whether the load that served it was seen."""
        lanes, is_known = np.zeros(len(rows), np.int64), rows[:, 0] >= 0
        kinds = np.column_stack((np.minimum(rows[:, 0], 0), rows[:, 1]))
        for load, asked in np.unique(kinds, axis=0).tolist():
            same = np.flatnonzero((kinds[:, 0] == load) & (kinds[:, 1] == asked))
            model = state.asked[asked]
            key = (state.process, *model[:2])
            lanes[same] = self._number(key)
            if load == 0:
                self._seen(key, int(rows[same, 2].min()))
                continue
            generation = None if load == -1 else -1 - int(load)
            holders = self._state.holders
            places = holders.at(state.process, model, generation, rows[same, 2])
            for place in np.unique(places[places >= 0]).tolist():
                key, there = (holders.residences[place].process, *model[:2]), same[places == place]
                lanes[there], is_known[there] = self._number(key), True
                self._seen(key, int(rows[there, 2].min()))
        return lanes, is_known

    def _add_uses(
        self, to: Intervals, lanes: np.ndarray, begins: np.ndarray, ends: np.ndarray
    ) -> None:
        times = ((column - self._start_ns) * NS for column in (begins, ends))
        to.add(lanes, *times)

    def _add_failures(
        self, to: Intervals, lanes: Ints, rows: Ints, failed: npt.NDArray[np.bool_]
    ) -> None:
        moments = (rows[failed, 5] - self._start_ns) * NS
        to.add(lanes[failed], moments, moments)

    def _read_curve(self, curve: Curve, into: Highest) -> None:
        since = len(into)
        t_ns = np.array(curve.t_ns[since:])
        into.add((t_ns - self._start_ns) * NS, np.array(curve.values[since:]))


def _failures(state: ProcessState, since: int, rows: Ints) -> npt.NDArray[np.bool_]:
    """Flags of rows that ended with an exception while Beam waited for them.

    Args:
      since: index of the first row.
    """
    failed = np.zeros(len(rows), np.bool_)
    if len(rows):
        for row in state.errors.keys() - state.given_up.keys():
            if row >= since:
                failed[row - since] = True
    return failed


def _bytes(size: object) -> int:
    """Bytes that a model adds to the drawn area: 0 if unknown, as the words of the axis say."""
    return size if isinstance(size, int) else 0
