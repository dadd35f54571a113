"""Files that the lessons make once and keep: written whole or not at all, by one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from mmlab._cache import VARIABLE, cache_folder
from mmlab._files import needing_space, whole


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
            with (
                needing_space(path, f"set {VARIABLE} to another folder"),
                whole(path) as unfinished,
            ):
                make(unfinished)
    return path


def write_scans(path: Path, columns: Mapping[str, Any]) -> None:
    """Write a Parquet file of scans; `pixels` are arrays or None, and become 64 float32 each."""
    rows = [None if scan is None else scan.ravel() for scan in columns["pixels"]]
    pixels = pa.array(rows, type=pa.list_(pa.float32()))
    pq.write_table(pa.table({**columns, "pixels": pixels}), path)
