"""Summaries of a run: totals, and counts for each model."""

from __future__ import annotations

import enum
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mmlab._text import in_megabytes, or_none, plural, shown_everywhere
from mmlab.events import (
    SIZED_BY,
    UNKNOWN,
    Limit,
    Refreshes,
    Unknown,
    Unobserved,
    printable,
)
from mmlab.state import NS, Residence, State, covered_ns, held_over_time, most_bytes_held


class Differs(enum.Enum):
    """The type of `DIFFERS`."""

    DIFFERS = "differs"

    def __repr__(self) -> str:
        return self.value

    __str__ = __repr__


DIFFERS: Literal[Differs.DIFFERS] = Differs.DIFFERS
"""The hint or limit of a run whose steps have different ones: see `Summary.limits`.

It differs from None, which means that no step has a hint or limit.
"""


@shown_everywhere
@dataclass(frozen=True)
class StepLimit:
    """The hint and the effective limit of one step.

    Attributes:
      step: label of the step.
      hint: `max_models_per_worker_hint` as given; None without one.
      limit: highest effective limit, in models; None without a limit, or before the
        model manager was created.
    """

    step: str
    hint: int | Unknown | None
    limit: int | Unknown | None


@shown_everywhere
@dataclass(frozen=True)
class ModelCounts:
    """Counts of one model in a run, over all processes.

    Attributes:
      loads, reloads, evictions, uses, elements: counts; a use is one batch in one model.
      load_seconds: total time of loads.
      keys: number of elements per key.
      refreshes: number of times that the path of the loaded model was replaced.
      failed: number of batches that ended with an exception.
      timed_out: number of batches that Beam stopped waiting for; they do not count as failed.
      already: number of processes that held the model before the run.
      bytes: size of the model; the largest of all loads.
      sized_by: source of `bytes`, one of `mmlab.events.SIZED_BY`; None if `bytes` is unknown.
    """

    step: str
    model: str
    loads: int
    reloads: int
    evictions: int
    uses: int
    elements: int
    load_seconds: float
    keys: dict[str, int] = field(default_factory=dict)
    refreshes: int = 0
    failed: int = 0
    timed_out: int = 0
    already: int = 0
    bytes: int | Unknown = UNKNOWN
    sized_by: str | None = None


@shown_everywhere
@dataclass(frozen=True)
class Summary:
    """Totals of a run.

    Attributes:
      loads: number of successful loads; `reloads` of them followed an eviction of the model in the
        same process.
      evictions: number of models that the model manager dropped.
      uses: number of batches in models; a batch in two models counts twice.
      elements: number of elements in those batches.
      most_resident: most models held at once by one process, including evicted models that are
        not freed.
      hint: `max_models_per_worker_hint` as given; None without one, `DIFFERS` if steps differ.
      limit: highest effective limit, in models; None without a limit, `DIFFERS` if
        steps differ.
      load_seconds: total time of loads.
      loading_share: share of the wall time in which at least one model was loading, 0 to 1.
      wall_seconds: time from the submission to the end.
      model_bytes: most bytes of models held at once by one process.
      rss_bytes: resident set size at the end, of the worker process with the highest peak.
      peak_rss_bytes: highest resident set size of that process during the run.
      device_bytes: most GPU memory allocated by one process; None without a GPU.
      refreshes: number of times that the path of a loaded model was replaced.
      limits: hint and limit of each step that maps keys to models.
      already: number of models in memory before the run, loaded by an earlier run.
      failed: number of batches in models that ended with an exception.
      timed_out: number of batches that Beam stopped waiting for.
      dead_letters: number of failed batches in dead-letter outputs, including batches that timed
        out or failed before they reached a model.
      retried: number of failed batches that the runner repeated; unknown if the run failed.
      sized_by: sources of the bytes of models, from `mmlab.events.SIZED_BY`.
      processes: most processes with recorded memory on one machine at the same time.
      machine_model_bytes: most bytes of models held at once by all processes of one machine.
      machine_peak_rss_bytes: highest sum of the resident set sizes of processes that ran on one
        machine at the same time. Shared pages count once per process.
    """

    loads: int
    reloads: int
    evictions: int
    uses: int
    elements: int
    most_resident: int
    hint: int | Unknown | Differs | None
    limit: int | Unknown | Differs | None
    load_seconds: float
    loading_share: float
    wall_seconds: float
    model_bytes: int | Unknown
    rss_bytes: int | None
    peak_rss_bytes: int | None
    device_bytes: int | None
    refreshes: int = 0
    limits: tuple[StepLimit, ...] = ()
    already: int = 0
    failed: int = 0
    timed_out: int = 0
    dead_letters: int = 0
    retried: int | Unknown = 0
    sized_by: tuple[str, ...] = ()
    processes: int = 0
    machine_model_bytes: int | Unknown = UNKNOWN
    machine_peak_rss_bytes: int | None = None

    _COUNTS = ("loads", "reloads", "evictions", "uses", "elements", "most_resident")

    def counts(self) -> dict[str, int | Unknown | Differs | None]:
        """The integers of the summary: equal on every machine if batches have a fixed size."""
        return {name: getattr(self, name) for name in (*self._COUNTS, "hint", "limit")}

    def __str__(self) -> str:
        return "\n".join(f"{name:<20}{value}" for name, value in _wording(self))

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align:left">{name}</th>'
            f'<td style="text-align:right">{value}</td></tr>'
            for name, value in _wording(self)
        )
        return f"<table>{rows}</table>"


