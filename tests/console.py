"""The command `mmlab` in a process of its own, as users start it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests import without_torch
from tests.waiting import HUNG_SECONDS

ROOT = Path(__file__).parents[1]
SCRIPT = Path(sys.executable).with_name("mmlab")


def command():
    """The console script where it is installed; in each case it runs the code of this tree."""
    return [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "mmlab"]


def environment(*, torch=False, **more):
    ours = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    path = ours if torch else without_torch.path(ours)
    return {**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", **more}


def said(words, folder, *, torch=False, **more):
    """The process of these words, ended, with what it said as text."""
    return subprocess.run(
        [*map(str, words)],
        cwd=folder,
        env=environment(torch=torch, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HUNG_SECONDS,
    )


def mmlab(folder, *arguments, **options):
    """What the command says to these arguments, run in a folder."""
    return said([*command(), *arguments], folder, **options)
