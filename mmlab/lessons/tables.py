"""Tables of integers that are the same on every machine, so that lessons can be compared."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from mmlab._arguments import short
from mmlab._text import megabytes
from mmlab.events import Unknown
from mmlab.reports.summary import Differs
from mmlab.trace import Trace

_COLUMNS = ("loads", "reloads", "evictions", "uses", "elements", "most_resident", "limit")

_MORE: dict[str, Callable[[Trace], int | None]] = {
    "freed": lambda trace: sum(residence.free_ns is not None for residence in trace.residences),
    "model_megabytes": lambda trace: megabytes(trace.summary().model_bytes),
    "processes_asking": lambda trace: len({use.process for use in trace.of_kind("use_begin")}),
    "processes_holding": lambda trace: len({load.process for load in trace.of_kind("load_end")}),
}
"""Columns beside the counts of `Trace.summary()`: models freed during the run, most megabytes of
models in one process, and the processes that use models or hold them."""


def compare(
    traces: Mapping[Any, Trace],
    guesses: Mapping[Any, int | None] | None = None,
    *,
    what: str = "hint",
    columns: Sequence[str] = _COLUMNS,
) -> pd.DataFrame:
    """Compare counts of several runs, one row each, with the learner's guesses.

    Args:
      traces: name of the run (the hint; None means no hint) to its trace.
      guesses: name of the run to the guess, or None for no guess. Without `guesses` the table has
        no column for them.
      what: what differs between the runs; the name of the index.
      columns: names from `Trace.summary().counts()` and `_MORE`.
    """
    for name, trace in traces.items():
        if not isinstance(trace, Trace):
            raise TypeError(
                f"the run {name!r} must be a Trace, such as p.result.trace, got {short(trace)}"
            )
    rows = {}
    for name, trace in traces.items():
        guess = {} if guesses is None else {"my guess": guesses.get(name)}
        row = {**guess, **_row(trace, columns)}
        rows["none" if name is None else name] = {
            column: or_dash(value) for column, value in row.items()
        }
    return pd.DataFrame.from_dict(rows, orient="index", dtype=object).rename_axis(what)


def or_dash(value: Any) -> int | str:
    """A number for a table: a dash for None, a word if it is not known."""
    if value is None:
        return "–"
    return str(value) if isinstance(value, enum.Enum) else value


def per_model(trace: Trace) -> pd.DataFrame:
    """Loads, elements, and elements of each key, one row per model of a run."""
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


def _row(trace: Trace, columns: Sequence[str]) -> dict[str, int | Unknown | Differs | None]:
    counts = trace.summary().counts()
    return {name: _MORE[name](trace) if name in _MORE else counts[name] for name in columns}
