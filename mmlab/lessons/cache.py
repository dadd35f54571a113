"""Files that the lessons make once and keep: written whole or not at all, by one process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from mmlab._cache import VARIABLE, cache_folder
from mmlab._files import needing_space


def is_made(name: str) -> bool:
    """Whether the cache holds the file `name`."""
    return (cache_folder() / name).exists()


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The cached file `name`, made by `make(path)` if it is not there.

    `make` writes to a path beside the final one, which takes its place when it is complete.
    Processes that ask at the same time wait for the one that makes it.
    """
    path = cache_folder() / name
    if path.exists():
        return path
    with FileLock(path.with_name(f".{name}.lock")):
        if not path.exists():
            _make(path, make)
    return path


def _make(path: Path, make: Callable[[Path], None]) -> None:
    with needing_space(path, f"set {VARIABLE} to another folder"):
        _make_whole(path, make)


def _make_whole(path: Path, make: Callable[[Path], None]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    unfinished = Path(name)
    try:
        make(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
