"""Which hint to set, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from mmlab._text import in_bytes, plural, shown_everywhere
from mmlab.events import SIZED_BY
from mmlab.prediction.result import MOST_RELOADS, PredictedLoads
from mmlab.prediction.sizes import listed
from mmlab.prediction.words import seconds_words


class NoAdviceError(ValueError):
    """The input does not allow advice; the sentence says what is missing."""


@shown_everywhere
@dataclass(frozen=True)
class Advice:
    """A hint and its price, or the reason why there is none.

    Attributes:
      hint: the smallest that does not thrash and fits; None when no hint does both.
      calm: the smallest hint that does not thrash, whether it fits or not.
      fits: the largest hint that fits; None where nothing fits, or no memory was given.
      memory_bytes: what one machine needs at `hint` (else at `calm`), buffer included; None when
        sizes or buffer are not known.
      model_bytes: the part of it that is models.
      buffer_bytes: what a process needs beside its models, as given or measured.
      machine_buffer_bytes: what a machine needs beside its models, in all its processes.
      loads, evictions: of all processes, at `hint` (else at `fits`, else at `calm`).
      loading_seconds: what these loads take, one after the other; None when not known.
      grouped_hint, grouped_loads: the smallest hint that does not thrash after a GroupByKey, and
        its loads.
      why: the reasons, in sentences.
    """

    hint: int | None
    calm: int
    fits: int | None
    memory_bytes: int | None
    model_bytes: int | None
    buffer_bytes: int | None
    machine_buffer_bytes: int | None
    loads: int
    evictions: int
    loading_seconds: float | None
    grouped_hint: int
    grouped_loads: int
    why: tuple[str, ...]

    def __repr__(self) -> str:
        head = "No hint can be advised" if self.hint is None else f"Set the hint to {self.hint}"
        return "\n".join([head, *(f"  {sentence}" for sentence in self.why)])


def advise(
    prediction: PredictedLoads,
    *,
    memory: float | None = None,
    buffer: float | None = None,
    load_seconds: float | Mapping[str, float] | None = None,
    most_reloads: float = MOST_RELOADS,
) -> Advice:
    """The smallest hint that does not thrash and fits into memory.

    A hint thrashes when more than `most_reloads` of all visits load a model that the process had
    held before. Loads for the first time cannot be saved by any hint.

    Args:
      prediction: from `mmlab.predict`.
      memory: bytes of one machine. None asks how much to buy.
      buffer: bytes that one process needs beside its models: interpreter and libraries,
        activations, the surplus while a model loads. None takes what the trace measured, of a
        machine: processes that held no model while others did count too.
      load_seconds: seconds per load, one number or by model name; None takes the trace's means.
        Several are averaged over the models.
      most_reloads: share of visits, 0 to 1.

    Raises:
      NoAdviceError: the input does not allow it: a memory without sizes or buffer, a trace with
        events missing, keys too few for any model to come twice.
      ValueError: a negative number.
    """
    p = prediction
    _check(memory=memory, buffer=buffer, most_reloads=most_reloads)
    if most_reloads > 1:
        raise ValueError(f"most_reloads is {most_reloads}: give a share of the visits, 0 to 1")
    measured = p.measured
    if buffer is not None:
        on_machine: float | None = buffer * p.processes
    else:
        buffer = measured.buffer_bytes if measured else None
        on_machine = measured.buffer_on_machine(p.processes) if measured else None
    _refuse(p, memory, on_machine)
    reloads = p.reloads
    calm = int(np.argmax(reloads <= most_reloads * p.visits)) + 1
    need = _need(p, on_machine)
    fits = None
    if memory is not None:
        fitting = np.flatnonzero(need <= memory)
        fits = int(fitting[-1]) + 1 if len(fitting) else None
    hint = calm if memory is None or (fits is not None and fits >= calm) else None
    shown = hint or fits or calm
    seconds = _seconds_per_load(p, load_seconds)
    grouped = p.grouped_by_key
    grouped_again = grouped - p.models_seen
    grouped_hint = int(np.argmax(grouped_again <= max(most_reloads * p.visits, grouped_again[-1])))
    grouped_hint += 1
    facts = Advice(
        hint=hint,
        calm=calm,
        fits=fits,
        memory_bytes=None if need is None else int(need[(hint or calm) - 1]),
        model_bytes=None if need is None else int(p.machine_bytes[(hint or calm) - 1]),
        buffer_bytes=None if buffer is None else round(buffer),
        machine_buffer_bytes=None if on_machine is None else round(on_machine),
        loads=int(p.loads[shown - 1]),
        evictions=int(p.evictions[shown - 1]),
        loading_seconds=None if seconds is None else float(p.loads[shown - 1] * seconds),
        grouped_hint=grouped_hint,
        grouped_loads=int(grouped[grouped_hint - 1]),
        why=(),
    )
    why = tuple(_why(p, facts, memory, seconds, most_reloads))
    return Advice(**{**vars(facts), "why": why})


def _check(**numbers: Any) -> None:
    for name, value in numbers.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name} is {value!r}: give a number")
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} is {value}: give a number, 0 or more")


def _refuse(p: PredictedLoads, memory: float | None, buffer: float | None) -> None:
    if p.measured is not None and not p.measured.whole:
        raise NoAdviceError(
            "the trace is of a run that did not end, or lacks events: what is missing could change "
            "every number. Record a whole run, or predict from its keys"
        )
    if p.visits == int(p.managers.models_seen.sum()):
        raise NoAdviceError(
            "no model comes twice in these keys, so they cannot tell which one is needed again: "
            "give a longer stretch of the log"
        )
    if memory is None:
        return
    if p.model_bytes is None:
        raise NoAdviceError(
            f"how many models fit cannot be told without their sizes{_unsized(p)}: give sizes= to "
            "predict, or predict from a trace that knows the bytes of every model"
        )
    if buffer is None:
        raise NoAdviceError(
            "a process needs memory beside its models, and how much is not known: give buffer= in "
            "bytes, or predict from a trace, which measures it"
        )


def _unsized(p: PredictedLoads) -> str:
    """Whose size the trace does not know, in brackets."""
    if p.measured is None:
        return ""
    names = [name for name in p.models if name not in p.measured.sizes]
    return f" (the trace does not know that of {listed(names)})" if names else ""


def _estimated(p: PredictedLoads) -> Iterator[str]:
    """What sizes that are not those of tensors rest on, where the trace's own were taken."""
    if p.measured is None or p.machine_bytes is None or p.sizes_given:
        return
    for how, words in SIZED_BY.items():
        names = [name for name in p.models if p.measured.sized_by.get(name) == how]
        if names and how != "tensors":
            yield (
                f"The size of {listed(names)} is an estimate by {words}: what a model takes in "
                "memory may differ; give sizes= to predict if you know it."
            )


