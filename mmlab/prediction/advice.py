"""Advice: which hint to set, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from mmlab._arguments import parse_bytes
from mmlab._text import in_bytes, listed, plural, shown_everywhere, wrapped
from mmlab.budget import (
    ADDRESS_SPACE,
    GIVEN,
    MARGIN,
    MEASURED,
    RESIDENT,
    Budget,
    Figure,
    Input,
    assumed_share,
    kept_by_the_allocator,
    residue,
    still_in_use,
    while_loading,
)
from mmlab.events import SIZED_BY
from mmlab.lru import MOST_RELOADS, Ints, thrashes
from mmlab.prediction.loads import PredictedLoads
from mmlab.prediction.recorded import Measured

_IN_BESIDE = "in what is beside the models"
_LEAST_COPY = 0.25
"""Least surplus while models load that counts as a copy of a model, as a share of the smallest."""


class NoAdviceError(ValueError):
    """The input does not allow advice; the message says what is missing."""


@shown_everywhere
@dataclass(frozen=True)
class Advice:
    """A hint and its cost, or the reasons why no hint can be advised.

    Attributes:
      hint: the smallest hint that does not thrash and fits; None if no hint does both.
      calm: the smallest hint that does not thrash, whether it fits or not.
      fits: the largest hint that fits; None if none fits or no memory was given.
      counts: the kind of memory: "resident set size" or "address space".
      scope: whose memory is counted, such as "one machine with 2 processes".
      memory_bytes: estimated memory of `scope` at `hint` (else at `calm`); None if the sizes or the
        buffer are not known.
      inputs: the summands of the estimate, each with its source; the margin comes last.
      loads, evictions: of all processes, at `hint` (else at `fits`, else at `calm`).
      loading_seconds: time for these loads, one after another; None if not known.
      grouped_hint, grouped_loads: the smallest hint that does not thrash after a GroupByKey, and
        its loads.
      why: the reasons, in sentences.
    """

    hint: int | None
    calm: int
    fits: int | None
    counts: str
    scope: str
    memory_bytes: int | None
    inputs: tuple[Input, ...]
    loads: int
    evictions: int
    loading_seconds: float | None
    grouped_hint: int
    grouped_loads: int
    why: tuple[str, ...]

    def __repr__(self) -> str:
        head = "No hint can be advised" if self.hint is None else f"Set the hint to {self.hint}"
        lines = [head, *(wrapped(why, indent="  ", hanging="    ") for why in self.why)]
        if self.inputs:
            hint = self.hint or self.calm
            lines.append(f"  Estimate at hint {hint}: {self.counts} of {self.scope}")
            lines += [f"    {line}" for line in _table_of(self.inputs)]
        return "\n".join(lines)


def _table_of(inputs: tuple[Input, ...]) -> Iterator[str]:
    width = max(len(each.what) for each in inputs)
    for each in inputs:
        yield f"{each.what:<{width}}  {each.bytes / 1e6:>7,.1f} MB  {each.source}"


def advise(
    prediction: PredictedLoads,
    *,
    memory: float | str | None = None,
    memory_limit: int | str | None = None,
    buffer: float | str | None = None,
    load_seconds: float | Mapping[str, float] | None = None,
    most_reloads: float = MOST_RELOADS,
) -> Advice:
    """Return the smallest hint that does not thrash and fits into memory.

    The memory of a run is estimated (`mmlab.budget`); the advice lists the inputs of the estimate
    with their sources. `mmlab.fit_hint` runs the pipeline and measures instead.

    A hint thrashes if more than `most_reloads` of all accesses load a model that the process has
    held before. First loads do not count: no hint avoids them.

    Args:
      prediction: from `mmlab.predict`.
      memory: memory of one machine, in bytes or as text ("8GB"), compared with the sum of its
        processes' resident set sizes. None advises without a limit and says how much is needed.
      memory_limit: instead of `memory`, the limit of `run_fresh`, `compare_hints` and `fit_hint`:
        address space that each process may take beyond what PyTorch and Beam hold from the start.
      buffer: bytes that one process needs beside its models: interpreter and libraries,
        activations, the surplus while a model loads. None takes the trace's measurement. With
        `memory`, that is of a whole machine and includes processes without models. With
        `memory_limit`, it needs a run with such a limit; otherwise Beam's share is assumed.
      load_seconds: seconds per load, one number or by model name; None takes the trace's means.
        Several values are averaged over the models.
      most_reloads: share of accesses, 0 to 1.

    Raises:
      NoAdviceError: `memory` without sizes or buffer, a trace with missing events, or a log of keys
        in which no model comes twice.
      ValueError: a negative number, or both `memory` and `memory_limit`.
    """
    p = prediction
    if memory is not None and memory_limit is not None:
        raise ValueError("give memory, of a machine, or memory_limit, of each process: not both")
    counts = RESIDENT if memory_limit is None else ADDRESS_SPACE
    limit = _bytes(memory, "memory") if memory_limit is None else parse_bytes(memory_limit)
    beside = _bytes(buffer, "buffer")
    _check(most_reloads=most_reloads)
    if most_reloads > 1:
        raise ValueError(
            f"most_reloads must be a share of the accesses, 0 to 1, got {most_reloads}"
        )
    budget = _budget(p, counts, beside)
    _refuse(p, limit, budget)
    fits = None if limit is None or budget is None else _largest_that_fits(budget, limit)
    seconds = _seconds_per_load(p, load_seconds)
    facts = _facts(p, most_reloads, limit is None, fits, budget, seconds)
    return replace(facts, why=tuple(_why(p, facts, limit, seconds, budget)))


def _largest_that_fits(budget: Budget, memory: float) -> int | None:
    fitting = np.flatnonzero(budget.need <= memory)
    return int(fitting[-1]) + 1 if len(fitting) else None


def _facts(
    p: PredictedLoads,
    most_reloads: float,
    any_memory: bool,
    fits: int | None,
    budget: Budget | None,
    seconds: float | None,
) -> Advice:
    """The advice without its reasons."""
    calm = int(np.argmax(~thrashes(p.reloads, p.visits, most_reloads))) + 1
    hint = calm if any_memory or (fits is not None and fits >= calm) else None
    shown = hint or fits or calm
    counts = RESIDENT if budget is None else budget.counts
    grouped = p.grouped_by_key
    grouped_again = grouped - p.models_seen
    calm_grouped = ~thrashes(grouped_again, p.visits, most_reloads)
    grouped_hint = int(np.argmax(calm_grouped | (grouped_again <= grouped_again[-1]))) + 1
    return Advice(
        hint=hint,
        calm=calm,
        fits=fits,
        counts=counts,
        scope=_scope(p, counts),
        memory_bytes=None if budget is None else int(budget.need[(hint or calm) - 1]),
        inputs=() if budget is None else tuple(budget.inputs(hint or calm)),
        loads=int(p.loads[shown - 1]),
        evictions=int(p.evictions[shown - 1]),
        loading_seconds=None if seconds is None else float(p.loads[shown - 1] * seconds),
        grouped_hint=grouped_hint,
        grouped_loads=int(grouped[grouped_hint - 1]),
        why=(),
    )


def _bytes(value: Any, name: str) -> float | None:
    if isinstance(value, str):
        return parse_bytes(value, name)
    _check(**{name: value})
    return None if value is None else float(value)


def _scope(p: PredictedLoads, counts: str) -> str:
    if counts == ADDRESS_SPACE:
        return "one process, beyond what it held from the start"
    return f"one machine with {plural(p.processes, 'process')}"


def _budget(p: PredictedLoads, counts: str, buffer: float | None) -> Budget | None:
    """Memory for each hint; None if the sizes or the memory beside the models are not known."""
    beside = _beside(p, counts, buffer)
    measured, resident = p.measured, counts == RESIDENT
    models = p.machine_bytes if resident else p.model_bytes
    if p.sizes is None or models is None or beside is None:
        return None
    largest = int(p.sizes.max())
    loading = while_loading(_loading_copy(p), largest, p.copies)
    late = still_in_use(_late_models(p), largest, p.copies)
    kept = kept_by_the_allocator(p.sizes.tolist())
    if buffer is not None or resident:
        loading = late = kept = Figure(0, _IN_BESIDE)
    elif measured is not None and measured.reloads and measured.data_beside is not None:
        kept = Figure(0, _IN_BESIDE)
    return Budget(
        counts=counts,
        scope=_scope(p, counts),
        beside=beside,
        models=models,
        models_source=GIVEN if p.sizes_given else MEASURED,
        loading=loading,
        late=late,
        evicts=p.evictions > 0,
        reloads=p.reloads if resident else p.most_reloads,
        per_reload=Figure(0, GIVEN) if buffer is not None else residue(counts),
        kept=kept,
        margin=0.0 if buffer is not None else MARGIN,
    )


def _beside(p: PredictedLoads, counts: str, buffer: float | None) -> Figure | None:
    measured = p.measured
    if counts == ADDRESS_SPACE:
        if buffer is not None:
            return Figure(round(buffer), GIVEN)
        if measured is None or measured.data_beside is None:
            return assumed_share(p.copies)
        return Figure(measured.data_beside, f"{MEASURED}, models and residue taken off")
    if buffer is not None:
        each = "" if p.processes == 1 else f", for each of {plural(p.processes, 'process')}"
        return Figure(round(buffer * p.processes), f"{GIVEN}{each}")
    on_machine = measured.buffer_on_machine(p.processes) if measured else None
    if on_machine is None:
        return None
    return Figure(on_machine, f"{MEASURED}: peak RSS less models")


def _loading_copy(p: PredictedLoads) -> int | None:
    """Bytes of the copy that a model needs while it loads, from the peak of the trace.

    The peak may come from a small model. If it shows a copy, the largest model is assumed to need
    one too.
    """
    measured = _of_as_many_threads(p)
    if measured is None or measured.surplus is None or p.sizes is None:
        return None
    surplus, sizes = measured.surplus, p.sizes[p.sizes > 0]
    return max(surplus, int(sizes.max())) if surplus > _LEAST_COPY * sizes.min() else 0


def _check(**numbers: Any) -> None:
    for name, value in numbers.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
        if not 0 <= float(value) < float("inf"):
            raise ValueError(f"{name} must be a number, 0 or more, got {value}")


def _late_models(p: PredictedLoads) -> int | None:
    """Most evicted models still in use at once; None without a trace that has reloads."""
    measured = _of_as_many_threads(p)
    if measured is None or not measured.reloads or not isinstance(measured.limit, int):
        return None
    return max(measured.most_resident - measured.limit, 0)


def _of_as_many_threads(p: PredictedLoads) -> Measured | None:
    """Measurements of a trace with as many worker threads as the prediction; otherwise None."""
    return p.measured if p.measured is not None and p.measured.copies == p.copies else None


def _refuse(p: PredictedLoads, memory: float | None, budget: Budget | None) -> None:
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
    if budget is None:
        raise NoAdviceError(
            "a process needs memory beside its models, and how much is not known: give buffer= in "
            "bytes, or predict from a trace, which measures it"
        )


def _unsized(p: PredictedLoads) -> str:
    """The models without a size in the trace, in brackets."""
    if p.measured is None:
        return ""
    names = [name for name in p.models if name not in p.measured.sizes]
    return f" (the trace does not know that of {listed(names)})" if names else ""


def _estimated(p: PredictedLoads) -> Iterator[str]:
    """One sentence for each way in which the trace estimated sizes other than by tensors."""
    if p.measured is None or p.machine_bytes is None or p.sizes_given:
        return
    for how, words in SIZED_BY.items():
        names = [name for name in p.models if p.measured.sized_by.get(name) == how]
        if names and how != "tensors":
            yield (
                f"The size of {listed(names)} is an estimate by {words}: what a model takes in "
                "memory may differ; give sizes= to predict if you know it."
            )


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


def _why(
    p: PredictedLoads,
    a: Advice,
    memory: float | None,
    seconds: float | None,
    budget: Budget | None,
) -> Iterator[str]:
    def cost(loads: int) -> str:
        time = "" if seconds is None else f" ({_seconds_words(loads * seconds)} of loading)"
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
    if budget is None:
        yield "What memory it needs is not known: that takes the sizes of the models and a buffer."
    else:
        yield f"Hint {a.hint or a.calm} needs about {in_bytes(a.memory_bytes or 0)}."
    if memory is not None and budget is not None:
        yield from _fit_words(p, a, memory, budget.need, cost)
    if a.hint is not None:
        yield f"It costs {cost(a.loads)}, {_fewest(p, a.hint)}"
    yield _grouping(p, a, cost)
    yield from _estimated(p)
    yield from p.notes


def _fewest(p: PredictedLoads, hint: int) -> str:
    if p.optimum is None:
        return f"{plural(p.models_seen, 'model')} at least once each."
    best = int(p.optimum[hint - 1])
    if best == p.loads[hint - 1]:
        return "and no choice of what to evict could do with fewer."
    return f"where an optimal choice of what to evict would need {best:,}."


def _fit_words(
    p: PredictedLoads, a: Advice, memory: float, need: Ints, cost: Callable[[int], str]
) -> Iterator[str]:
    have = in_bytes(memory)
    whose = "A machine has" if a.counts == RESIDENT else "The memory limit is"
    if a.hint is not None:
        most = "all of them" if a.fits == len(p.models) else f"hints up to {a.fits}"
        yield f"{whose} {have}: room for {most}."
    elif a.fits is None:
        yield (
            f"{whose} {have}: not even hint 1 fits, which needs about {in_bytes(need[0])}. "
            f"{_what_would_fit(a, int(np.argmin(need)) + 1, int(need.min()))}"
        )
    else:
        yield (
            f"{whose} {have}: hint {a.fits} is the largest that fits, and it thrashes: "
            f"{cost(int(p.loads[a.fits - 1]))}."
        )


def _what_would_fit(a: Advice, hint: int, least: int) -> str:
    if a.counts == RESIDENT:
        return (
            f"A machine with {in_bytes(least)} would fit hint {hint}; so may smaller models, or "
            "fewer processes per machine."
        )
    return f"A limit of {in_bytes(least)} would fit hint {hint}; so may smaller models."


def _grouping(p: PredictedLoads, a: Advice, cost: Callable[[int], str]) -> str:
    if a.grouped_hint >= a.calm and a.grouped_loads >= a.loads:
        return "A GroupByKey before RunInference would not help."
    return (
        f"With a GroupByKey before RunInference, hint {a.grouped_hint} would do: "
        f"{cost(a.grouped_loads)}; it holds elements back until all of a window are there."
    )


def _seconds_words(seconds: float) -> str:
    """
    >>> _seconds_words(0.25), _seconds_words(900), _seconds_words(9000)
    ('0.2 s', '15 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:,.1f} s" if seconds < 10 else f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
