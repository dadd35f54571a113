"""Tables of integers for the lesson on A/B patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mmlab.lessons.ab.models import SIDES
from mmlab.lessons.tables import or_dash
from mmlab.trace import Trace


def work(traces: Mapping[str, Trace], guesses: Mapping[str, int | None]) -> pd.DataFrame:
    """Number of predictions that each model computed, one row per run.

    Args:
      traces: name of the run to its trace.
      guesses: name of the run to the guessed number of predictions; None for no guess.
    """
    rows = {name: _row(trace, guesses.get(name)) for name, trace in traces.items()}
    return pd.DataFrame.from_dict(rows, orient="index", dtype=object)


def elements_of(trace: Trace, side: str) -> int:
    """Number of elements that the model of `side` ("A" or "B") answered."""
    return sum(model.elements for model in trace.per_model() if model.model == SIDES[side])


def _row(trace: Trace, guess: int | None) -> dict[str, object]:
    a, b = (elements_of(trace, side) for side in SIDES)
    return {
        "my guess": or_dash(guess),
        "predictions": a + b,
        "by A": a,
        "by B": b,
        "models in memory": trace.summary().most_resident,
    }


def score(right: pd.DataFrame, guesses: Mapping[str, int | None]) -> pd.DataFrame:
    """Number of digits that were read right, beside the learner's guesses.

    Args:
      right: whether each digit is right, one column per model, one row per digit.
      guesses: name of the column to the guessed number; None for no guess.
    """
    rows = {
        name: {
            "my guess": or_dash(guesses.get(name)),
            "right": int(column.sum()),
            "of": len(column),
        }
        for name, column in right.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", dtype=object)


def agreement(a_right: Sequence[bool], b_right: Sequence[bool]) -> pd.DataFrame:
    """The paired 2 by 2 table: digits that both, one or none of the models read right."""
    a, b = np.asarray(a_right, dtype=bool), np.asarray(b_right, dtype=bool)
    cells = [[int((x & y).sum()) for y in (b, ~b)] for x in (a, ~a)]
    return pd.DataFrame(cells, index=["A right", "A wrong"], columns=["B right", "B wrong"])
