"""Make folders for event logs before a run, so that problems are reported before it starts."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from pathlib import Path, PurePosixPath

from mmlab._files import absolute, temporary_folder
from mmlab.log.folders import Location, RemoteFolder, is_remote, location, make_folder
from mmlab.worker.recorder import Log

_IDLE_SECONDS = 60.0

_shared: dict[str, Log] = {}


def new_log(folder: str | os.PathLike[str] | None, sample_seconds: float) -> Log:
    """Make a log for one run: a new folder in `folder`, or a temporary one.

    Raises:
      OSError: the folder cannot be written.
      ValueError: the URI has no file system in Beam.
    """
    run = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    if folder is None:
        return Log(str(temporary_folder("mmlab-")), run, sample_seconds)
    where = _absolute(folder)
    if isinstance(where, Path):
        path = str(where / run)
        _make(path, logs=where)
    else:
        path = f"{where}/{run}"
        _make(path)
    return Log(path, run, sample_seconds)


def check_log(folder: str | os.PathLike[str]) -> None:
    """Check that logs can be written to a folder; make it if it does not exist.

    Raises:
      OSError: the folder cannot be made or written.
      ValueError: the URI has no file system in Beam.
    """
    _make(str(_absolute(folder)))


def shared_log(folder: str | os.PathLike[str], sample_seconds: float) -> Log:
    """Return the log that this process writes to `folder` itself.

    Raises:
      OSError: the folder cannot be written.
    """
    path = str(_absolute(folder))
    _make(path)
    run = f"{PurePosixPath(path).name}-{secrets.token_hex(3)}"
    return _shared.setdefault(path, Log(path, run, sample_seconds, _IDLE_SECONDS))


def _absolute(folder: str | os.PathLike[str]) -> Location:
    where = location(folder)
    return absolute(where) if isinstance(where, Path) else where


def _make(path: str, logs: Path | None = None) -> None:
    """Make a folder inside `logs` and check that a file can be written there."""
    try:
        if is_remote(path):
            RemoteFolder(path).make()
        else:
            make_folder(Path(path), logs)
            tempfile.TemporaryFile(dir=path).close()
    except OSError as problem:
        raise OSError(
            problem.errno,
            f"the event log cannot be written there ({problem.strerror or problem}); give log=... "
            "a folder that this process and every worker can write to",
            path,
        ) from problem
