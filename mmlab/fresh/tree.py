"""The tree of processes of a run: adopted, found and ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

import psutil

SET_PARENT_DEATH_SIGNAL, SET_CHILD_SUBREAPER = 1, 36
"""Of Linux's `prctl`."""


def adopt_orphans() -> None:
    """Make the children of dead descendants ours, so that they can be found, ended and waited for.

    Linux only: elsewhere, what outlives its parent is found by its process group alone.
    """
    _prctl(SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """Have the system kill this process when its parent dies. Linux only."""
    _prctl(SET_PARENT_DEATH_SIGNAL, getattr(signal, "SIGKILL", 0))


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def end_descendants() -> None:
    """Kill all processes that this one has started or adopted, also in sessions of their own."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            process.kill()


def end_group(pid: int) -> None:
    """Kill the process group that a process has led."""
    if hasattr(os, "killpg"):
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)


def wait_for_descendants() -> None:
    """Kill all descendants, and those that they start meanwhile, until there are none."""
    if not hasattr(os, "WNOHANG"):  # Windows, where nothing waits to be waited for
        end_descendants()
        return
    with suppress(ChildProcessError):  # there are no more
        while True:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                end_descendants()
                os.waitpid(-1, 0)
