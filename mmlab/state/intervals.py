"""Sums over time intervals: the length that they cover, and their number at each moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def covered_ns(intervals: Iterable[tuple[int, int]]) -> int:
    """Return the length of the union of `intervals`.

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


def at(moments: Ints, times: Ints, values: Ints) -> Ints:
    """Evaluate the step function of `over_time` at `moments`; 0 before its first change.

    >>> at(np.array([-1, 0, 7]), *over_time([0, 5], [10, 10]))
    array([0, 1, 2])
    """
    place = np.searchsorted(times, moments, side="right") - 1
    return np.where(place < 0, 0, np.append(values, 0)[place])


def over_time(
    begins: Sequence[int] | Ints,
    ends: Sequence[int] | Ints,
    amounts: Sequence[int] | Ints | None = None,
) -> tuple[Ints, Ints]:
    """Sum amounts over time; each counts from its begin to its end.

    Args:
      begins, ends: of the half-open intervals, without the end.
      amounts: one per interval; None for 1 each.

    Returns:
      Moments of change, ascending, and the sum from each of them on; shape (n,) both.

    >>> over_time([0, 5], [10, 5 + 5], [1, 2])
    (array([ 0,  5, 10]), array([1, 3, 0]))
    """
    amount = np.ones(len(begins), np.int64) if amounts is None else np.asarray(amounts, np.int64)
    moments = np.concatenate([np.asarray(begins, np.int64), np.asarray(ends, np.int64)])
    times, place = np.unique(moments, return_inverse=True)
    change = np.zeros(len(times), np.int64)
    np.add.at(change, place.ravel(), np.concatenate([amount, -amount]))
    return times, np.cumsum(change)
