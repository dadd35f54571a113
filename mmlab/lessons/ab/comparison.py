"""The difference of two accuracies, with an interval, paired and unpaired.

The interval is the percentile interval of the bootstrap: resample the digits with replacement many
times and take the middle 95% of the differences (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993). McNemar's test is the exact version (Psychometrika 12, 1947).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from mmlab._text import shown_everywhere

_DRAWS = 10_000
_SEED = 2026
_MIDDLE = (2.5, 97.5)


@shown_everywhere
@dataclass(frozen=True)
class Difference:
    """The accuracy of B minus the accuracy of A.

    Attributes:
      points: the difference, in percentage points.
      low, high: its 95% interval, in percentage points.
      draws: the differences of the bootstrap samples, in percentage points.
    """

    points: float
    low: float
    high: float
    draws: np.ndarray

    @property
    def tells_which(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0

    def __repr__(self) -> str:
        points, low, high = (_signed(value) for value in (self.points, self.low, self.high))
        return f"{points} points (95%: {low} to {high})"


def paired_difference(a_right: Sequence[bool], b_right: Sequence[bool]) -> Difference:
    """The difference if both models answered the same digits.

    Args:
      a_right: whether A is right, for each digit.
      b_right: whether B is right, in the same order.

    Raises:
      ValueError: there are no digits, or the lengths differ.
    """
    a, b = _checked(a_right), _checked(b_right)
    if len(a) != len(b):
        raise ValueError(f"a_right and b_right must have one length, got {len(a)} and {len(b)}")
    each = b - a
    return _difference(each.mean(), _resampled(each, np.random.default_rng(_SEED)))


def split_difference(a_right: Sequence[bool], b_right: Sequence[bool]) -> Difference:
    """The difference if each model answered other digits; each side is resampled separately.

    Args:
      a_right: whether A is right, for each digit of its side.
      b_right: whether B is right, for each digit of its side.

    Raises:
      ValueError: a side is empty.
    """
    a, b = _checked(a_right), _checked(b_right)
    random = np.random.default_rng(_SEED)
    return _difference(b.mean() - a.mean(), _resampled(b, random) - _resampled(a, random))


def mcnemar_p_value(a_right: Sequence[bool], b_right: Sequence[bool]) -> float:
    """The exact two-sided p-value of McNemar's test.

    Tests the null hypothesis that, of the digits that only one model reads right, each model is as
    likely to be that one.

    >>> mcnemar_p_value([True, False, True], [True, True, True])
    1.0
    """
    a, b = np.asarray(a_right, dtype=bool), np.asarray(b_right, dtype=bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b).pvalue)


def _signed(value: float) -> str:
    """A number with its sign; zero without a sign.

    >>> _signed(2.04), _signed(-2.5), _signed(-0.01)
    ('+2.0', '−2.5', '0.0')
    """
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def _checked(right: Sequence[bool]) -> np.ndarray:
    values = np.asarray(right, dtype=float)
    if not len(values):
        raise ValueError("a_right and b_right must have at least one digit each, got none")
    return values


def _resampled(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    drawn = values[random.integers(len(values), size=(_DRAWS, len(values)))]
    means: np.ndarray = drawn.mean(axis=1)
    return means


def _difference(share: float, draws: np.ndarray) -> Difference:
    low, high = np.percentile(draws, _MIDDLE)
    return Difference(100 * share, 100 * low, 100 * high, 100 * draws)
