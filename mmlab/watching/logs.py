"""Folders for event logs: made before a run, so that a problem is said before it starts."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from pathlib import Path

from mmlab.watching.recorder import Log

IDLE_SECONDS = 60.0

_shared: dict[str, Log] = {}


def new_log(folder: str | os.PathLike[str] | None, sample_seconds: float) -> Log:
    """A log for one run: a new folder in `folder`, or a temporary one.

    Raises:
      OSError: it cannot be written.
    """
    run = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    if folder is None:
        return Log(tempfile.mkdtemp(prefix="mmlab-"), run, sample_seconds)
    path = _absolute(folder) / run
    _make(path)
    return Log(str(path), run, sample_seconds)


def shared_log(folder: str | os.PathLike[str], sample_seconds: float) -> Log:
    """The log that this process keeps in `folder` itself.

    Raises:
      OSError: it cannot be written.
    """
    path = _absolute(folder)
    _make(path)
    run = f"{path.name}-{secrets.token_hex(3)}"
    return _shared.setdefault(str(path), Log(str(path), run, sample_seconds, IDLE_SECONDS))


def _absolute(folder: str | os.PathLike[str]) -> Path:
    return Path(folder).expanduser().absolute()


def _make(path: Path) -> None:
    """Make the folder, private to its owner, and see that a file can be written there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as problem:
        raise type(problem)(
            problem.errno,
            f"the event log cannot be written there ({problem.strerror}); give log=... a folder "
            "that this process and every worker can write to",
            str(path),
        ) from problem