def _need(p: PredictedLoads, buffer: float | None) -> np.ndarray | None:
    """Bytes of the fullest machine for every hint, `buffer` of it included; None when not known."""
    if p.machine_bytes is None or buffer is None:
        return None
    return p.machine_bytes + buffer


def _seconds_per_load(p: PredictedLoads, given: Any) -> float | None:
    if given is None:
        given = p.measured.load_seconds if p.measured else None
    if not given and given != 0:
        return None
    if isinstance(given, Mapping):
        known = [given[name] for name in p.models if name in given]
        if not known:
            raise ValueError(f"load_seconds names none of the models {listed(p.models)}")
        for value in known:
            _check(load_seconds=value)
        return float(np.mean(known))
    _check(load_seconds=given)
    return float(given)


def _why(p: PredictedLoads, a: Advice, memory: float | None, seconds: float | None, most: float):
    def cost(loads: int) -> str:
        time = "" if seconds is None else f" ({seconds_words(loads * seconds)} of loading)"
        return f"{plural(loads, 'load')}{time}"

    def thrashing(hint: int) -> str:
        share = p.reloads[hint - 1] / p.visits
        return (
            f"{share:.{0 if share > 0.1 else 1}%} of the visits load a model again"
            if share
            else "nothing loads again"
        )

    yield f"Hint {a.calm} is the smallest that does not thrash: {thrashing(a.calm)}."
    if a.calm > 1:
        yield f"Hint {a.calm - 1} does: {thrashing(a.calm - 1)}, {cost(int(p.loads[a.calm - 2]))}."
    need = _need(p, a.machine_buffer_bytes)
    if need is None:
        yield "What memory it needs is not known: that takes the sizes of the models and a buffer."
    else:
        machine = in_bytes(need[(a.hint or a.calm) - 1])
        yield (
            f"Hint {a.hint or a.calm} needs {machine} on a machine: {in_bytes(a.model_bytes)} "
            f"of models and {_beside(p, a)}."
        )
    if memory is not None:
        yield from _fit_words(p, a, memory, need, cost)
    if a.hint is not None:
        yield f"It costs {cost(a.loads)}, {_fewest(p, a.hint)}"
    yield _grouping(p, a, cost)
    yield from _estimated(p)
    yield from p.notes


def _beside(p: PredictedLoads, a: Advice) -> str:
    if a.machine_buffer_bytes != a.buffer_bytes * p.processes:
        return f"{in_bytes(a.machine_buffer_bytes)} beside them in all its processes"
    each = "" if p.processes == 1 else f" for each of {plural(p.processes, 'process')}"
    return f"{in_bytes(a.buffer_bytes)} beside them{each}"


def _fewest(p: PredictedLoads, hint: int) -> str:
    if p.optimum is None:
        return f"{plural(p.models_seen, 'model')} at least once each."
    best = int(p.optimum[hint - 1])
    if best == p.loads[hint - 1]:
        return "and no choice of what to evict could do with fewer."
    return f"where an optimal choice of what to evict would need {best:,}."


def _fit_words(p: PredictedLoads, a: Advice, memory: float, need: np.ndarray, cost: Any):
    have = in_bytes(memory)
    if a.hint is not None:
        most = "all of them" if a.fits == len(p.models) else f"hints up to {a.fits}"
        yield f"A machine has {have}: room for {most}."
    elif a.fits is None:
        yield (
            f"A machine has {have}: not even hint 1 fits, which needs {in_bytes(need[0])}. Take "
            "smaller models, fewer processes per machine, or more memory."
        )
    else:
        yield (
            f"A machine has {have}: hint {a.fits} is the largest that fits, and it thrashes: "
            f"{cost(int(p.loads[a.fits - 1]))}."
        )


def _grouping(p: PredictedLoads, a: Advice, cost: Any) -> str:
    if a.grouped_hint >= a.calm and a.grouped_loads >= a.loads:
        return "A GroupByKey before RunInference would not help."
    return (
        f"With a GroupByKey before RunInference, hint {a.grouped_hint} would do: "
        f"{cost(a.grouped_loads)}; it holds elements back until all of a window are there."
    )
