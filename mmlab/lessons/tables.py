"""Tables of integers, the same on every machine, so that a lesson can be compared exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mmlab.trace import Trace

COLUMNS = ("loads", "reloads", "evictions", "uses", "elements", "most_resident", "limit")


def compare(traces: Mapping[str, Trace], guesses: Mapping[str, int | None]) -> pd.DataFrame:
    """Counts of several runs, one row each, beside what the learner guessed for their loads.

    Args:
      traces: name of the run (the hint) to its trace.
      guesses: name of the run to the guessed number of loads; None where there is no guess.
    """
    rows = {name: _row(trace, guesses.get(name)) for name, trace in traces.items()}
    table = pd.DataFrame.from_dict(rows, orient="index", dtype=object)
    return table.rename_axis("hint")


def per_model(trace: Trace) -> pd.DataFrame:
    """Loads and elements of each model of a run, one row each, and its elements of each key."""
    counts = trace.per_model()
    keys = sorted({key for count in counts for key in count.keys})
    rows = {
        count.model: {
            "loads": count.loads,
            "elements": count.elements,
            **{key: count.keys.get(key, "") for key in keys},
        }
        for count in counts
    }
    return pd.DataFrame.from_dict(rows, orient="index", dtype=object).rename_axis("model")


def _row(trace: Trace, guess: int | None) -> dict[str, Any]:
    counts = trace.summary().counts()
    row = {"my guess": guess, **{name: counts[name] for name in COLUMNS}}
    return {name: "–" if value is None else value for name, value in row.items()}
