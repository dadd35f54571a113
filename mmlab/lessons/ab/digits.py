"""Handwritten digits from a scanner that adds grain, each with an id."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmlab.lessons.cache import made_once, write_scans
from mmlab.lessons.digits import pictures

GRAIN = 0.25
"""Standard deviation of the grain, where ink is 1 and paper is 0."""
_SEED = 7


def grainy(upright: np.ndarray, random: np.random.Generator, grain: float = GRAIN) -> np.ndarray:
    """`upright`, shape (n, 8, 8), with grain; values are clipped to 0 to 1."""
    return np.clip(upright + random.normal(0, grain, upright.shape), 0, 1)


def scans_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """The 480 test digits with grain, and their labels.

    Returns:
      Pictures, float32, shape (480, 8, 8); labels, int64, shape (480,).
    """
    upright, labels = pictures("test")
    return grainy(upright, np.random.default_rng(_SEED)).astype(np.float32), labels


def digits_file() -> Path:
    """A Parquet file of the 480 grainy test digits.

    Columns: `id` (string, `digit-000` … `digit-479`), `pixels` (64 float32, row by row), `label`
    (int64, the digit shown).
    """
    return made_once("grainy-digits.parquet", _write)


def _write(path: Path) -> None:
    scans, labels = scans_and_labels()
    ids = [f"digit-{i:03}" for i in range(len(labels))]
    write_scans(path, {"id": ids, "pixels": scans, "label": labels})
