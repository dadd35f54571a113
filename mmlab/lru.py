"""Loads for every capacity at once, with LRU and with the optimal policy.

An *access* requests a model. A cache of *capacity* n holds up to n models. On a miss it loads the
model and, if it is full, evicts another. LRU, Beam's policy, evicts the least recently used model.
OPT evicts the model whose next access is furthest away, which gives the fewest possible loads
(Belady, "A study of replacement algorithms for a virtual-storage computer", 1966).

Both are stack algorithms (Mattson, Gecsei, Slutz and Traiger, "Evaluation techniques for storage
hierarchies", 1970): one list, the stack, contains every cache, because a cache of capacity n holds
its top n models. An access to the model in place d, its *stack distance*, misses in caches smaller
than d and hits in all others. So the counts of all distances give the loads for every capacity.

`_walk` keeps the list, for LRU and OPT. `_count` finds the distances of LRU without a list, for
long logs. Models are numbers from 0 on; arguments are never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

try:
    import numba
except ImportError:
    numba = None

_IS_FAST = numba is not None
"""Whether loops are compiled to machine code: `pip install "mmlab[fast]"` installs numba."""

Ints = npt.NDArray[Any]
"""An array of integers of any width."""

MOST_RELOADS = 0.05
"""A hint thrashes if more than this share of the accesses reload a model.

A share, because seconds of loading depend on the disk, and the number of reloads on the length of
the run.
"""

_Loop = TypeVar("_Loop", bound=Callable[..., None])

_LINE = 1 << 14
"""Accesses per call of `_count`, so that its arrays stay in the processor's L1 cache."""
_NOW = -(1 << 62)


def thrashes(reloads: Any, batches: Any, most: float = MOST_RELOADS) -> Any:
    """Whether a run, or each run of an array, reloads models too often.

    First loads do not count: no limit avoids them.

    Args:
      reloads: number of loads of models that the process has loaded before.
      batches: number of accesses.
      most: share of the accesses, 0 to 1.

    >>> thrashes(20, 24), thrashes(np.array([20, 1, 0]), 24).tolist()
    (True, [True, False, False])
    """
    return reloads > most * batches


def _compiled(loop: _Loop) -> _Loop:
    """Compile `loop` to machine code, cached on disk; without numba, return it unchanged."""
    if numba is None:
        return loop
    options = {"nogil": True, "boundscheck": False}
    try:
        fast: _Loop = numba.njit(cache=True, **options)(loop)
    except RuntimeError:  # numba has no writable folder for its cache: compile in every session
        fast = numba.njit(**options)(loop)
    return fast


def _run(loop: Callable[..., None], given: tuple[Ints, ...], filled: tuple[Ints, ...]) -> None:
    """Run a loop that reads the arrays `given` and fills the arrays `filled`."""
    if _IS_FAST:
        loop(*given, *filled)
        return
    lists = [array.tolist() for array in filled]  # Python reads lists faster than arrays
    loop(*(array.tolist() for array in given), *lists)
    for array, values in zip(filled, lists, strict=True):
        array[:] = values


# The stack as a list


def fewest_loads(accesses: Ints, models: int) -> Ints:
    """Loads of OPT with capacity 1, 2, … `models`.

    Args:
      accesses: shape (n,). All of them are needed at once, because OPT looks ahead.

    Returns:
      int64, shape (models,).

    >>> fewest_loads(np.array([0, 1, 2, 0, 1, 2]), 3)
    array([6, 4, 3])
    """
    accesses = np.ascontiguousarray(accesses, np.int32)
    due = np.zeros(len(accesses), np.int64)
    _run(_next_uses, (accesses,), (np.full(models, len(accesses)), due))
    distances, _ = _walked(accesses, due, np.zeros(0, np.int64), models)
    hits: Ints = np.cumsum(distances[1:])
    return len(accesses) - hits


