"""What is new in the state of a run, in the terms of a picture: seconds, lanes and curves."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

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
)
from mmlab.draw.paint import Flags
from mmlab.draw.pixels import Cover, Highest, Intervals, TimeAxis
from mmlab.events import Process, Refreshes
from mmlab.state import NS, Curve, Ints, ProcessState, Residence, State

STATES = (*BARS, *MOMENTS, "used", "refreshed")


@dataclass(frozen=True)
class LiveLane:
    """A lane of the picture.

    Attributes:
      model, label: what it is called.
      numbers: of the covers that it shows; none where the model was never loaded.
      others: whether it shows the models that have no lane of their own.
    """

    model: str
    label: str
    numbers: tuple[int, ...] = ()
    others: bool = False


_Change = tuple[float, int]
"""Seconds, and by how much something changes then."""


class Level:
    """A number that goes up and down.

    Attributes:
      curve: its values over time.
      most: the highest of them.
    """

    def __init__(self) -> None:
        self.curve = Highest(steps=True)
        self.most = 0
        self._now = 0

    def change(self, changes: Iterable[_Change]) -> None:
        """Take what has changed since the last call."""
        changes = sorted(changes)
        values = []
        for _, by in changes:
            self._now += by
            values.append(self._now)
        self.most = max([self.most, *values])
        self.curve.add([seconds for seconds, _ in changes], values)


@dataclass
class _Read:
    """How far the state of a process was read.

    Attributes:
      lanes: number of the lane of each load.
      over, batches: how many were read.
      unanswered: rows of batches that no load seen so far has answered.
      counted: places of loads that are counted as held.
      held, both, bytes: models held, models held or loading, and bytes of those held.
      rss, device: memory.
    """

    lanes: array[int] = field(default_factory=lambda: array("q"))
    over: int = 0
    batches: int = 0
    unanswered: Ints = field(default_factory=lambda: np.zeros((0, 6), np.int64))
    counted: set[int] = field(default_factory=set)
    held: Level = field(default_factory=Level)
    both: Level = field(default_factory=Level)
    bytes: Level = field(default_factory=Level)
    rss: Highest = field(default_factory=lambda: Highest(steps=False))
    device: Highest = field(default_factory=lambda: Highest(steps=False))


class Reader:
    """Reads the state of a run again and again while it grows, each part of it once.

    Attributes:
      machine_bytes: of models, of the processes of each machine together, by host.
      highest_rss: of any process, bytes.
    """

    def __init__(self, state: State):
        self._state = state
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._start_ns = self._state.start_ns
        self._reads: dict[Process, _Read] = {}
        self._numbers: dict[LaneKey, int] = {}
        self._first_ns: dict[LaneKey, int] = {}
        self._work, self._loads, self._evictions = array("q"), array("q"), array("q")
        self._covers = {state: Cover() for state in STATES}
        self._longest_leaving = 0.0
        self.machine_bytes: dict[str, Level] = {}
        self.highest_rss = 0

    def read(self) -> None:
        """Read what is new."""
        if self._state.start_ns != self._start_ns:
            self._begin_anew()
        byte_changes: dict[str, list[_Change]] = {}
        for process, state in self._state.processes.items():
            read = self._reads.setdefault(process, _Read())
            byte_changes.setdefault(process.host, []).extend(self._read_loads(state, read))
            self._read_batches(state, read)
            self._read_curve(state.rss, read.rss)
            self._read_curve(state.device_bytes, read.device)
            self.highest_rss = max(self.highest_rss, round(read.rss.highest))
        for host, changes in byte_changes.items():
            self.machine_bytes.setdefault(host, Level()).change(changes)

    @property
    def most_models(self) -> int:
        """The most models that one process held; of a single one, with those that were loading."""
        reads = self._holding()
        if len(reads) == 1:
            return reads[0].both.most
        return max((read.held.most for read in reads), default=0)

    @property
    def most_model_bytes(self) -> int:
        """The most bytes of models that one process held."""
        return max((read.bytes.most for read in self._reads.values()), default=0)

    @property
    def most_machine_bytes(self) -> int:
        """The most bytes of models that the processes of one machine held together."""
        return max((level.most for level in self.machine_bytes.values()), default=0)

    @property
    def highest_memory(self) -> int:
        """The highest of what is drawn: memory of a process, or bytes of models on a machine."""
        return max(self.highest_rss, self.most_machine_bytes)

    def leaves_late(self, seconds: float) -> bool:
        """Whether an axis of so many seconds shows a model that is evicted and not freed."""
        return self._longest_leaving > LATE_PIXELS * Seconds(0, round(seconds / NS)).pixel

    def held_curves(self) -> list[tuple[Highest, Highest]]:
        """Of each process that holds models: those held, and those held or loading."""
        return [(read.held.curve, read.both.curve) for read in self._holding()]

    def memory_curves(self) -> list[tuple[Highest, bool]]:
        """Resident set size of each process, and its memory on GPUs, which is dashed."""
        reads = self._reads.values()
        return [curve for read in reads for curve in ((read.rss, False), (read.device, True))]

    def _holding(self) -> list[_Read]:
        return [read for read in self._reads.values() if read.lanes]

    def _seconds(self, t_ns: int) -> float:
        return (t_ns - self._start_ns) * NS

    # Lanes

    def lanes(self) -> list[LiveLane]:
        """The lanes that are drawn: at most `MOST_LANES`, and one for all others together."""
        loaded = sorted(self._first_ns, key=self._first_ns.__getitem__)
        keys = lane_keys(self._state.models, loaded)
        shown = keys
        if len(keys) > MOST_LANES:
            chosen = set(sorted(keys, key=lambda key: -self._work_of(key))[:MOST_LANES])
            shown = [key for key in keys if key in chosen]
        lanes = [
            LiveLane(key[2], label, self._numbers_of([key]))
            for key, label in zip(shown, lane_labels(shown, keys), strict=True)
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
        number = self._numbers.get(key)
        return 0 if number is None else self._work[number]

    def _number(self, key: LaneKey, begin_ns: int) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self._first_ns[key] = begin_ns
            for counts in (self._work, self._loads, self._evictions):
                counts.append(0)
        return self._numbers[key]

    def covers(self, axis: TimeAxis) -> dict[str, Flags]:
        """State to the pixels of lanes that it covers, shape (lanes, columns)."""
        still = {state: Intervals() for state in STATES}
        for process, state in self._state.processes.items():
            self._add_open(state, self._reads[process], still)
        for event in self._state.facts(Refreshes):
            number = self._numbers.get((event.process, event.step, event.model))
            if number is not None:
                moment = [self._seconds(event.t_ns)]
                still["refreshed"].add([number], moment, moment)
        lanes = len(self._numbers)
        return {
            state: cover.covered(axis, lanes, still[state]) for state, cover in self._covers.items()
        }

    def _add_open(self, state: ProcessState, read: _Read, still: dict[str, Intervals]) -> None:
        """Loads and batches that have not ended, up to now."""
        loads = self._state.some_loads(state, state.open)
        self._add_bars(still, loads, [read.lanes[place] for place in state.open])
        rows = state.open_batches()
        answering = np.array([row[0] for row in rows], np.int64)
        asked = [row[1] for row in rows]
        begins = np.array([row[2] for row in rows], np.int64)
        lanes = self._lanes_of_batches(state, read, answering, asked, begins)
        self._add_uses(still["used"], lanes, begins, np.full(len(rows), self._state.end_ns))

    # Loads

    def _read_loads(self, state: ProcessState, read: _Read) -> list[_Change]:
        """Take new loads and what has become of others. Returns changes of models' bytes."""
        both, held, size = [], [], []
        for load in state.loads[len(read.lanes) :]:
            number = self._number((state.process, load.step, load.model), load.begin_ns)
            read.lanes.append(number)
            self._work[number] += 1
            both.append((self._seconds(load.begin_ns), 1))
        over = state.over[read.over :]
        read.over = len(state.over)
        for place in (*state.open, *over):
            load = state.loads[place]
            if load.end_ns is not None and place not in read.counted:
                read.counted.add(place)
                self._loads[read.lanes[place]] += 1
                held.append((self._seconds(load.end_ns), 1))
                size.append((self._seconds(load.end_ns), _bytes(load.bytes)))
        ended = self._state.some_loads(state, over)
        for place, residence in zip(over, ended, strict=True):
            last = self._seconds(residence.last_ns)
            both.append((last, -1))
            if place in read.counted:
                read.counted.discard(place)
                held.append((last, -1))
                size.append((last, -_bytes(residence.bytes)))
                self._evictions[read.lanes[place]] += residence.evict_ns is not None
        known = {state: cover.known for state, cover in self._covers.items()}
        self._add_bars(known, ended, [read.lanes[place] for place in over])
        for level, changes in ((read.both, both), (read.held, held), (read.bytes, size)):
            level.change(changes)
        return size

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
        rows = np.concatenate([read.unanswered, new])
        if not len(rows):
            return
        answering, asked, begins, _, _, ends = rows.T
        lanes = self._lanes_of_batches(state, read, answering, asked.tolist(), begins)
        read.unanswered = rows[lanes < 0]
        self._add_uses(self._covers["used"].known, lanes, begins, ends)
        for number, times in zip(*np.unique(lanes[lanes >= 0], return_counts=True), strict=True):
            self._work[number] += int(times)

    def _lanes_of_batches(
        self,
        state: ProcessState,
        read: _Read,
        answering: np.ndarray,
        asked: Sequence[int],
        begins: np.ndarray,
    ) -> np.ndarray:
        """Number of the lane of the load that answered each batch; -1 where none was seen."""
        lanes = np.full(len(answering), -1, np.int64)
        known = answering >= 0
        if known.any():
            lanes[known] = np.frombuffer(read.lanes, np.int64)[answering[known]]
        for row in np.flatnonzero(~known).tolist():
            generation = None if answering[row] == -1 else -1 - int(answering[row])
            model = state.asked[asked[row]]
            holders = self._state.holders
            [place] = holders.at(state.process, model, generation, begins[row : row + 1])
            if place >= 0:
                r = holders.residences[place]
                lanes[row] = self._numbers.get((r.process, r.step, r.model), -1)
        return lanes

    def _add_uses(
        self, to: Intervals, lanes: np.ndarray, begins: np.ndarray, ends: np.ndarray
    ) -> None:
        seen = lanes >= 0
        times = ((column[seen] - self._start_ns) * NS for column in (begins, ends))
        to.add(lanes[seen], *times)

    def _read_curve(self, curve: Curve, into: Highest) -> None:
        since = len(into)
        t_ns = np.array(curve.t_ns[since:])
        into.add((t_ns - self._start_ns) * NS, np.array(curve.values[since:]))


def _bytes(size: object) -> int:
    """What a model adds to an area of bytes: nothing where that is unknown."""
    return size if isinstance(size, int) else 0