def summarize(state: State) -> Summary:
    """Summarize a run."""
    counts, memory, limits = state.counts, state.memory, step_limits(state)
    loading = [r.loading for r in state.residences]
    wall_ns, machines = state.end_ns - state.start_ns, state.machines.values()
    return Summary(
        loads=counts.loads,
        reloads=counts.reloads,
        evictions=counts.evictions,
        uses=counts.uses,
        elements=counts.elements,
        most_resident=max(
            (_most(group) for group in state.residences_by_process.values()), default=0
        ),
        hint=_one_of(each.hint for each in limits),
        limit=_one_of(each.limit for each in limits),
        load_seconds=sum(end - begin for begin, end in loading) * NS,
        loading_share=covered_ns(loading) / wall_ns if wall_ns else 0.0,
        wall_seconds=wall_ns * NS,
        model_bytes=most_bytes_held(state.residences_by_process.values()),
        rss_bytes=memory.rss,
        peak_rss_bytes=memory.peak_rss,
        device_bytes=memory.device_bytes,
        refreshes=counts.refreshes,
        limits=limits,
        already=counts.already,
        failed=counts.failed,
        timed_out=counts.timed_out,
        dead_letters=counts.dead_letters,
        retried=_retried(state),
        sized_by=_sized_by(state.residences),
        processes=max((each.processes for each in machines), default=0),
        machine_model_bytes=most_bytes_held(state.residences_by_machine.values()),
        machine_peak_rss_bytes=max((each.peak_rss for each in machines), default=None),
    )


def _retried(state: State) -> int | Unknown:
    """Number of failed batches that the runner repeated; unknown if the run failed.

    A failure that the step does not handle fails the bundle. So if the run succeeded, the runner
    must have repeated the bundle; if it failed, the number of repetitions is unknown.
    """
    failed: Counter[str] = Counter()
    batches = state.batches
    for place in batches.asked[batches.failed].tolist():
        failed[batches.models[place][0]] += 1
    let_through = sum(n for step, n in failed.items() if step not in state.dead_letters)
    return let_through if let_through == 0 or state.state == "DONE" else UNKNOWN


def _sized_by(residences: Iterable[Residence]) -> tuple[str, ...]:
    """Sources of the bytes of models, in the order of `mmlab.events.SIZED_BY`."""
    found = {r.sized_by for r in residences if isinstance(r.bytes, int)}
    return tuple(how for how in SIZED_BY if how in found)


def size_words(how: Iterable[str]) -> str:
    """Describe the sources of the bytes of models; empty if all are tensors or arrays.

    >>> size_words(("tensors",)), size_words(("tensors", "file"))
    ('', ' (by their own tensors or arrays, or the files of their weights)')
    """
    words = [SIZED_BY[one] for one in how if one in SIZED_BY]
    return f" (by {', or '.join(words)})" if words != [SIZED_BY["tensors"]] and words else ""


def step_limits(state: State) -> tuple[StepLimit, ...]:
    """Hint and limit of each step with a model manager, in the order of the models.

    Steps with one model have no model manager, and so neither a hint nor a limit.
    """
    hints: dict[str, int | Unknown | None] = {}
    for model in state.models:
        if model.hint is not None or model.keys or model.cohort is not None:
            hints.setdefault(model.step, model.hint)
    return tuple(StepLimit(step, hint, _limit_of(state, step)) for step, hint in hints.items())


def _limit_of(state: State, step: str) -> int | Unknown | None:
    """Highest effective limit of a step; steps may share a model manager."""
    together = next((steps for steps in state.sharing if step in steps), (step,))
    limits = [e.limit for e in state.facts(Limit) if e.step is None or e.step in together]
    if known := [limit for limit in limits if isinstance(limit, int)]:
        return max(known)
    hidden = any(e.step == step and e.what == "limit" for e in state.facts(Unobserved))
    return UNKNOWN if hidden or UNKNOWN in limits else None


_Value = int | Unknown | None
"""A hint or a limit."""


def _one_of(values: Iterable[_Value]) -> _Value | Differs:
    """The common value of all steps, `DIFFERS` if they differ; None without steps.

    >>> _one_of([2, 2]), _one_of([None, None]), _one_of([1, None]), _one_of([])
    (2, None, differs, None)
    """
    different = set(values)
    if len(different) > 1:
        return DIFFERS
    return different.pop() if different else None