def most_bytes(accesses: Ints, sizes: Ints) -> Ints:
    """Most bytes that LRU holds at once with capacity 1, 2, … models.

    Args:
      accesses: shape (n,).
      sizes: bytes of each model, int64, shape (models,).

    Returns:
      int64, shape (models,).

    >>> most_bytes(np.array([0, 1, 2, 0]), np.array([10, 20, 5]))
    array([20, 30, 35])
    """
    accesses = np.ascontiguousarray(accesses, np.int32)
    seen = np.bincount(accesses, minlength=len(sizes)) > 0
    if len(np.unique(sizes[seen])) <= 1:
        size = int(sizes[seen].max(initial=0))
        held: Ints = np.minimum(np.arange(1, len(sizes) + 1), seen.sum())
        return np.multiply(held, size)
    _, most = _walked(accesses, -np.arange(len(accesses)), sizes, len(sizes))
    most[seen.sum() :] = sizes[seen].sum()
    return most


def _walked(accesses: Ints, due: Ints, sizes: Ints, models: int) -> tuple[Ints, Ints]:
    """Run `_walk`; return the count of each stack distance (0: first access), and most bytes."""
    distances = np.zeros(models + 1, np.int64)
    stack, due_of, held, most = (np.zeros(models, np.int64) for _ in range(4))
    _run(_walk, (accesses, due, sizes), (stack, due_of, held, distances, most))
    return distances, most


@_compiled
def _next_uses(accesses, upcoming, due):  # type: ignore[no-untyped-def]  # numba infers
    """Fill `due` with the position of the next access to the same model.

    `upcoming` has the position of each model's next access; at the start, the number of accesses.
    """
    for t in range(len(accesses) - 1, -1, -1):
        due[t] = upcoming[accesses[t]]
        upcoming[accesses[t]] = t


@_compiled
def _walk(accesses, due, sizes, stack, due_of, held, distances, most):  # type: ignore[no-untyped-def]  # numba infers
    """Mattson's stack: `stack[:n]` holds the models of a cache of capacity n.

    An access puts its model on top and moves the top model down. In each place, the moving model
    and the model there are compared: the one that is due earlier stays, the other moves on down.
    This ends at the place that the accessed model came from. For OPT, `due` is the time of the next
    access; for LRU, the negative time of the access, so that models used earlier are due later.

    With `sizes`, `held[k]` is the sum of the bytes of the first k + 1 models.
    """
    seen = 0
    for t in range(len(accesses)):
        model = accesses[t]
        due_of[model] = _NOW
        moving = model
        k = 0
        while k < seen and stack[k] != model:
            other = stack[k]
            if due_of[other] > due_of[moving]:
                stack[k] = moving
                moving = other
            if len(sizes):
                held[k] += sizes[model] - sizes[moving]
                most[k] = max(most[k], held[k])
            k += 1
        stack[k] = moving
        due_of[model] = due[t]
        if k < seen:
            distances[k + 1] += 1
            continue
        distances[0] += 1
        seen += 1
        if len(sizes):
            held[k] = sizes[moving] + (held[k - 1] if k else 0)
            most[k] = held[k]


# LRU of long logs


@dataclass(frozen=True, eq=False)
class StackDistances:
    """How often each stack distance of LRU occurs in the accesses so far.

    Attributes:
      counts: int64, shape (models + 1,): `counts[d]` is the number of accesses with stack distance
        d; `counts[0]` is the number of first accesses. Distance 1 repeats the previous model.
      stack: models, int32, most recently used last; the state needed to add accesses.

    >>> found = StackDistances().after(np.array([0, 1, 1])).after(np.array([2, 0]))
    >>> found.counts.tolist(), found.stack.tolist(), found.loads(3).tolist()
    ([3, 1, 0, 1], [1, 2, 0], [4, 4, 3])
    """

    counts: Ints = field(default_factory=lambda: np.zeros(1, np.int64))
    stack: Ints = field(default_factory=lambda: np.zeros(0, np.int32))

    @property
    def accesses(self) -> int:
        return int(self.counts.sum())

    @property
    def models(self) -> int:
        """Number of distinct models accessed."""
        return int(self.counts[0])

    def after(self, accesses: Ints) -> StackDistances:
        """The distances with `accesses` added, shape (n,)."""
        stack = self.stack
        models = max(len(self.counts), int(accesses.max(initial=-1)) + 2) - 1
        counts = np.zeros(models + 1, np.int64)
        counts[: len(self.counts)] = self.counts
        step = max(_LINE, 4 * models) - len(stack)
        for begin in range(0, len(accesses), step):
            # Accessing the models of the stack in order, last one last, restores the stack.
            walk = np.concatenate([stack, accesses[begin : begin + step]]).astype(np.int32)
            counts[0] -= len(stack)
            is_again = walk[1:] == walk[:-1]  # repeats the previous model: the stack stays the same
            if found := np.count_nonzero(is_again):
                counts[1] += found
                walk = walk[np.append(True, ~is_again)]
            last = np.full(models, -1, np.int32)
            _run(_count, (walk,), (last, *_line_of(len(walk)), counts))
            stack = walk[last[walk] == np.arange(len(walk))]
        return StackDistances(counts, stack)

    def loads(self, models: int) -> Ints:
        """Loads with capacity 1, 2, … `models`; int64, shape (models,)."""
        hits = np.zeros(models, np.int64)
        known = self.counts[1 : models + 1]
        hits[: len(known)] = known
        return self.accesses - np.cumsum(hits)


