"""The graph of a pipeline: its RunInference steps, labels and PCollections."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
from apache_beam.internal import pickler
from apache_beam.ml.inference import base
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.pipeline import AppliedPTransform, Pipeline, PipelineVisitor
from apache_beam.pvalue import PCollection
from apache_beam.transforms import window

from mmlab.beam.guards import BeamChangedError, private
from mmlab.beam.handlers import AnyHandler, shares_across_processes

_FIND_STEPS = "find the RunInference steps of a pipeline"


@dataclass(frozen=True)
class InferenceStep:
    """One `RunInference` of a pipeline: its label, its handler, and the DoFn that holds it.

    `label` is the author's, `full_label` is Beam's. `sealed_in` holds outer DoFns that have already
    pickled it, as exception handling in a subprocess does. `refreshed_by` is the argument of
    `RunInference` that replaces the model ("watch_model_pattern", or "model_metadata_pcoll" if that
    certainly holds `ModelMetadata`), or None.
    """

    label: str
    full_label: str
    handler: AnyHandler
    dofn: beam.DoFn
    sealed_in: tuple[beam.DoFn, ...] = ()
    refreshed_by: str | None = None
    catching: beam.DoFn | None = None
    """The outer DoFn that handles exceptions."""
    applied: AppliedPTransform | None = None
    """The transform that calls the DoFn with batches."""

    @property
    def uses_model_manager(self) -> bool:
        return bool(getattr(self.dofn, "use_model_manager", False))

    @property
    def shared_as(self) -> str | None:
        """The tag by which it shares its models with other steps; None if it cannot share."""
        shares = shares_across_processes(self.handler)
        return getattr(self.dofn, "_model_tag", None) if shares else None

    @property
    def loads_at_run_time(self) -> bool:
        """Whether the model path may still change (side input) before the model is loaded."""
        return bool(getattr(self.dofn, "_load_model_at_runtime", True))


def inference_steps(pipeline: Pipeline) -> list[InferenceStep]:
    """Return every `RunInference` of `pipeline`, in the order of application.

    Raises:
      BeamChangedError: the model handler of a step cannot be found.
    """
    steps, hidden = readable_steps(pipeline)
    for change in hidden.values():
        raise change
    return steps


def readable_steps(
    pipeline: Pipeline,
) -> tuple[list[InferenceStep], dict[str, BeamChangedError]]:
    """Return every `RunInference` whose model handler is found, in the order of application.

    Also return the error of each other one, by label.
    """
    found: list[InferenceStep] = []
    hidden: dict[str, BeamChangedError] = {}
    applied_by_author: list[str] = []

    class Finder(PipelineVisitor):
        def enter_composite_transform(self, applied: AppliedPTransform) -> None:
            if isinstance(applied.transform, RunInference) and not is_unfinished(applied):
                applied_by_author.append(applied.full_label)

        def visit_transform(self, applied: AppliedPTransform) -> None:
            try:
                found.extend(inferences_of(applied))
            except BeamChangedError as change:
                hidden[_step_label(applied)] = change

    pipeline.visit(Finder())
    seen = {step.full_label for step in found} | set(hidden)
    for label in applied_by_author:
        if label not in seen:
            hidden[label] = BeamChangedError("_RunInferenceDoFn", _FIND_STEPS)
    labels = author_labels([*(step.label for step in found), *hidden])
    return (
        [replace(step, label=labels[step.label]) for step in found],
        {labels[label]: change for label, change in hidden.items()},
    )


def is_unfinished(applied: AppliedPTransform) -> bool:
    """Whether a `RunInference` in this transform raised while it was applied.

    Beam keeps such a transform but does not run it. Unlike any other `RunInference`, it has no
    outputs.
    """
    if isinstance(applied.transform, RunInference):
        return not applied.outputs
    return any(is_unfinished(part) for part in applied.parts)


def author_label(label: str) -> str:
    """Return a label as the author wrote it, without the cell number that Beam adds in notebooks.

    >>> author_label("[7]: Classify")
    'Classify'
    """
    return re.sub(r"^\[\d+\]: ", "", label)


def author_labels(labels: Iterable[str]) -> dict[str, str]:
    """Map labels to those that the author wrote; equal ones keep their cell numbers.

    >>> author_labels(["[7]: Classify", "[7]: Read", "[8]: Read"])
    {'[7]: Classify': 'Classify', '[7]: Read': '[7]: Read', '[8]: Read': '[8]: Read'}
    """
    labels = list(labels)
    plain = {label: author_label(label) for label in labels}
    times = Counter(plain.values())
    return {label: plain[label] if times[plain[label]] == 1 else label for label in labels}


def inferences_of(applied: AppliedPTransform) -> list[InferenceStep]:
    """Return the `RunInference` steps whose model this transform itself calls, not a part of it."""
    nested = list(_dofns(getattr(applied.transform, "fn", None)))
    sealed_in = tuple(dofn for dofn in nested if "_serialized_fn" in vars(dofn))
    catching = next((dofn for dofn in nested if "_dead_letter_tag" in vars(dofn)), None)
    return [
        InferenceStep(
            _step_label(applied),
            _step_label(applied),
            private(dofn, "_model_handler", "find the model handler of a step"),
            dofn,
            sealed_in,
            _refreshed_by(applied),
            catching,
            applied,
        )
        for dofn in nested
        if _asks_a_model(dofn)
    ]


def _asks_a_model(dofn: beam.DoFn) -> bool:
    dofn_type = getattr(base, "_RunInferenceDoFn", None)
    if dofn_type is not None:
        return isinstance(dofn, dofn_type)
    # The private class was renamed: it is the only DoFn of its module with a model handler.
    holds = isinstance(getattr(dofn, "_model_handler", None), ModelHandler)
    return holds and type(dofn).__module__ == base.__name__


def replace_handler(step: InferenceStep, handler: AnyHandler) -> None:
    """Replace the handler in the DoFn of `step`."""
    dofn: Any = step.dofn
    dofn._model_handler = handler
    wrapper: Any
    for wrapper in step.sealed_in:
        wrapper._serialized_fn = pickler.dumps(wrapper._fn)


def _dofns(dofn: Any, depth: int = 0) -> Iterator[beam.DoFn]:
    """Yield `dofn` and those that it wraps: exception handling, timeouts and type checks nest."""
    if not isinstance(dofn, beam.DoFn) or depth > 8:
        return
    yield dofn
    for value in vars(dofn).values():
        yield from _dofns(value, depth + 1)


def _step_label(applied: AppliedPTransform) -> str:
    inference = _enclosing_inference(applied)
    if inference is not None:
        return inference.full_label
    return applied.full_label.split("/BeamML_RunInference")[0]


def _enclosing_inference(applied: AppliedPTransform) -> AppliedPTransform | None:
    enclosing: AppliedPTransform | None = applied
    while enclosing is not None and not isinstance(enclosing.transform, RunInference):
        enclosing = enclosing.parent
    return enclosing


def _refreshed_by(applied: AppliedPTransform) -> str | None:
    inference = _enclosing_inference(applied)
    if inference is not None and getattr(inference.transform, "_watch_model_pattern", None):
        return "watch_model_pattern"
    sides = [side.pvalue.element_type for side in applied.side_inputs]
    return "model_metadata_pcoll" if base.ModelMetadata in sides else None


def root_transform(pipeline: Pipeline) -> AppliedPTransform:
    """Return the unnamed root transform, whose parts are the author's steps in order."""
    find = private(pipeline, "_root_transform", "read the steps of a pipeline")
    root: AppliedPTransform = find()
    return root


