"""Out of memory: the model that did not fit, the models held, and what to call next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmlab._arguments import parse_bytes
from mmlab._text import in_bytes, shown_everywhere
from mmlab.events import UNKNOWN, MemoryLimit, Unknown
from mmlab.state import UNSEEN, Residence, State

_SIGNS = (
    "can't allocate memory",  # torch, CPU
    "not enough memory: you tried to allocate",  # torch, CPU, Windows
    "cuda out of memory",
    "outofmemoryerror",  # torch, JAX
    "resource exhausted: out of memory",  # TensorFlow, JAX
    "resource_exhausted: out of memory",
    "unable to allocate",  # NumPy
    "memoryerror",  # Python
    "cannot allocate memory",  # operating system (ENOMEM)
    "bad_alloc",  # C++ library
    "thread creation failed",  # OpenMP
    "can't start new thread",  # Python
    "out-of-memory kill",  # mmlab: the kernel killed a fresh process
    "out of memory: the run waited",  # mmlab: a fresh process stalled at its memory limit
)
"""Parts of libraries' out-of-memory messages, in lower case."""

_KILLED = re.compile(r"SIGKILL|exit code -9\b|return code -9\b|returncode -9\b")
"""Messages about a killed process: the kernel, out of memory, or a user may have killed it."""

_ASKED = re.compile(r"allocate ([\d.]+) ?(bytes|[KMGT]?i?B)\b", re.IGNORECASE)


@shown_everywhere
@dataclass(frozen=True)
class OutOfMemory:
    """A run that ended out of memory.

    Attributes:
      step, model: step and model that was being loaded or used; None if not seen.
      loading: whether the model was being loaded, not used.
      at_ns: time of the failure, nanoseconds since the epoch.
      asked_bytes: size of the failed allocation, if the error contains it.
      held: number of models that the process held at that time.
      held_bytes: bytes of these models.
      peak_rss: highest resident set size of that process, bytes; None if unknown.
      process, processes: number of that process, ordered by first event, and number of processes.
      memory_limit: memory limit of the run, bytes; None without one.
      keyed: whether the step maps keys to several models, so that a hint can help.
      alone: whether the model was the first that its process loaded, so that no hint can help.
    """

    step: str | None
    model: str | None
    loading: bool
    at_ns: int
    asked_bytes: int | None
    held: int
    held_bytes: int | Unknown
    peak_rss: int | None
    process: int
    processes: int
    memory_limit: int | None
    keyed: bool
    alone: bool

    @property
    def what(self) -> str:
        """The model that did not fit, and the models held, in a sentence."""
        asked = f", {in_bytes(self.asked_bytes)} more were refused" if self.asked_bytes else ""
        limit = self.memory_limit
        under = "" if limit is None else f", under a memory limit of {in_bytes(limit)}"
        return f"{self._subject}: {self._holding}{asked}{under}."

    @property
    def _subject(self) -> str:
        if self.model is None:
            return "Memory ran out"
        if self.loading:
            return f"{self.model} did not fit"
        return f"Memory ran out while {self.model} answered"

    @property
    def where(self) -> str:
        """Peak memory and its process, in a sentence; empty if unknown."""
        peak = "" if self.peak_rss is None else f"Peak RSS was {in_bytes(self.peak_rss)}"
        if self.processes < 2:
            return f"{peak}." if peak else ""
        process = f"process {self.process} of {self.processes}"
        return f"{peak} in {process}." if peak else f"It was {process}."

    @property
    def advice(self) -> str:
        """What to call or compare next, in a sentence, without untested numbers."""
        if self.alone or not self.keyed:
            more = "Give a larger memory_limit" if self.memory_limit else "Take more memory"
            why = "not one model fits" if self.alone else "a step with one model has no hint"
            return f"{more} or smaller models: {why}."
        if self.memory_limit is not None:
            return (
                f"Call mmlab.fit_hint(build, memory_limit={_typed(self.memory_limit)!r}): it runs "
                "hints under this limit, and finds the highest that passes."
            )
        return (
            "Compare the peak RSS with the memory that the process may take, and the bytes of the "
            "models held with what mmlab.predict(trace) says of each hint; "
            "mmlab.fit_hint(build, memory_limit=…) runs hints under a limit."
        )

    @property
    def _holding(self) -> str:
        if self.held == 0:
            return "no other model was held" if self.loading else "no model was held yet"
        size = f" ({in_bytes(self.held_bytes)})" if isinstance(self.held_bytes, int) else ""
        return (
            f"1 model{size} was held" if self.held == 1 else f"{self.held} models{size} were held"
        )

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.where, self.advice) if part)


