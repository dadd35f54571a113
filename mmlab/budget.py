"""The memory that a run needs under a hint: an estimate, as a sum of inputs with their sources.

    need = beside + models + loading + evicted models in use + residue of reloads
           + what the allocator keeps + margin

It is a sum of what is known to take memory, and is fitted to nothing. Each input is measured in a
run, given by the caller, or assumed; the assumptions are the constants below, measured with Beam
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

SHARE_BYTES = 80_000_000
"""Address space that a run of one worker thread needs beside its models."""
THREADED_SHARE_BYTES = 140_000_000
WORKER_SHARE_BYTES = 50_000_000
"""With several worker threads, it needs the first once and the second for each of them."""
RELOAD_ADDRESS_SPACE = 2_200_000
"""What stays of the address space after each reload: two threads with their stacks."""
RELOAD_RESIDENT = 50_000
"""What stays of the resident set size."""
KEPT_MODELS = 4
MOST_KEPT_BYTES = 32 << 20
"""glibc gives blocks above this size back at once. Of smaller ones it keeps some: the assumption is
so many models, when models are evicted."""
MARGIN = 0.05
"""Of the estimate, for what differs from run to run."""

MEASURED = "measured in the trace"
GIVEN = "given"

Bytes = npt.NDArray[np.int64]
_Hint = TypeVar("_Hint", int, npt.NDArray[Any])

_RESIDUE = "residue of reloads"


def limit_with(hint: _Hint, copies: int) -> _Hint:
    """How many models a manager will hold: each copy of the handler adds its hint to the limit.

    >>> limit_with(2, copies=3)
    6
    """
    return hint * copies


def copies_of_limit(limit: int, hint: int) -> int:
    """How many copies of the handler have added their hint to a limit, at least 1.

    >>> copies_of_limit(6, hint=2), copies_of_limit(1, hint=2)
    (3, 1)
    """
    return max(limit // hint, 1)


@dataclass(frozen=True)
class Figure:
    """A number of bytes, and where it comes from: "measured …", "given", or "assumed: …"."""

    bytes: int
    source: str


@dataclass(frozen=True)
class Input:
    """One summand of an estimate.

    Attributes:
      what: what takes the memory.
      bytes: how much it takes.
      source: where the number comes from.
    """

    what: str
    bytes: int
    source: str


@dataclass(frozen=True)
class Budget:
    """What a run needs, at every hint.

    Arrays have the shape (models,): entry h - 1 is hint h.

    Attributes:
      counts: `RESIDENT` or `ADDRESS_SPACE`.
      scope: whose memory it is, such as "one machine with 2 processes".
      beside: what is needed beside the models.
      models, models_source: most bytes of models held at once, and where their sizes come from.
      loading: what models need beside themselves while they load.
      late: evicted models that are still in use, where models are evicted.
      evicts: whether models are evicted, bool.
      reloads: loads of models that had been evicted.
      per_reload: what stays of each.
      kept: what the allocator keeps where models are evicted.
      margin: share of the sum that is added to it.
    """

    counts: str
    scope: str
    beside: Figure
    models: Bytes
    models_source: str
    loading: Figure
    late: Figure
    evicts: npt.NDArray[np.bool_]
    reloads: Bytes
    per_reload: Figure
    kept: Figure
    margin: float = MARGIN

    def inputs(self, hint: int) -> list[Input]:
        """The summands of one hint, the margin last; those of 0 bytes are left out."""
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
    def need(self) -> Bytes:
        """Bytes needed, margin included."""
        total: Bytes = np.sum([n for _, n, _ in self._parts], axis=0)
        return total + np.round(total * self.margin).astype(np.int64)

    @property
    def _parts(self) -> list[tuple[str, Bytes, str]]:
        """What takes memory, bytes at each hint, and where they come from."""
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
    """Resident set size of a run that keeps all its models, before such a run has ended.

    Args:
      at_start: resident set size before the first model.
      model: bytes of the largest model that was loaded.
      models: how many there are.

    >>> resident_estimate(400_000_000, 64_000_000, 4)
    840000000
    """
    models += 1  # one is loading, which takes twice its size
    need = at_start + SHARE_BYTES + models * model
    return round(need * (1 + MARGIN))


def assumed_share(workers: int) -> Figure:
    """Address space that Beam needs beside the models.

    >>> assumed_share(1).bytes, assumed_share(3).bytes
    (80000000, 290000000)
    """
    if workers == 1:
        return Figure(SHARE_BYTES, "assumed: Beam's share with one worker thread")
    share = THREADED_SHARE_BYTES + workers * WORKER_SHARE_BYTES
    return Figure(share, f"assumed: Beam's share with {workers} worker threads")


def while_loading(measured: int | None, largest: int, workers: int) -> Figure:
    """What models need beside themselves while they load: measured, or as much again.

    >>> while_loading(None, 64_000_000, 2).bytes
    128000000
    """
    if measured is not None:
        return Figure(measured, f"{MEASURED}: peak RSS above that between loads")
    at_once = "" if workers == 1 else f", {workers} models at once"
    words = f"assumed: a model takes twice its size while it loads{at_once}"
    return Figure(largest * workers, words)


def still_in_use(measured: int | None, largest: int, workers: int) -> Figure:
    """Evicted models that other worker threads use: so many were measured, or one for each.

    >>> still_in_use(None, 64_000_000, 3).bytes, still_in_use(0, 64_000_000, 3).bytes
    (128000000, 0)
    """
    if measured is not None:
        return Figure(largest * measured, f"{MEASURED}: {plural(measured, 'model')} at most")
    others = workers - 1
    words = f"assumed: {plural(others, 'model')}, one for each other worker thread"
    return Figure(largest * others, words)


def kept_by_the_allocator(sizes: Iterable[int]) -> Figure:
    """What is not given back when models are evicted, where that was not measured.

    >>> kept_by_the_allocator([64_000_000, 20_000_000]).bytes
    80000000
    """
    small = max((size for size in sizes if size <= MOST_KEPT_BYTES), default=0)
    return Figure(small * KEPT_MODELS, f"assumed: {KEPT_MODELS} models of at most 32 MiB")


def residue(counts: str) -> Figure:
    """What stays of each reload."""
    resident = counts == RESIDENT
    each = RELOAD_RESIDENT if resident else RELOAD_ADDRESS_SPACE
    return Figure(each, f"assumed: {each / 1e6:g} MB each")
