"""What each load of a model leaves behind in the process that holds the models."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import psutil

from mmlab.fresh.outcome import RunOutcome

_SIGN = "leftovers:"
_NAMES = ("threads", "open files", "temporary files")


def print_leftovers(element: Any) -> Any:
    """Print what this process holds now, and pass the element on: for a `beam.Map`."""
    print(_SIGN, *_counted(), flush=True)
    return element


def leftovers_per_load(outcome: RunOutcome) -> dict[str, int]:
    """How many more threads, open files and temporary files a process holds after each load.

    Args:
      outcome: of a run whose models answer one element each, and pass it on to `print_leftovers`.

    Raises:
      ValueError: the run printed too little, or loaded too few models.
    """
    lines = [line.split()[1:] for line in outcome.output.splitlines() if line.startswith(_SIGN)]
    loads = outcome.trace.summary().loads - 1
    if len(lines) < 2 or loads < 1:
        raise ValueError("two loads or more tell what a load leaves behind: run more elements")
    first, last = ([int(number) for number in line] for line in (lines[0], lines[-1]))
    # A thread or a file of another part of Beam may come or go meanwhile: hence the rounding.
    return {
        name: round((after - before) / loads)
        for name, before, after in zip(_NAMES, first, last, strict=True)
    }


def _counted() -> tuple[int, int, int]:
    process = psutil.Process()
    handles = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
    return process.num_threads(), handles, sum(1 for _ in Path(tempfile.gettempdir()).iterdir())
