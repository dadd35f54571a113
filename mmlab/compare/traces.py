"""`compare_traces`: comparison of recorded runs, from any runner."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from apache_beam.runners.runner import PipelineState

from mmlab._arguments import short
from mmlab._text import in_bytes
from mmlab.compare.comparison import Comparison, HintRuns
from mmlab.events import MemoryLimit
from mmlab.fresh.outcome import RunOutcome
from mmlab.prediction.recorded import copies_of
from mmlab.trace import Trace


def compare_traces(traces: Mapping[str, Trace | str | os.PathLike[str]]) -> Comparison:
    """Compare recorded runs, from any runner: aligned at their start, on one scale.

    The verdict lists differences other than the hint. If there are any, or if two runs have the
    same hint, it names the runs that thrash, but no smallest hint.

    Args:
      traces: a dict of names to traces, paths of saved traces, or log folders of runs.

    Raises:
      TypeError: `traces` is not a dict of names to traces.
      ValueError: `traces` is empty.
      OSError, ValueError: a trace cannot be read; see `Trace.load`.
    """
    if not isinstance(traces, Mapping):
        raise TypeError(f"traces must be a dict such as {{'hint 2': trace}}, got {short(traces)}")
    if not traces:
        raise ValueError("traces must have at least one trace, such as {'hint 2': trace}, got none")
    for name in traces:
        if not isinstance(name, str) or not name.strip():
            raise TypeError(f"names of traces must be text, got {short(name)}")
    read = {
        name: given if isinstance(given, Trace) else Trace.load(given)
        for name, given in traces.items()
    }
    rows = tuple(_recorded_row(name, trace) for name, trace in read.items())
    return Comparison(rows, differences=tuple(_differences([*read.values()])))


def _recorded_row(name: str, trace: Trace) -> HintRuns:
    error_type, _, error = (trace.error or "").partition(": ")
    seen = trace.state != PipelineState.UNKNOWN
    limits = trace.facts(MemoryLimit)
    outcome = RunOutcome(
        trace=trace,
        phase="done" if trace.state == PipelineState.DONE else "run",
        error_type=error_type or None,
        error=error or (f"it ended as {trace.state}" if seen else "its end was not recorded"),
        memory_limit=limits[-1].bytes if limits else None,
    )
    hint = trace.summary().hint
    return HintRuns(hint if isinstance(hint, int) else None, (outcome,), name)


def _differences(traces: Sequence[Trace]) -> Iterator[str]:
    """Differences of the runs other than the hint, each as "elements (48, 96)"."""
    facts = {
        "elements": lambda trace: trace.summary().elements,
        "most elements in a batch": lambda trace: int(max(trace.batches.n, default=0)),
        "models": lambda trace: len({(model.step, model.model) for model in trace.models}),
        "processes with models": lambda trace: len(trace.residences_by_process),
        "worker threads that share models": copies_of,
        "machines": lambda trace: ", ".join(sorted({p.host for p in trace.processes})),
        "memory limits": _memory_limit,
    }
    for what, fact in facts.items():
        values = [fact(trace) for trace in traces]
        if len(set(values)) > 1:
            shown = "" if what == "machines" else f" ({', '.join(map(str, values))})"
            yield f"{what}{shown}"


def _memory_limit(trace: Trace) -> str:
    limits = [limit.bytes for limit in trace.facts(MemoryLimit)]
    return in_bytes(max(limits)) if limits else "none"