def is_out_of_memory(error: str | None, oom_kills: int | None = None) -> bool:
    """Whether the text of an error means out of memory.

    A killed process counts only if the kernel counted an out-of-memory kill.

    Args:
      oom_kills: number of out-of-memory kills by the kernel during the run.

    >>> is_out_of_memory("RuntimeError: … DefaultCPUAllocator: can't allocate memory: …")
    True
    >>> killed = "Killed: the process was ended by SIGKILL"
    >>> is_out_of_memory(killed), is_out_of_memory(killed, oom_kills=1)
    (False, True)
    """
    if error is None:
        return False
    if oom_kills and _KILLED.search(error):
        return True
    return any(sign in error.lower() for sign in _SIGNS)


def _asked_bytes(text: str) -> int | None:
    """Size of the failed allocation in the text of an error.

    >>> _asked_bytes("you tried to allocate 64000000 bytes. Error code 12")
    64000000
    >>> _asked_bytes("Unable to allocate 114. MiB for an array with shape (15000000,)")
    119537664
    """
    found = _ASKED.search(text)
    if found is None:
        return None
    unit = "" if found[2].lower() == "bytes" else found[2]
    try:
        return parse_bytes(f"{float(found[1])}{unit}")
    except ValueError:
        return None


def _typed(n: int) -> str:
    """Format bytes as an argument, such as `memory_limit`.

    >>> _typed(340_000_000), _typed(1_500_000_000), _typed(1 << 30)
    ('340MB', '1.5GB', '1073741824B')
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if n % (size // 10) == 0 and n >= size:
            return f"{n / size:g}{unit}"
    return f"{n}B"


def _total(held: Sequence[Residence]) -> int | Unknown:
    sizes = [r.bytes for r in held if isinstance(r.bytes, int)]
    return sum(sizes) if len(sizes) == len(held) else UNKNOWN


def _last_limit(state: State) -> int | None:
    limits = state.facts(MemoryLimit)
    return limits[-1].bytes if limits else None


def _is_keyed(state: State, step: str) -> bool:
    return any(model.keys for model in state.models if model.step == step)


def out_of_memory(state: State) -> OutOfMemory | None:
    """Describe why a run was out of memory; None if it was not."""
    culprit = _culprit(state)
    errors = [(culprit and culprit.error) or state.error, state.error]
    if not any(is_out_of_memory(error, state.oom_kills) for error in errors):
        return None
    process = culprit.process if culprit else state.largest_process
    step, model = (culprit.step, culprit.model) if culprit else (None, None)
    at_ns = _moment(culprit, state)
    held = _held(state, culprit, at_ns)
    loading = culprit is not None and culprit.load_end_ns is None
    before = any(r.loaded and r.process == process for r in state.residences)
    return OutOfMemory(
        step=step,
        model=model,
        loading=loading,
        at_ns=at_ns,
        asked_bytes=_asked_bytes(" ".join(map(str, errors))),
        held=len(held),
        held_bytes=_total(held),
        peak_rss=None if process is None else state.peak_rss_of(process),
        process=0 if process is None else state.processes_by_time.index(process) + 1,
        processes=len(state.processes),
        memory_limit=_last_limit(state),
        keyed=culprit is not None and _is_keyed(state, culprit.step),
        alone=loading and not held and not before,
    )


def _culprit(state: State) -> Residence | None:
    """The last load that failed or did not end; else the load whose batch failed or did not end."""
    for residence in reversed(state.residences):
        if residence.load_end_ns is None:
            return residence
    batches = state.batches
    unwell = (batches.end_ns == UNSEEN) | (batches.errors != None)  # noqa: E711 - elementwise
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
