"""Estimates of the memory that a run needs under a hint: a sum of inputs with their sources.

    need = beside + models + loading + evicted models in use + residue of reloads
           + what the allocator keeps + margin

The sum contains everything known to take memory; nothing is fitted. Each input is measured in a
run, given by the caller, or assumed. The assumptions are the constants below, measured with Beam
2.77 and PyTorch 2.13 on Linux.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mmlab._text import plural

RESIDENT = "resident set size"
ADDRESS_SPACE = "address space"

_SHARE_BYTES = 80_000_000
"""Address space that a run with one worker thread needs beside its models."""
_THREADED_SHARE_BYTES = 140_000_000
_WORKER_SHARE_BYTES = 50_000_000
"""Address space with several worker threads: the first once, and the second for each thread."""
RELOAD_ADDRESS_SPACE = 2_200_000
"""Address space that each reload leaves behind: two threads with their stacks."""
_RELOAD_RESIDENT = 50_000
"""Resident set size that each reload leaves behind."""
_KEPT_MODELS = 4
_MOST_KEPT_BYTES = 32 << 20
"""glibc returns freed blocks above this size at once. When models are evicted, it is assumed to
keep `_KEPT_MODELS` of those below."""
MARGIN = 0.05
"""Share of the estimate that is added for differences between runs."""

MEASURED = "measured in the trace"
GIVEN = "given"

_Bytes = npt.NDArray[np.int64]
_Hint = TypeVar("_Hint", int, npt.NDArray[Any])

_RESIDUE = "residue of reloads"


def limit_with(hint: _Hint, copies: int) -> _Hint:
    """Limit of a model manager, in models: each copy of the handler adds its hint.

    >>> limit_with(2, copies=3)
    6
    """
    return hint * copies


def copies_of_limit(limit: int, hint: int) -> int:
    """Number of copies of the handler that have added their hint to a limit, at least 1.

    >>> copies_of_limit(6, hint=2), copies_of_limit(1, hint=2)
    (3, 1)
    """
    return max(limit // hint, 1)


@dataclass(frozen=True)
class Figure:
    """A number of bytes and its source: "measured …", "given", or "assumed: …"."""

    bytes: int
    source: str


@dataclass(frozen=True)
class Input:
    """One summand of an estimate.

    Attributes:
      what: what takes the memory.
      bytes: size of that memory.
      source: source of the number.
    """

    what: str
    bytes: int
    source: str


@dataclass(frozen=True)
class Budget:
    """The memory that a run needs at every hint.

    Arrays have the shape (models,): entry h - 1 is hint h.

    Attributes:
      counts: `RESIDENT` or `ADDRESS_SPACE`.
      scope: where the memory is needed, such as "one machine with 2 processes".
      beside: bytes needed beside the models.
      models, models_source: most bytes of models held at once, and the source of their sizes.
      loading: additional bytes while models are loading.
      late: bytes of evicted models that are still in use, if models are evicted.
      evicts: whether models are evicted, bool.
      reloads: number of loads of evicted models.
      per_reload: bytes that each reload leaves behind.
      kept: bytes that the allocator keeps if models are evicted.
      margin: share of the sum that is added to it.
    """

    counts: str
    scope: str
    beside: Figure
    models: _Bytes
    models_source: str
    loading: Figure
    late: Figure
    evicts: npt.NDArray[np.bool_]
    reloads: _Bytes
    per_reload: Figure
    kept: Figure
    margin: float = MARGIN

    def inputs(self, hint: int) -> list[Input]:
        """Summands of one hint, with the margin last; summands of 0 bytes are left out."""
        i = hint - 1
        parts = [Input(what, int(n[i]), source) for what, n, source in self._parts]
        reloads = f"residue of {plural(int(self.reloads[i]), 'reload')}"
        named = [replace(p, what=reloads) if p.what == _RESIDUE else p for p in parts]
        margin = Input(
            "margin", int(self.need[i]) - sum(part.bytes for part in parts),
            f"assumed: {self.margin:.0%} of it",
        )  # fmt: skip
        return [part for part in [*named, margin] if part.bytes]

    @property
    def need(self) -> _Bytes:
        """Bytes needed, including the margin."""
        total: _Bytes = np.sum([n for _, n, _ in self._parts], axis=0)
        return total + np.round(total * self.margin).astype(np.int64)

    @property
    def _parts(self) -> list[tuple[str, _Bytes, str]]:
        """Name, bytes at each hint, and source of each summand."""
        always, evicts = np.ones_like(self.models), self.evicts.astype(np.int64)
        fixed = (
            ("beside the models", self.beside, always),
            ("loading", self.loading, always),
            ("evicted models still in use", self.late, evicts),
            (_RESIDUE, self.per_reload, self.reloads),
            ("kept by the allocator", self.kept, evicts),
        )
        beside, *others = [(what, f.bytes * times, f.source) for what, f, times in fixed]
        return [beside, ("models", self.models, self.models_source), *others]


AT_START_BYTES = 600_000_000
"""Resident set size of a process with Beam and PyTorch, before its first model."""


def resident_estimate(at_start: int, model: int, models: int) -> int:
    """Estimate the resident set size of a run that keeps all models.

    Args:
      at_start: resident set size before the first model.
      model: bytes of the largest loaded model.
      models: number of models.

    >>> resident_estimate(400_000_000, 64_000_000, 4)
    840000000
    """
    models += 1  # a loading model takes twice its size
    need = at_start + _SHARE_BYTES + models * model
    return round(need * (1 + MARGIN))


def assumed_share(workers: int) -> Figure:
    """Address space that Beam needs beside the models.

    >>> assumed_share(1).bytes, assumed_share(3).bytes
    (80000000, 290000000)
    """
    if workers == 1:
        return Figure(_SHARE_BYTES, "assumed: Beam's share with one worker thread")
    share = _THREADED_SHARE_BYTES + workers * _WORKER_SHARE_BYTES
    return Figure(share, f"assumed: Beam's share with {workers} worker threads")


def while_loading(measured: int | None, largest: int, workers: int) -> Figure:
    """Additional memory while models are loading: measured, or assumed to be their own size.

    >>> while_loading(None, 64_000_000, 2).bytes
    128000000
    """
    if measured is not None:
        return Figure(measured, f"{MEASURED}: peak RSS above that between loads")
    at_once = "" if workers == 1 else f", {workers} models at once"
    words = f"assumed: a model takes twice its size while it loads{at_once}"
    return Figure(largest * workers, words)


def still_in_use(measured: int | None, largest: int, workers: int) -> Figure:
    """Evicted models that other worker threads still use: measured, or one per other thread.

    >>> still_in_use(None, 64_000_000, 3).bytes, still_in_use(0, 64_000_000, 3).bytes
    (128000000, 0)
    """
    if measured is not None:
        return Figure(largest * measured, f"{MEASURED}: {plural(measured, 'model')} at most")
    others = workers - 1
    words = f"assumed: {plural(others, 'model')}, one for each other worker thread"
    return Figure(largest * others, words)


def kept_by_the_allocator(sizes: Iterable[int]) -> Figure:
    """Assumed memory that the allocator keeps when models are evicted.

    >>> kept_by_the_allocator([64_000_000, 20_000_000]).bytes
    80000000
    """
    small = max((size for size in sizes if size <= _MOST_KEPT_BYTES), default=0)
    return Figure(small * _KEPT_MODELS, f"assumed: {_KEPT_MODELS} models of at most 32 MiB")


def residue(counts: str) -> Figure:
    """Memory that each reload leaves behind."""
    resident = counts == RESIDENT
    each = _RELOAD_RESIDENT if resident else RELOAD_ADDRESS_SPACE
    return Figure(each, f"assumed: {each / 1e6:g} MB each")
