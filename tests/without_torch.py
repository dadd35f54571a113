"""Processes of tests that need no PyTorch: to import it takes more than half of their time.

Beam imports PyTorch wherever it is installed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "fixtures/without_torch"
STUB = Path(__file__).parent / "fixtures/stub_torch"


def hide(patch: pytest.MonkeyPatch) -> None:
    """What this process starts has no PyTorch, until the patch is undone."""
    patch.setenv("PYTHONPATH", path(os.environ.get("PYTHONPATH", "")))
    patch.syspath_prepend(str(FOLDER))  # multiprocessing hands it on, and so do fresh runs


def path(*folders: str | os.PathLike[str], stub: bool = False) -> str:
    """A value of PYTHONPATH with which there is no PyTorch, before these folders.

    Args:
      stub: whether it can be imported all the same, as Beam's ModelManager does; it is empty.
    """
    return os.pathsep.join(map(str, (STUB if stub else FOLDER, *filter(None, folders))))


def environment(*, stub: bool = False, **more: str) -> dict[str, str]:
    """The environment of this process for one without PyTorch; see `path`."""
    return {**os.environ, "PYTHONPATH": path(os.environ.get("PYTHONPATH", ""), stub=stub), **more}
