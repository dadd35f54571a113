"""A run in a few numbers: in all, and for each model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mmlab._text import or_none
from mmlab.events import UNKNOWN, Memory, OfLoad, Process, Unknown, UseBegins
from mmlab.state import NS, Residence, State, covered_ns, steps_of_count


@dataclass(frozen=True)
class ModelCounts:
    """What one model did in the run, over all processes.

    Attributes:
      loads, reloads, evictions, uses, elements: counts; a use is one batch in one model.
      load_seconds: summed over loads.
      keys: elements per key.
      refreshes: how often it was given another path, once it had been loaded.
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


@dataclass(frozen=True)
class Summary:
    """A run in a few numbers.

    Attributes:
      loads: models that finished loading; `reloads` of them had been loaded before in that process.
      evictions: models that the model manager dropped.
      uses: batches in models; a batch that touches two models counts twice.
      elements: elements in those batches.
      most_resident: most models that one process held at once, evicted but unfreed ones included.
      hint: `max_models_per_worker_hint` as given; None without one, or where steps differ.
      limit: how many models the model manager really allowed; None without a limit.
      load_seconds: summed over loads.
      loading_share: share of the wall time in which at least one model was loading, 0 to 1.
      wall_seconds: from submission to the end.
      model_bytes: most bytes of models that one process held at once.
      rss_bytes: resident set size at the end, of the worker process whose peak was highest.
      peak_rss_bytes: its highest resident set size during the run.
      device_bytes: highest memory allocated on GPUs by one process; None without a GPU.
      refreshes: how often a model that had been loaded was given another path.
    """

    loads: int
    reloads: int
    evictions: int
    uses: int
    elements: int
    most_resident: int
    hint: int | None
    limit: int | None
    load_seconds: float
    loading_share: float
    wall_seconds: float
    model_bytes: int | Unknown
    rss_bytes: int | None
    peak_rss_bytes: int | None
    device_bytes: int | None
    refreshes: int = 0

    _COUNTS = ("loads", "reloads", "evictions", "uses", "elements", "most_resident")

    def counts(self) -> dict[str, int | None]:
        """The integers alone: the same on every machine when batches have a fixed size."""
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
    """The run in a few numbers: integers that can be compared, and figures."""
    held = [r for r in state.residences if r.load_end_ns is not None]
    uses = state.of_kind("use_begin")
    loading = [_loading(r, state.end_ns) for r in state.residences]
    wall_ns = state.end_ns - state.start_ns
    memory = _memory(state)
    return Summary(
        loads=len(held),
        reloads=sum(r.generation > 1 for r in held),
        evictions=sum(r.evict_ns is not None for r in held),
        uses=len(uses),
        elements=sum(use.n for use in uses),
        most_resident=max((max(counts) for counts in _counts(held)), default=0),
        hint=_single({model.hint for model in state.models}),
        limit=max((event.limit for event in state.of_kind("limit")), default=None),
        load_seconds=sum(end - begin for begin, end in loading) * NS,
        loading_share=covered_ns(loading) / wall_ns if wall_ns else 0.0,
        wall_seconds=wall_ns * NS,
        model_bytes=_most_model_bytes(held),
        refreshes=len(state.of_kind("refresh")),
        **memory,
    )


def count_per_model(state: State) -> list[ModelCounts]:
    """What each model did, in the order of `models`; models that were never asked for too."""
    groups: dict[tuple[str, str], list[Residence]] = {
        (model.step, model.model): [] for model in state.models
    }
    for residence in state.residences:
        groups.setdefault((residence.step, residence.model), []).append(residence)
    uses: dict[tuple[str, str], list[UseBegins]] = defaultdict(list)
    for use in state.of_kind("use_begin"):
        uses[use.step, use.model].append(use)
    refreshes = Counter((event.step, event.model) for event in state.of_kind("refresh"))
    return [
        _model_counts(step, model, group, uses[step, model], refreshes[step, model], state.end_ns)
        for (step, model), group in groups.items()
    ]