def count_per_model(state: State) -> list[ModelCounts]:
    """Counts of each model, including unused models, in the order of `models`."""
    groups: dict[tuple[str, str], list[Residence]] = {
        (model.step, model.model): [] for model in state.models
    }
    for residence in state.residences:
        groups.setdefault((residence.step, residence.model), []).append(residence)
    for step, name, _ in state.batches.models:  # add models whose load was not seen
        groups.setdefault((step, name), [])
    uses, elements, keys = _uses_per_model(state)
    refreshes = Counter((event.step, event.model) for event in state.facts(Refreshes))
    timed_out = Counter((event.step, event.model) for event in state.timeouts)
    failed = _failed_per_model(state)
    return [
        ModelCounts(
            step=step,
            model=model,
            loads=sum(r.loaded for r in group),
            reloads=sum(r.loaded and r.again for r in group),
            evictions=sum(r.load_end_ns is not None and r.evict_ns is not None for r in group),
            uses=uses[step, model],
            elements=elements[step, model],
            load_seconds=sum(end - begin for begin, end in (r.loading for r in group)) * NS,
            keys=dict(keys[step, model]),
            refreshes=refreshes[step, model],
            failed=failed[step, model],
            timed_out=timed_out[step, model],
            already=sum(r.already for r in group),
            **_size(group),
        )
        for (step, model), group in groups.items()
    ]


def _size(residences: Iterable[Residence]) -> dict[str, Any]:
    """Bytes of a model and their source."""
    known = [(r.bytes, r.sized_by) for r in residences if isinstance(r.bytes, int)]
    return dict(zip(("bytes", "sized_by"), max(known), strict=True)) if known else {}


_PerModel = Counter[tuple[str, str]]


def _failed_per_model(state: State) -> _PerModel:
    batches = state.batches
    return Counter(batches.models[place][:2] for place in batches.asked[batches.failed].tolist())


def _uses_per_model(
    state: State,
) -> tuple[_PerModel, _PerModel, dict[tuple[str, str], Counter[str]]]:
    """Batches, elements and elements per key of each model, by step and name."""
    uses: _PerModel = Counter()
    elements: _PerModel = Counter()
    keys: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    batches = state.batches
    for asked, (step, model, _) in enumerate(batches.models):
        rows = np.flatnonzero(batches.asked == asked)
        uses[step, model] += len(rows)
        elements[step, model] += sum(batches.n[rows].tolist())
        places, first, times = np.unique(batches.keys[rows], return_index=True, return_counts=True)
        for i in np.argsort(first):
            for key, n in batches.key_counts[places[i]].items():
                keys[step, model][key] += n * int(times[i])
    return uses, elements, keys


def _most(residences: Iterable[Residence]) -> int:
    """Most models held at once."""
    _, held = held_over_time(residences)
    return int(held.max(initial=0))


def _wording(s: Summary) -> list[tuple[str, str]]:
    several = s.processes > 1
    process = " (one process)" if several else ""
    megabytes: list[tuple[str, int | Unknown | None, str]] = [
        ("RSS at the end", s.rss_bytes, process),
        ("peak RSS", s.peak_rss_bytes, process),
        ("GPU memory", s.device_bytes, process),
    ]
    if several:
        together = f" (one machine, {s.processes} processes at once)"
        megabytes.insert(0, ("model bytes held", s.machine_model_bytes, together))
        megabytes.insert(3, ("peak RSS", s.machine_peak_rss_bytes, together))
    return [
        *([("already in memory", plural(s.already, "model"))] if s.already else []),
        ("loads", f"{s.loads} ({s.reloads} again)"),
        ("evictions", f"{s.evictions}"),
        *([("refreshes", f"{s.refreshes}")] if s.refreshes else []),
        ("uses", f"{plural(s.uses, 'batch')}, {plural(s.elements, 'element')}"),
        *([("failed", _failures_wording(s))] if s.failed or s.timed_out or s.dead_letters else []),
        ("most resident", plural(s.most_resident, "model")),
        ("hint → limit", _limits_wording(s)),
        ("wall", f"{s.wall_seconds:.2f} s, {s.loading_share:.0%} of it loading"),
        *([("model bytes held", _bytes_words(s.model_bytes, s) + process)] if s.loads else []),
        *(
            (name, f"{in_megabytes(value)}{of}")
            for name, value, of in megabytes
            if isinstance(value, int)
        ),
    ]


def _limits_wording(s: Summary) -> str:
    if DIFFERS not in (s.hint, s.limit):
        return f"{or_none(s.hint)} → {or_none(s.limit)}"
    return ", ".join(
        f"{or_none(each.hint)} → {or_none(each.limit)} ({printable(each.step)})"
        for each in s.limits
    )


def _failures_wording(s: Summary) -> str:
    parts = [plural(s.failed, "batch")]
    parts += [f"{s.timed_out} timed out"] if s.timed_out else []
    parts += [f"{plural(s.dead_letters, 'dead letter')}"] if s.dead_letters else []
    if isinstance(s.retried, Unknown):
        parts.append("retried or not: unknown")
    elif s.retried:
        parts.append(f"{s.retried} retried")
    return ", ".join(parts)


def _bytes_words(size: int | Unknown, s: Summary) -> str:
    return f"{in_megabytes(size)}{size_words(s.sized_by)}" if isinstance(size, int) else "unknown"
