"""Threads, open files and temporary files that each load of a model leaves behind."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import psutil

from mmlab.fresh.outcome import RunOutcome

_SIGN = "leftovers:"
_NAMES = ("threads", "open files", "temporary files")


def print_leftovers(element: Any) -> Any:
    """Print the current counts of this process and return the element; for a `beam.Map`."""
    print(_SIGN, *_counted(), flush=True)
    return element


def leftovers_per_load(outcome: RunOutcome) -> dict[str, int]:
    """Threads, open files and temporary files that each load adds to the process.

    Args:
      outcome: outcome of a run with one element per load, whose results go to `print_leftovers`.

    Raises:
      ValueError: the run printed fewer than two lines or loaded fewer than two models.
    """
    lines = [line.split()[1:] for line in outcome.output.splitlines() if line.startswith(_SIGN)]
    loads = outcome.trace.summary().loads - 1
    if len(lines) < 2 or loads < 1:
        raise ValueError(
            "outcome must have two loads and two printed lines or more, got "
            f"{loads + 1} and {len(lines)}: run more elements"
        )
    first, last = ([int(number) for number in line] for line in (lines[0], lines[-1]))
    # Rounded, because other parts of Beam may start or end a thread or open a file meanwhile.
    return {
        name: round((after - before) / loads)
        for name, before, after in zip(_NAMES, first, last, strict=True)
    }


def _counted() -> tuple[int, int, int]:
    process = psutil.Process()
    handles = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
    return process.num_threads(), handles, sum(1 for _ in Path(tempfile.gettempdir()).iterdir())
