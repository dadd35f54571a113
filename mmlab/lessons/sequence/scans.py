"""Handwritten digits from a scanner with a failing lamp: shadow, weak contrast, and grain."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np

from mmlab._arguments import whole_number
from mmlab.lessons.cache import made_once, write_scans
from mmlab.lessons.digits import SIDE, TEST_DIGITS, pictures

_CONTRAST = 0.4
_GRAIN = 0.08
_SEED = 2026

_FEW = 24
TORN = ("scan-005", "scan-014")
"""Scans of `damaged_file` that have only their first 40 pixels."""
BLANK = "scan-019"
"""The scan of `damaged_file` whose pixels are all NaN."""
_MISSING = "scan-021"
"""The scan of `damaged_file` without pixels."""


def noisy(upright: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """`upright`, shape (n, 8, 8), scanned with a failing lamp; float32, values between 0 and 1.

    Each scan has a shadow from a random direction, 40% of the contrast, and grain.
    """
    along = np.linspace(-1, 1, SIDE)
    angle = random.uniform(0, 2 * np.pi, (len(upright), 1, 1))
    ramp = np.cos(angle) * along + np.sin(angle) * along[:, None]
    shadow = (1 - _CONTRAST) * (ramp / np.sqrt(2) + 1) / 2
    grain = random.normal(0, _GRAIN, upright.shape)
    pixels: np.ndarray = np.clip(_CONTRAST * upright + shadow + grain, 0, 1)
    return pixels.astype(np.float32)


def scans_file(rows: int = TEST_DIGITS, lamp: str = "old") -> Path:
    """A Parquet file of the first `rows` of the 480 test digits.

    Columns: `id` (string, `scan-000` … `scan-479`) and `pixels` (64 float32, row by row).

    Args:
      rows: number of digits.
      lamp: "old" for noisy scans, "new" for clean ones.

    Raises:
      TypeError, ValueError: `rows` is not a whole number from 1 to 480, or `lamp` is not valid.
    """
    rows = whole_number("rows", rows, most=TEST_DIGITS)
    if lamp not in ("old", "new"):
        raise ValueError(f'lamp must be "old" or "new", got {lamp!r}')
    scans = _scans() if lamp == "old" else _clean_scans()
    return made_once(f"{lamp}-lamp-{rows}.parquet", lambda path: _write(path, scans[:rows]))


def damaged_file() -> Path:
    """A Parquet file of the first 24 noisy scans: two torn, one without pixels, one all NaN."""
    return made_once("damaged-scans.parquet", lambda path: _write(path, _damaged()))


def label_of(scan: str) -> int:
    """The digit shown by the scan named `scan-000` … `scan-479`."""
    return int(pictures("test")[1][int(scan.removeprefix("scan-"))])


def written(scan: str) -> np.ndarray:
    """The picture before it was scanned, shape (8, 8)."""
    upright, _ = pictures("test")
    digit: np.ndarray = upright[int(scan.removeprefix("scan-"))]
    return digit


def _name_of(number: int) -> str:
    """
    >>> _name_of(7)
    'scan-007'
    """
    return f"scan-{number:03d}"


@cache
def _scans() -> np.ndarray:
    upright, _ = pictures("test")
    return noisy(upright, np.random.default_rng(_SEED)).reshape(len(upright), -1)


def _clean_scans() -> np.ndarray:
    upright, _ = pictures("test")
    return upright.reshape(len(upright), -1)


def _damaged() -> list[np.ndarray | None]:
    intact = {_name_of(i): pixels for i, pixels in enumerate(_scans()[:_FEW])}
    scans: dict[str, np.ndarray | None] = dict(intact)
    for name in TORN:
        scans[name] = intact[name][:40]
    scans[BLANK] = np.full(SIDE * SIDE, np.nan, np.float32)
    scans[_MISSING] = None
    return list(scans.values())


def _write(path: Path, scans: Iterable[np.ndarray | None]) -> None:
    rows = list(scans)
    write_scans(path, {"id": [_name_of(i) for i in range(len(rows))], "pixels": rows})


def first_scans(count: int) -> list[tuple[str, np.ndarray]]:
    """Pairs of name and pixels, shape (64,), of the first noisy scans."""
    return [(_name_of(i), pixels) for i, pixels in enumerate(_scans()[:count])]
