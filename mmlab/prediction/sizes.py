"""Most bytes of models held at once, for every number of models that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from mmlab._compiled import IS_FAST, compiled


def peak_bytes(visits: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Most bytes that an LRU cache with room for 1, 2, … models holds at once.

    What a cache of n models holds is the top n of the LRU stack. A model that comes up from depth d
    enters the tops 1 to d - 1, and pushes one model out of each.

    Args:
      visits: numbers of models in order, shape (n,).
      sizes: bytes of each model, int64, shape (models,).

    Returns:
      int64, shape (models,).
    """
    models = len(sizes)
    seen = np.bincount(visits, minlength=models) > 0
    if len(np.unique(sizes[seen])) <= 1:
        size = int(sizes[seen].max(initial=0))
        return np.minimum(np.arange(1, models + 1), seen.sum()) * size
    visits = np.ascontiguousarray(visits, np.int32)
    work = (visits, sizes, *(np.zeros(models, np.int64) for _ in range(3)))
    if IS_FAST:
        held = _walk(*work)
        peak = work[-1]
    else:
        work = tuple(array.tolist() for array in work)
        held = _walk(*work)
        peak = np.array(work[-1], np.int64)
    peak[held:] = sizes[seen].sum()
    return peak


@compiled
def _walk(visits, sizes, stack, top, peak):
    """Fill `peak`, where `top[k]` is what the k + 1 models last visited weigh together."""
    held = 0
    total = 0
    for visited in visits:
        size = sizes[visited]
        pushed = visited
        k = 0
        while k < held and stack[k] != visited:
            leaving = stack[k]
            stack[k] = pushed
            pushed = leaving
            top[k] += size - sizes[leaving]
            if top[k] > peak[k]:
                peak[k] = top[k]
            k += 1
        if k == held:
            held += 1
            total += size
            top[k] = total
            peak[k] = total
        stack[k] = pushed
    return held


def read_sizes(
    sizes: Mapping[Any, Real] | Sequence[Real] | Real, names: Sequence[str], needed: np.ndarray
) -> np.ndarray:
    """Bytes of each model, int64, in the order of `names`.

    Args:
      sizes: bytes by model name, or in the order of the models, or one number for all.
      needed: whether a model is visited at all, bool, shape (models,). Only those need a size.

    Raises:
      ValueError: a size is missing, negative or not finite; it is named.
      TypeError: a size is no number.
    """
    if isinstance(sizes, Mapping):
        given = [sizes.get(name) for name in names]
        unknown = [name for name in sizes if name not in set(names)]
        if unknown:
            raise ValueError(
                f"sizes names {unknown[0]!r}, which is no model: the models are {listed(names)}"
            )
    elif isinstance(sizes, Real) or np.ndim(sizes) == 0:
        given = [sizes] * len(names)
    else:
        given = list(sizes)
        if len(given) != len(names):
            raise ValueError(
                f"sizes has {len(given)} entries, but there are {len(names)} models: give bytes by "
                f"model name, or one number for each of {listed(names)}"
            )
    return np.array(
        [
            _size(size, name, used)
            for size, name, used in zip(given, names, needed.tolist(), strict=True)
        ],
        np.int64,
    )


def _size(size: Any, name: str, used: bool) -> int:
    if size is None or size != size:
        if used:
            raise ValueError(f"sizes has no bytes for model {name}: add them, or leave sizes out")
        return 0
    if not isinstance(size, Real | np.number) or isinstance(size, bool):
        raise TypeError(f"the size of model {name} is {size!r}: give a number of bytes")
    if size < 0 or size == float("inf"):
        raise ValueError(f"the size of model {name} is {size}: give a number of bytes, 0 or more")
    return round(size)


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names in a sentence.

    >>> listed(["a", "b", "c"], most=2)
    'a, b, … (3 in all)'
    """
    if len(names) <= most:
        return ", ".join(map(str, names))
    return f"{', '.join(map(str, names[:most]))}, … ({len(names)} in all)"