def _line_of(accesses: int) -> tuple[Ints, Ints]:
    """The words and the tree of `_count`, with all bits set."""
    words = max(1 << (accesses - 1).bit_length(), 32) // 32
    levels = [np.full(1 << level, 32 * words >> level) for level in range(words.bit_length())]
    return np.full(words, 0xFFFFFFFF), np.concatenate([[0], *levels])


@_compiled
def _ones(word: Any) -> Any:
    """Number of set bits in the lower 32 bits of `word` (Warren, "Hacker's Delight")."""
    word -= (word >> 1) & 0x55555555
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F
    return (word * 0x01010101 >> 24) & 0xFF


@_compiled
def _count(walk, last, words, tree, counts):  # type: ignore[no-untyped-def]  # numba infers
    """Count the stack distances of LRU in `walk`, in logarithmic time each.

    The stack distance is the number of distinct models accessed since the previous access to the
    model, including that access (Bennett and Kruskal, "LRU stack processing", 1975). Each access
    has a bit, which is set as long as no later access has the same model. So each model seen has
    one set bit, and the distance is the number of models seen less the bits set before the previous
    access. The access then clears the bit of the previous one. Bits of future accesses are set from
    the start, which is harmless: they are never before the previous access.

    32 bits form a word. Words are the leaves of a binary tree stored as a heap: the children of
    node n are nodes 2 n and 2 n + 1, and each node has the number of bits set below it. The bits
    before a word are those of the left siblings on the path from the word to the root.
    """
    seen = 0
    for t in range(len(walk)):
        model = walk[t]
        before = last[model]
        last[model] = t
        if before < 0:
            counts[0] += 1
            seen += 1
            continue
        word = before >> 5
        bit = 1 << (before & 31)
        distance = seen - _ones(words[word] & (bit - 1))
        words[word] ^= bit
        node = len(words) + word
        while node > 1:
            # An odd node has a left sibling. A mask, since a branch would often be mispredicted.
            distance -= tree[node - 1] & -(node & 1)
            tree[node] -= 1
            node >>= 1
        counts[distance] += 1


# Batches


def batch_accesses(models: Ints, size: int) -> Ints:
    """Accesses of elements in batches: each batch accesses each of its models once.

    Args:
      models: model of each element, shape (n,).
      size: elements in a batch.

    Returns:
      Models in order of first occurrence in each batch, int32.

    >>> batch_accesses(np.array([0, 1, 0, 1, 1, 2]), 3).tolist()
    [0, 1, 1, 2]
    """
    models = np.ascontiguousarray(models, np.int32)
    if size == 1 or not len(models):
        return models
    batch_of = np.full(int(models.max()) + 1, -1)
    is_first = np.zeros(len(models), np.int8)
    _run(_first_in_batch, (models, np.arange(0, len(models), size)), (batch_of, is_first))
    return models[is_first > 0]


@_compiled
def _first_in_batch(models, begins, batch_of, is_first):  # type: ignore[no-untyped-def]  # numba infers
    """Set `is_first` for the first element of each model in a batch.

    `batch_of` is the latest batch of each model.
    """
    for batch in range(len(begins)):
        end = begins[batch + 1] if batch + 1 < len(begins) else len(models)
        for i in range(begins[batch], end):
            if batch_of[models[i]] != batch:
                batch_of[models[i]] = batch
                is_first[i] = 1
