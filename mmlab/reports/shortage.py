"""Out of memory: which model did not fit, what was held, and what to change."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mmlab._text import shown_everywhere
from mmlab.events import UNKNOWN, MemoryLimit, Unknown
from mmlab.state import UNSEEN, Residence, State

SIGNS = (
    "defaultcpuallocator",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    "out of memory",
    "outofmemory",
    "memoryerror",
    "bad_alloc",
    "can't start new thread",
)
"""What torch, numpy, Python and the C++ library say when there is no memory left."""


@shown_everywhere
@dataclass(frozen=True)
class OutOfMemory:
    """A run that ended because something did not fit.

    Attributes:
      step, model: what was being loaded or used; None when that was not seen.
      loading: whether the model was being loaded, rather than used.
      at_ns: when, in nanoseconds since the epoch.
      asked_bytes: what the allocator was asked for, where it says so.
      held: number of models that the process held at that moment.
      held_bytes: their own bytes.
      memory_limit: bytes that the run was allowed to take; None without a limit.
      keyed: whether the step maps keys to several models, so that a hint can help.
      hint: `max_models_per_worker_hint` of the step; None without one, `UNKNOWN` where Beam hides
        it.
      limit: how many models its manager allowed, which is the hint times the workers that share
        them; None without one, `UNKNOWN` where Beam hides it.
    """

    step: str | None
    model: str | None
    loading: bool
    at_ns: int
    asked_bytes: int | None
    held: int
    held_bytes: int | Unknown
    memory_limit: int | None
    keyed: bool
    hint: int | Unknown | None = None
    limit: int | Unknown | None = None

    @property
    def what(self) -> str:
        """What did not fit beside what, in a sentence."""
        limit = self.memory_limit
        under = "" if limit is None else f" under a memory limit of {megabytes(limit)}"
        if self.model is None:
            return f"Memory ran out: {self._holding}{under}."
        if self.loading:
            return f"{self.model} did not fit: {self._holding}{under}."
        return f"Memory ran out while {self.model} answered: {self._holding}{under}."

    @property
    def advice(self) -> str:
        """What to change, in a sentence."""
        raise_it = "use a machine with more memory"
        if self.memory_limit is not None:
            raise_it = f"raise the memory limit above {megabytes(self._least)}"
        if self.model is None and self.held:
            return f"{raise_it[0].upper()}{raise_it[1:]}: each reload leaves threads behind."
        hint = self._lower_hint
        if hint < 1:
            return f"{raise_it[0].upper()}{raise_it[1:]}, or use smaller models."
        return f"Set max_models_per_worker_hint={hint}, or {raise_it}."

    @property
    def _lower_hint(self) -> int:
        """A hint that lets fewer models stay than there were; 0 where there is none."""
        if not self.keyed or self.held == 0:
            return 0
        fits = self.held if self.loading else self.held - 1
        if not isinstance(self.hint, int):
            return fits
        workers = max((_known(self.limit) or 0) // self.hint, 1)
        return min(fits // workers, self.hint - 1)

    @property
    def _least(self) -> int:
        return (self.memory_limit or 0) + (self.asked_bytes or 0)

    @property
    def _holding(self) -> str:
        if self.held == 0:
            return "no other model was held" if self.loading else "no model was held yet"
        held_bytes = _known(self.held_bytes)
        size = f" ({megabytes(held_bytes)})" if held_bytes else ""
        return (
            f"1 model{size} was held" if self.held == 1 else f"{self.held} models{size} were held"
        )

    def __str__(self) -> str:
        return f"{self.what} {self.advice}"


def is_out_of_memory(error: str | None) -> bool:
    """Whether the text of an error speaks of memory that could not be had.

    >>> is_out_of_memory("RuntimeError: … DefaultCPUAllocator: can't allocate memory: …")
    True
    """
    return error is not None and any(sign in error.lower() for sign in SIGNS)


def megabytes(n: int) -> str:
    """Bytes as sentences write them.

    >>> megabytes(63_500_000)
    '64 MB'
    """
    return f"{n / 1e6:,.0f} MB"


def out_of_memory(state: State) -> OutOfMemory | None:
    """Why a run ran out of memory; None when it did not."""
    culprit = _culprit(state)
    error = culprit.error if culprit and culprit.error else state.error
    if not is_out_of_memory(error) and not is_out_of_memory(state.error):
        return None
    limits = state.facts(MemoryLimit)
    at_ns = _moment(culprit, state)
    held = _held(state, culprit, at_ns)
    sizes = [r.bytes for r in held if isinstance(r.bytes, int)]
    cards = [m for m in state.models if culprit and m.step == culprit.step]
    ruled = state.limits(culprit.step) if culprit else []
    asked = re.search(r"allocate (\d+) bytes", f"{error} {state.error}")
    return OutOfMemory(
        step=culprit.step if culprit else None,
        model=culprit.model if culprit else None,
        loading=culprit is not None and culprit.load_end_ns is None,
        at_ns=at_ns,
        asked_bytes=int(asked[1]) if asked else None,
        held=len(held),
        held_bytes=sum(sizes) if len(sizes) == len(held) else UNKNOWN,
        memory_limit=limits[-1].bytes if limits else None,
        keyed=any(card.keys for card in cards),
        hint=cards[0].hint if cards else None,
        limit=ruled[-1].limit if ruled else None,
    )


def _known(number: int | Unknown | None) -> int | None:
    return number if isinstance(number, int) else None


def _culprit(state: State) -> Residence | None:
    """The load that failed or never ended; else the model whose batch failed or never ended."""
    for residence in reversed(state.residences):
        if residence.load_end_ns is None:
            return residence
    batches = state.batches
    unwell = (batches.end_ns == UNSEEN) | (batches.errors != None)  # noqa: E711 - of each element
    rows = np.flatnonzero(unwell & (batches.residence >= 0))
    return state.residences[batches.residence[rows[-1]]] if len(rows) else None


def _moment(culprit: Residence | None, state: State) -> int:
    if culprit is not None and culprit.load_end_ns is None and culprit.free_ns is not None:
        return culprit.free_ns
    return state.end_ns


def _held(state: State, culprit: Residence | None, at_ns: int) -> list[Residence]:
    moment = min(at_ns, state.end_ns - 1)
    held = [r for r in state.residences if r.resident_at(moment)]
    return held if culprit is None else [r for r in held if r.process == culprit.process]
