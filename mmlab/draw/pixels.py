"""Covered pixels of a time axis, and heights of curves in each column of pixels.

Each class keeps its data in seconds, so that it can start again on a longer axis, and adds only
new data to its pixels.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TimeAxis:
    """A time axis of pixels.

    Attributes:
      columns: width in pixels.
      seconds: length in seconds.
      begin: seconds at the left edge.
    """

    columns: int
    seconds: float
    begin: float = 0.0

    def place(self, seconds: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the columns of moments; moments beyond the axis are in its last column."""
        since = np.asarray(seconds, np.float64) - self.begin
        at = (since * (self.columns / self.seconds)).astype(np.int64)
        return np.clip(at, 0, self.columns - 1)


def _doubles() -> array[float]:
    return array("d")


def _integers() -> array[int]:
    return array("q")


@dataclass
class Intervals:
    """Intervals of lanes, in seconds: arrays that numpy reads without copying."""

    lane: array[int] = field(default_factory=_integers)
    begin: array[float] = field(default_factory=_doubles)
    end: array[float] = field(default_factory=_doubles)

    def add(self, lanes: npt.ArrayLike, begins: npt.ArrayLike, ends: npt.ArrayLike) -> None:
        """Add intervals, shape (n,) each."""
        self.lane.frombytes(np.asarray(lanes, np.int64).tobytes())
        self.begin.frombytes(np.asarray(begins, np.float64).tobytes())
        self.end.frombytes(np.asarray(ends, np.float64).tobytes())

    def __len__(self) -> int:
        return len(self.lane)


class Cover:
    """The pixels that intervals cover in each lane."""

    def __init__(self) -> None:
        self.known = Intervals()
        self._changes = np.zeros((0, 0), np.int32)
        self._covered: npt.NDArray[np.bool_] | None = None
        self._axis: TimeAxis | None = None
        self._done = 0

    def covered(self, axis: TimeAxis, lanes: int, still: Intervals) -> npt.NDArray[np.bool_]:
        """Flags of covered pixels, shape (lanes, columns).

        Args:
          lanes: number of lanes.
          still: intervals that have not ended, up to now.
        """
        if axis != self._axis or len(self._changes) != lanes:
            self._changes = np.zeros((lanes, axis.columns + 1), np.int32)
            self._axis, self._done, self._covered = axis, 0, None
        if self._done < len(self.known):
            _change(self._changes, self.known, self._done, axis)
            self._done, self._covered = len(self.known), None
        if len(still):
            changes = self._changes.copy()
            _change(changes, still, 0, axis)
            return np.cumsum(changes[:, :-1], axis=1) > 0
        if self._covered is None:
            self._covered = np.cumsum(self._changes[:, :-1], axis=1) > 0
        return self._covered


def _change(
    changes: npt.NDArray[np.int32], intervals: Intervals, since: int, axis: TimeAxis
) -> None:
    if since == len(intervals):
        return
    lane = np.array(intervals.lane[since:])
    begin, end = (axis.place(np.array(x[since:])) for x in (intervals.begin, intervals.end))
    np.add.at(changes, (lane, begin), 1)
    np.add.at(changes, (lane, end + 1), -1)


class Highest:
    """A quantity over time, and its highest value in each column of pixels.

    Args:
      steps: whether a value lasts until the next one; if not, columns without a value are empty.
    """

    def __init__(self, *, steps: bool):
        self._steps = steps
        self._seconds, self._values = _doubles(), _doubles()
        self._most = 0.0
        self._highest: _Numbers = np.zeros(0)
        self._last: _Numbers = np.zeros(0)
        self._axis: TimeAxis | None = None
        self._done = 0

    def add(self, seconds: npt.ArrayLike, values: npt.ArrayLike) -> None:
        """Add values sorted by time; both shapes are (n,)."""
        new = np.asarray(values, np.float64)
        self._seconds.frombytes(np.asarray(seconds, np.float64).tobytes())
        self._values.frombytes(new.tobytes())
        self._most = max(self._most, float(new.max(initial=0)))

    @property
    def highest(self) -> float:
        """The highest of all values; 0 if there is none."""
        return self._most

    def __len__(self) -> int:
        return len(self._seconds)

    def in_columns(self, axis: TimeAxis) -> _Numbers:
        """Highest value in each column, shape (columns,); nan if there is none (of steps: yet)."""
        if axis != self._axis:
            self._highest = np.full(axis.columns, np.nan)
            self._last = np.full(axis.columns, np.nan)
            self._axis, self._done = axis, 0
        self._take_new(axis)
        return self._filled() if self._steps else self._highest

    def _take_new(self, axis: TimeAxis) -> None:
        since, self._done = self._done, len(self._seconds)
        if since == self._done:
            return
        columns = axis.place(np.array(self._seconds[since:]))
        values = np.array(self._values[since:])
        np.fmax.at(self._highest, columns, values)
        self._last[columns] = values  # if a column repeats, numpy keeps its last value

    def _filled(self) -> _Numbers:
        """Fill columns without a change with the last value before them.

        That value is also a candidate for the highest value of the next column with a change.
        """
        has = ~np.isnan(self._last)
        latest = np.maximum.accumulate(np.where(has, np.arange(len(has)), -1))
        before = np.where(latest >= 0, self._last[latest], np.nan)
        entering = np.concatenate([[np.nan], before[:-1]])
        filled: _Numbers = np.fmax(np.where(has, self._highest, before), entering)
        return filled
