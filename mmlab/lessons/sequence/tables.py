"""Small tables for the lesson on the sequence pattern."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized

import pandas as pd

from mmlab.lessons.sequence.scans import label_of
from mmlab.lessons.tables import or_dash

_STEP = 5
"""Shares are rounded to 5%, because the last digit differs between processors."""


def beside(guesses: Mapping[str, int | None], measured: Mapping[str, int]) -> pd.DataFrame:
    """The learner's guesses beside the measured values, one row per question."""
    rows = {
        question: {"my guess": or_dash(guesses.get(question)), "measured": value}
        for question, value in measured.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", dtype=object)


def read_right(
    readings: Mapping[str, Iterable[tuple[str, int]]], guesses: Mapping[str, int | None]
) -> pd.DataFrame:
    """Digits read right, in percent to the nearest 5, beside the guesses.

    Args:
      readings: name of the run to its pairs of scan and digit.
      guesses: name of the run to the guess; None for no guess.
    """
    rows = {}
    for name, pairs in readings.items():
        right = [label_of(scan) == digit for scan, digit in pairs]
        share = _STEP * round(100 * sum(right) / len(right) / _STEP)
        rows[name] = {
            "scans": len(right),
            "my guess, of 100": or_dash(guesses.get(name)),
            "read right, of 100": share,
        }
    return pd.DataFrame.from_dict(rows, orient="index", dtype=object)


def outcomes(
    runs: Mapping[int, Mapping[str, Sized]], guesses: Mapping[int, int | None]
) -> pd.DataFrame:
    """Number of elements of each output, one row per batch size.

    Args:
      runs: batch size to the outputs of the run, from name to elements.
      guesses: batch size to the guess for the first output; None for no guess.
    """
    rows = {}
    for size, outputs in runs.items():
        counts = {name: len(elements) for name, elements in outputs.items()}
        rows[size] = {"my guess": or_dash(guesses.get(size)), **counts}
    table = pd.DataFrame.from_dict(rows, orient="index", dtype=object)
    return table.rename_axis("batches of")