def dead_letter_tag(applied: AppliedPTransform) -> str | None:
    """Return the tag of the output with failed elements; None without exception handling."""
    return getattr(applied.transform, "_dead_letter_tag", None)


def collection_name(pcollection: PCollection[Any]) -> str:
    """Return mmlab's name of a PCollection: `<label of its transform>[<tag>]`.

    The main output has no tag. The label is the full one, the same in every process.
    """
    assert pcollection.producer is not None  # only the root has no producer
    label = pcollection.producer.full_label
    return label if pcollection.tag is None else f"{label}[{pcollection.tag}]"


def collection_before_batching(step: InferenceStep) -> PCollection[Any] | None:
    """Return the PCollection that `RunInference` batches; each element reaches a model once.

    None if elements may count differently: without batching, or with overlapping windows.
    """
    batches = next(iter(step.applied.main_inputs.values()), None) if step.applied else None
    producer = getattr(batches, "producer", None)
    if producer is None:
        return None
    while producer.parent is not None and batches in producer.parent.outputs.values():
        producer = producer.parent
    before = next(iter(producer.main_inputs.values()), None)
    if before is None or not producer.full_label.endswith("/BatchElements"):
        return None
    once = (window.GlobalWindows, window.FixedWindows, window.Sessions)
    return before if isinstance(before.windowing.windowfn, once) else None
