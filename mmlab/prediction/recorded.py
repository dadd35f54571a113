"""What a trace tells a prediction: visits, copies of the handler, sizes, seconds, memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from mmlab.events import Process
from mmlab.prediction.keys import Models
from mmlab.prediction.sizes import listed
from mmlab.state import TracedModel
from mmlab.trace import Trace


@dataclass(frozen=True)
class Measured:
    """What a recorded run measured.

    Attributes:
      sizes: bytes of each model, by name; without models that were not loaded, or whose size is
        not known.
      sized_by: name to how its bytes were found, one of `mmlab.events.SIZED_BY`.
      load_seconds: mean of each model's loads, by name; without models that were not loaded.
      buffer_bytes: what the process needed at its peak beside the models it held at most: the
        interpreter and its libraries, activations, the surplus while a model loads, and what was
        not given back. Peak RSS less most bytes of models. None where either is not known.
      hint: `max_models_per_worker_hint` of the run.
      limit: models that the manager really allowed.
      limit_grew: whether a copy joined after models had been loaded: until then, less was allowed.
      whole: whether the run ended and no event is missing.
    """

    sizes: dict[str, int]
    load_seconds: dict[str, float]
    buffer_bytes: int | None
    hint: int | None
    limit: int | None
    limit_grew: bool
    whole: bool
    sized_by: dict[str, str] = field(default_factory=dict)

    @property
    def copies(self) -> int:
        """Copies of the handler that shared a manager: each added its hint to the limit."""
        return max(self.limit // self.hint, 1) if self.hint and self.limit else 1


@dataclass(frozen=True)
class Recorded:
    """One step of a trace, as a prediction needs it.

    Attributes:
      models: names, and the number of each key's model; keys are text.
      visits: of each process that held models, numbers of models in order.
      elements_of_process: elements that each of these processes answered.
      elements: elements of each key, in the order first seen, over all processes.
      keys: the key of every element in order, or None where batches hide it.
      batch_size: the most elements that one visit had.
      measured: sizes, seconds, memory, limits.
    """

    models: Models
    visits: tuple[np.ndarray, ...]
    elements_of_process: tuple[int, ...]
    elements: dict[str, int]
    keys: list[str] | None
    batch_size: int
    measured: Measured


def read_trace(trace: Trace, step: str | None) -> Recorded:
    """The visits of one `RunInference` step.

    Args:
      trace: of a run; one that failed tells as much as it got to.
      step: label of the step; None where only one has several models.

    Raises:
      ValueError: no such step, several, one without keys, or nothing that it did.
    """
    cards = _cards(trace, step)
    number = {card.model: i for i, card in enumerate(cards)}
    held = [r for r in trace.residences if r.step == cards[0].step and r.model in number]
    uses = sorted(
        ((use.begin_ns, r.process, number[r.model], use) for r in held for use in r.uses),
        key=lambda use: use[0],
    )
    if not uses:
        raise ValueError(f"the trace has no batch of {cards[0].step}: nothing reached its models")
    visits: dict[Process, list[int]] = {}
    answered: Counter[Process] = Counter()
    elements: Counter[str] = Counter()
    for _, process, model, use in uses:
        visits.setdefault(process, []).append(model)
        answered[process] += use.n
        elements.update(use.keys)
    most = max(use.n for *_, use in uses)
    return Recorded(
        models=Models(tuple(number), {key: i for i, card in enumerate(cards) for key in card.keys}),
        visits=tuple(np.array(each, np.int32) for each in visits.values()),
        elements_of_process=tuple(answered[process] for process in visits),
        elements=dict(elements),
        keys=[key for *_, use in uses for key in use.keys] if most == 1 else None,
        batch_size=most,
        measured=_measured(trace, cards),
    )


def _cards(trace: Trace, step: str | None) -> list[TracedModel]:
    by_step: dict[str, list[TracedModel]] = {}
    for model in trace.models:
        if model.keys:
            by_step.setdefault(model.step, []).append(model)
    if not by_step:
        raise ValueError(
            "the trace has no step with a KeyedModelHandler of several models: predict is about "
            "models that take turns"
        )
    if step is None:
        if len(by_step) > 1:
            names = listed([repr(name) for name in by_step])
            raise ValueError(f"the trace has {len(by_step)} steps: say step= one of {names}")
        step = next(iter(by_step))
    if step not in by_step:
        names = listed([repr(name) for name in by_step])
        raise ValueError(f"the trace has no keyed step {step!r}: it has {names}")
    return by_step[step]


def _measured(trace: Trace, cards: list[TracedModel]) -> Measured:
    counts = [count for count in trace.per_model() if count.step == cards[0].step]
    sizes = {count.model: count.bytes for count in counts if isinstance(count.bytes, int)}
    seconds = {count.model: count.load_seconds / count.loads for count in counts if count.loads}
    summary = trace.summary()
    buffer = None
    if summary.peak_rss_bytes is not None and isinstance(summary.model_bytes, int):
        buffer = max(summary.peak_rss_bytes - summary.model_bytes, 0)
    rises = [event for event in trace.limits(cards[0].step) if event.limit is not None]
    limits, changes = [event.limit for event in rises], [event.t_ns for event in rises]
    begins = [r.load_begin_ns for r in trace.residences if r.step == cards[0].step]
    return Measured(
        sizes=sizes,
        load_seconds=seconds,
        buffer_bytes=buffer,
        hint=cards[0].hint,
        limit=max(limits, default=None),
        limit_grew=bool(begins and changes and changes[-1] > begins[0]),
        whole=trace.state == "DONE" and not trace.incomplete,
        sized_by={count.model: count.sized_by for count in counts if count.sized_by},
    )
