"""Files that the lessons make once and keep in the cache: written whole, by one process."""

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
    """Whether the file `name` is in the cache."""
    return (cache_folder() / name).exists()


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cached file `name`, after making it with `make(path)` if it is missing.

    `make` writes to a temporary path, which is renamed when the file is complete. Other processes
    that need the file wait until it is made.
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
    """Write a Parquet file of scans; the column `pixels` has lists of 64 float32, or null."""
    rows = [None if scan is None else scan.ravel() for scan in columns["pixels"]]
    pixels = pa.array(rows, type=pa.list_(pa.float32()))
    pq.write_table(pa.table({**columns, "pixels": pixels}), path)
