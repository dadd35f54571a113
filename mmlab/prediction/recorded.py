"""Read a trace for a prediction: accesses, copies of the handler, sizes, seconds, memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mmlab._arguments import short
from mmlab._text import listed
from mmlab.budget import RELOAD_ADDRESS_SPACE, copies_of_limit
from mmlab.events import Copy, Process, Unknown
from mmlab.lru import Ints
from mmlab.prediction.keys import Models, Source, read_keys
from mmlab.reports.summary import step_limits
from mmlab.state import TracedModel, Use
from mmlab.trace import Trace

_MOST_ELEMENTS = 500_000_000
"""Limit on elements: counting takes 8 bytes for each."""


@dataclass(frozen=True)
class Measured:
    """Measurements of a recorded run.

    Attributes:
      sizes: bytes of each model, by name; without models that were not loaded or whose size is not
        known.
      sized_by: model name to the method that gave its bytes, one of `mmlab.events.SIZED_BY`.
      load_seconds: mean seconds per load, by model name; without models that were not loaded.
      buffer_bytes: peak RSS of a process less the most bytes of models that it held: interpreter
        and libraries, activations, the surplus while a model loads, and memory that was not
        returned. None if either figure is not known.
      machine_buffer_bytes: the same for the machine with the highest value: peak of the sum of its
        processes' RSS, less the most bytes of models that they held. None if either figure is not
        known.
      machine_holding: processes of that machine that held models.
      surplus: peak RSS less the highest RSS while no model was loading, in bytes; None if not
        known.
      data_beside: address space that a process took beside its models, in bytes, less the residue
        of reloads; None in a run without a memory limit.
      reloads: reloads of the whole run.
      most_resident: most models held at once by one process.
      handlers: copies of the handler that share the manager of a process; None if not recorded.
      hint: `max_models_per_worker_hint` of the step; None without one.
      limit: the effective limit of its manager, in models; None without a limit.
      limit_grew: whether a copy joined after the first load, so that the limit was lower until
        then.
      whole: whether the run ended and no event is missing.
    """

    sizes: dict[str, int]
    load_seconds: dict[str, float]
    buffer_bytes: int | None
    hint: int | Unknown | None
    limit: int | Unknown | None
    limit_grew: bool
    whole: bool
    sized_by: dict[str, str] = field(default_factory=dict)
    machine_buffer_bytes: int | None = None
    machine_holding: int = 1
    surplus: int | None = None
    data_beside: int | None = None
    reloads: int = 0
    most_resident: int = 0
    handlers: int | None = None

    def buffer_on_machine(self, processes: int) -> int | None:
        """Bytes that a machine needs beside its models; None if not measured.

        Args:
          processes: number of its processes that hold models. Processes without models are counted
            as measured.
        """
        each, together = self.buffer_bytes, self.machine_buffer_bytes
        if each is None or together is None:
            return None
        return max(each * processes, together + each * (processes - self.machine_holding))

    @property
    def copies(self) -> int:
        """Copies of the handler that shared a manager; each adds its hint to the limit.

        1 if neither the copies nor both hint and limit are known.
        """
        if isinstance(self.hint, int) and isinstance(self.limit, int) and self.hint > 0:
            return copies_of_limit(self.limit, self.hint)
        return self.handlers or 1


@dataclass(frozen=True)
class Recorded:
    """The accesses and measurements of one step of a trace.

    Attributes:
      models: names of the models, and the number of each key's model; keys are text.
      accesses: for each process that held models, the numbers of the accessed models, in order.
      elements_of_process: elements that each of these processes answered.
      elements: elements of each key over all processes, keys in order of first occurrence.
      keys: the key of each element, in order; None if accesses had several elements, whose order
        was not recorded.
      batch_size: most elements of one access.
      measured: sizes, seconds, memory, limits.
    """

    models: Models
    accesses: tuple[Ints, ...]
    elements_of_process: tuple[int, ...]
    elements: dict[str, int]
    keys: list[str] | None
    batch_size: int
    measured: Measured

    def source(self, column: str | None) -> Source:
        """The keys one by one, for another mapping, batch size or number of workers.

        Raises:
          ValueError: the order of the keys within a batch was not recorded.
        """
        if self.keys is None:
            raise ValueError(
                f"the trace has batches of up to {self.batch_size} elements, and their order "
                "within a batch was not recorded: predict from the trace alone, from a run with "
                "batches of one element, or from the keys themselves"
            )
        source = read_keys(self.keys, column)
        return Source(source.pieces, lambda i: f"element {i} of the trace", as_text=True)


def _uses_of(
    trace: Trace, step: str, number: Mapping[str, int]
) -> list[tuple[int, Process, int, Use]]:
    """The uses of a step in time order: begin in ns, process, number of the model, use."""
    held = [r for r in trace.residences if r.step == step and r.model in number]
    uses = ((use.begin_ns, r.process, number[r.model], use) for r in held for use in r.uses)
    return sorted(uses, key=lambda use: use[0])


def read_trace(trace: Trace, step: str | None) -> Recorded:
    """Read the accesses and measurements of one `RunInference` step.

    Args:
      trace: of a run; a failed run has the accesses up to its failure.
      step: label of the step; may be None if only one step has several models.

    Raises:
      ValueError: there is no such step, several steps without a `step`, or a step without keys or
        without accesses.
    """
    cards = _cards(trace, step)
    names = dict.fromkeys(card.model for card in cards)  # two logs may have the same model
    number = {name: i for i, name in enumerate(names)}
    uses = _uses_of(trace, cards[0].step, number)
    if not uses:
        raise ValueError(f"the trace has no batch of {cards[0].step}: nothing reached its models")
    accesses: dict[Process, list[int]] = {}
    answered: Counter[Process] = Counter()
    elements: Counter[str] = Counter()
    for _, process, model, use in uses:
        accesses.setdefault(process, []).append(model)
        answered[process] += use.n
        elements.update(use.keys)
    of_key = {key: number[card.model] for card in cards for key in card.keys}
    _check_elements(elements, of_key, cards[0].step)
    most = max(use.n for *_, use in uses)
    return Recorded(
        models=Models(tuple(number), of_key),
        accesses=tuple(np.array(each, np.int32) for each in accesses.values()),
        elements_of_process=tuple(answered[process] for process in accesses),
        elements=dict(elements),
        keys=[key for *_, use in uses for key in use.keys] if most == 1 else None,
        batch_size=most,
        measured=_measured(trace, cards),
    )


def _check_elements(elements: Counter[str], of_key: Mapping[str, int], step: str) -> None:
    """Check that the counted elements can come from a run of these models.

    Raises:
      ValueError: no elements with keys, a key that no model serves, or too many elements.
    """
    if not elements:
        raise ValueError(f"the trace has no element of {step} with a key: predict from the keys")
    for key in elements:
        if key not in of_key:
            raise ValueError(
                f"the trace has elements of key {short(key)}, which no model of {step} serves: "
                "predict from the keys and the handler"
            )
    if elements.total() > _MOST_ELEMENTS:
        raise ValueError(
            f"the trace counts {elements.total():,} elements, and predict takes up to "
            f"{_MOST_ELEMENTS:,}: predict from a shorter run"
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


def _beside_models(trace: Trace) -> tuple[int | None, int]:
    """Bytes beside models on the machine with the most, or None; its processes with models."""
    machines = [
        (machine.peak_rss - machine.model_bytes, machine.holding)
        for machine in trace.machines.values()
        if isinstance(machine.model_bytes, int)
    ]
    return max(machines, default=(None, 1))


def _limit_grew(trace: Trace, step: str) -> bool:
    """Whether the effective limit changed after the first load."""
    changes = [e.t_ns for e in trace.limits(step) if isinstance(e.limit, int)]
    begins = [r.load_begin_ns for r in trace.residences if r.step == step and r.loaded]
    return bool(begins and changes and changes[-1] > begins[0])


def _measured(trace: Trace, cards: list[TracedModel]) -> Measured:
    step = cards[0].step
    counts = [count for count in trace.per_model() if count.step == step]
    sizes = {count.model: count.bytes for count in counts if isinstance(count.bytes, int)}
    seconds = {count.model: count.load_seconds / count.loads for count in counts if count.loads}
    summary = trace.summary()
    buffer = None
    if summary.peak_rss_bytes is not None and isinstance(summary.model_bytes, int):
        buffer = max(summary.peak_rss_bytes - summary.model_bytes, 0)
    on_machine, holding = _beside_models(trace)
    of_step = {each.step: each for each in step_limits(trace)}
    return Measured(
        sizes=sizes,
        load_seconds=seconds,
        buffer_bytes=buffer,
        hint=cards[0].hint,
        limit=of_step[step].limit,
        limit_grew=_limit_grew(trace, step),
        whole=trace.state == "DONE" and not trace.incomplete,
        sized_by={count.model: count.sized_by for count in counts if count.sized_by},
        machine_buffer_bytes=None if on_machine is None else max(on_machine, 0),
        machine_holding=holding,
        surplus=trace.surplus,
        data_beside=_data_beside(trace, summary.reloads),
        reloads=summary.reloads,
        most_resident=summary.most_resident,
        handlers=_handlers(trace, step),
    )


def _data_beside(trace: Trace, reloads: int) -> int | None:
    beside = trace.data_beside_models
    return None if beside is None else max(beside - reloads * RELOAD_ADDRESS_SPACE, 0)


def copies_of(trace: Trace, step: str | None = None) -> int:
    """Copies of a step's keyed handler in the process with the most copies, at least 1.

    Args:
      step: label of the step; None for the step with the most copies.
    """
    return max(_copies(trace, step).values(), default=1)


def _handlers(trace: Trace, step: str) -> int | None:
    return max(_copies(trace, step).values(), default=None)


def _copies(trace: Trace, step: str | None) -> Counter[tuple[Process, tuple[str, ...]]]:
    counts: Counter[tuple[Process, tuple[str, ...]]] = Counter()
    for event in trace.facts(Copy):
        together = next((s for s in trace.sharing if event.step in s), (str(event.step),))
        if step is None or step in together:
            counts[event.process, together] += 1
    return counts
