"""The data of the lessons: handwritten digits from six scanners.

The pictures are scikit-learn's copy of the UCI set "Optical Recognition of Handwritten Digits":
1,797 digits of 8 by 8 pixels, which are part of the scikit-learn package.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch

from mmlab._arguments import whole_number
from mmlab.lessons.cache import made_once, write_scans

SIDE = 8
TEST_DIGITS = 480

_DISTORTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "upright": lambda pictures: pictures,
    "dark background": lambda pictures: 1 - pictures,
    "mirrored": lambda pictures: pictures[:, :, ::-1],
    "rotated": lambda pictures: np.rot90(pictures, axes=(1, 2)),
}
"""Name of a distortion to its function of pictures, shape (n, 8, 8), values 0 to 1."""

SCANNERS = {
    "KEY_1": "upright",
    "KEY_2": "dark background",
    "KEY_3": "dark background",
    "KEY_4": "mirrored",
    "KEY_5": "rotated",
    "KEY_6": "rotated",
}
"""Key of a scanner to its distortion."""

MAPPING = {
    "CONFIG_1": ("KEY_1",),
    "CONFIG_2": ("KEY_2", "KEY_3"),
    "CONFIG_3": ("KEY_4",),
    "CONFIG_4": ("KEY_5", "KEY_6"),
}
"""Name of a model to the keys of the scanners that it is trained for."""


@cache
def pictures(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Undistorted digits.

    Args:
      part: "train" (1,317 digits) or "test" (the other 480).

    Returns:
      Pictures, float32, shape (n, 8, 8), where 0 is paper and 1 is ink; labels, int64, shape (n,).
    """
    if part not in ("train", "test"):
        raise ValueError(f'part must be "train" or "test", got {part!r}')
    with np.load(made_once("digits.npz", _write_digits)) as digits:
        images, labels = digits["images"], digits["labels"]
    order = np.random.default_rng(2026).permutation(len(labels))
    chosen = order[:TEST_DIGITS] if part == "test" else order[TEST_DIGITS:]
    return (images[chosen] / 16).astype(np.float32), labels[chosen].astype(np.int64)


def _write_digits(path: Path) -> None:
    # Imported here, because the import takes a second and the file is made only once.
    from sklearn.datasets import load_digits

    digits = load_digits()
    with path.open("wb") as file:  # given a path, numpy would append ".npz"
        np.savez(file, images=digits.images, labels=digits.target)


def distorted(pictures: np.ndarray, key: str) -> np.ndarray:
    """`pictures`, shape (n, 8, 8), distorted by the scanner `key`; a contiguous copy."""
    return np.ascontiguousarray(_DISTORTIONS[SCANNERS[key]](pictures))


def scan(key: str, number: int) -> torch.Tensor:
    """Test digit `number` (0 to 479) distorted by the scanner `key`, float32, shape (64,)."""
    upright, _ = pictures("test")
    return torch.from_numpy(distorted(upright[number : number + 1], key).reshape(-1))


def true_digit(pixels: torch.Tensor) -> int:
    """The label of a scan from any scanner, looked up by its pixels, shape (64,).

    Raises:
      KeyError: the pixels are not a scan of the lessons.
    """
    return _digit_by_pixels()[pixels.detach().numpy().tobytes()]


@cache
def _digit_by_pixels() -> dict[bytes, int]:
    return {
        pixels.tobytes(): int(label)
        for part in ("train", "test")
        for key in SCANNERS
        for pixels, label in zip(distorted(pictures(part)[0], key), pictures(part)[1], strict=True)
    }


def scans_file(rows: int = TEST_DIGITS) -> Path:
    """A Parquet file of the first `rows` test digits, where the scanners take turns.

    Row i is from scanner `KEY_{i % 6 + 1}`. Columns: `key` (string), `pixels` (64 float32, row by
    row), `label` (int64, the digit shown).

    Raises:
      TypeError, ValueError: `rows` is not a whole number from 1 to 480.
    """
    rows = whole_number("rows", rows, most=TEST_DIGITS)
    return made_once(f"scans-{rows}.parquet", lambda path: _write_scans(path, rows))


def _write_scans(path: Path, rows: int) -> None:
    upright, labels = (part[:rows] for part in pictures("test"))
    keys = [list(SCANNERS)[i % len(SCANNERS)] for i in range(len(labels))]
    scans = [distorted(upright[i : i + 1], key) for i, key in enumerate(keys)]
    write_scans(path, {"key": keys, "pixels": scans, "label": labels})