def _loading(residence: Residence, end_ns: int) -> tuple[int, int]:
    end = residence.load_end_ns or residence.free_ns or end_ns
    return residence.load_begin_ns, end


def _by_process(held: Iterable[Residence]) -> list[list[Residence]]:
    groups: dict[Process, list[Residence]] = defaultdict(list)
    for residence in held:
        groups[residence.process].append(residence)
    return list(groups.values())


def _counts(held: Iterable[Residence]) -> list[list[int]]:
    return [steps_of_count(group)[1] for group in _by_process(held)]


def _most_model_bytes(held: list[Residence]) -> int | Unknown:
    if not held or any(r.bytes is UNKNOWN for r in held):
        return UNKNOWN
    most = 0
    for group in _by_process(held):
        change: Counter[int] = Counter()
        for residence in group:
            change[residence.load_end_ns] += residence.bytes
            change[residence.last_ns] -= residence.bytes
        now = 0
        for t_ns in sorted(change):
            now += change[t_ns]
            most = max(most, now)
    return most


def _memory(state: State) -> dict[str, int | None]:
    samples: dict[Process, list[Memory | OfLoad]] = defaultdict(list)
    for event in state.samples:
        if event.rss is not None:
            samples[event.process].append(event)
    peaks = {process: _peak(events) for process, events in samples.items()}
    highest = max(peaks, key=peaks.__getitem__, default=None)
    devices = [event.device_bytes for event in state.samples if event.device_bytes is not None]
    return {
        "rss_bytes": samples[highest][-1].rss if highest else None,
        "peak_rss_bytes": peaks[highest] if highest else None,
        "device_bytes": max(devices, default=None),
    }


def _peak(samples: list[Memory | OfLoad]) -> int:
    """The highest resident set size of one process during the run.

    The system remembers the highest since the process began. Where that rose during the run, it is
    exact; otherwise an earlier peak hides the run's own, and the highest sample stands in.
    """
    sampled = max(event.rss for event in samples)
    system = [event.peak_rss for event in samples if event.peak_rss is not None]
    return max(sampled, system[-1]) if system and system[-1] > system[0] else sampled


def _model_counts(
    step: str,
    model: str,
    group: list[Residence],
    uses: list[UseBegins],
    refreshes: int,
    end_ns: int,
) -> ModelCounts:
    held = [r for r in group if r.load_end_ns is not None]
    keys: Counter[str] = Counter()
    for use in uses:
        keys.update(use.keys)
    return ModelCounts(
        step=step,
        model=model,
        loads=len(held),
        reloads=sum(r.generation > 1 for r in held),
        evictions=sum(r.evict_ns is not None for r in held),
        uses=len(uses),
        elements=sum(use.n for use in uses),
        load_seconds=sum(end - begin for begin, end in (_loading(r, end_ns) for r in group)) * NS,
        keys=dict(keys),
        refreshes=refreshes,
    )


def _single(values: set[Any]) -> Any:
    return values.pop() if len(values) == 1 else None


def _wording(s: Summary) -> list[tuple[str, str]]:
    megabytes = [
        ("model bytes held", s.model_bytes),
        ("RSS at the end", s.rss_bytes),
        ("peak RSS", s.peak_rss_bytes),
        ("GPU memory", s.device_bytes),
    ]
    return [
        ("loads", f"{s.loads} ({s.reloads} again)"),
        ("evictions", f"{s.evictions}"),
        *([("refreshes", f"{s.refreshes}")] if s.refreshes else []),
        ("uses", f"{s.uses} batches, {s.elements} elements"),
        ("most resident", f"{s.most_resident} models"),
        ("hint → limit", f"{or_none(s.hint)} → {or_none(s.limit)}"),
        ("wall", f"{s.wall_seconds:.2f} s, {s.loading_share:.0%} of it loading"),
        *((name, f"{value / 1e6:,.0f} MB") for name, value in megabytes if isinstance(value, int)),
    ]
