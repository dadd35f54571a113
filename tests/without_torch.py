"""Processes of tests that need no PyTorch and no clients of Google's services.

Beam imports both wherever they are installed, which takes three quarters of a start: 7.8 s of CPU
with them, 2.0 s without.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "fixtures/without_torch"
STUB = Path(__file__).parent / "fixtures/stub_torch"
LIGHT = Path(__file__).parent / "fixtures/light"


def hide(patch: pytest.MonkeyPatch, *, stub: bool = False) -> None:
    """What this process starts has no PyTorch, until the patch is undone; see `path`."""
    patch.setenv("PYTHONPATH", path(os.environ.get("PYTHONPATH", ""), stub=stub))
    # multiprocessing hands it on, and so do fresh runs
    patch.syspath_prepend(str(STUB if stub else FOLDER))


def path(*folders: str | os.PathLike[str], stub: bool = False) -> str:
    """A value of PYTHONPATH with which there is no PyTorch, before these folders.

    Args:
      stub: whether it can be imported all the same, as Beam's ModelManager does; it is empty.
    """
    return os.pathsep.join(map(str, (STUB if stub else FOLDER, LIGHT, *filter(None, folders))))


def environment(*, stub: bool = False, **more: str) -> dict[str, str]:
    """The environment of this process for one without PyTorch; see `path`."""
    return {**os.environ, "PYTHONPATH": path(os.environ.get("PYTHONPATH", ""), stub=stub), **more}
