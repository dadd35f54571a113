"""Which model manager an element reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args
from zlib import crc32

import numpy as np

Routing = Literal["spray", "by_key", "by_model"]
ROUTINGS: tuple[Routing, ...] = get_args(Routing)


def mixed(values: np.ndarray) -> np.ndarray:
    """A well-mixed 64-bit number for each of `values`, uint64 (Steele and others, SplitMix64)."""
    z = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def sprayed(start: int, count: int, managers: int, seed: int) -> np.ndarray:
    """Managers of the elements `start` to `start + count`: a fair draw for each, by its position.

    The same element is drawn the same whatever pieces the keys come in.
    """
    positions = np.arange(start, start + count, dtype=np.uint64)
    return (mixed(positions ^ mixed(np.array([seed]))) % np.uint64(managers)).astype(np.int32)


def by_name(names: Sequence[str], managers: int, seed: int) -> np.ndarray:
    """Managers of keys or models, by a hash of their name: the same name, the same manager."""
    sums = [crc32(name.encode("utf-8", "surrogatepass"), seed) for name in names]
    return (mixed(np.array(sums, np.uint64)) % np.uint64(managers)).astype(np.int32)
