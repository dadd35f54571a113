"""Transforms and handlers that decide which elements reach a model together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import apache_beam as beam
from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping, ModelHandler
from apache_beam.pvalue import PCollection

from mmlab._arguments import short, whole_number
from mmlab.beam.handlers import cohort_handlers, cohort_of_key, keyed_handler

AnyMapping: TypeAlias = KeyModelMapping[Any, Any, Any, Any]

_NO_MODEL = -1
"""Index for elements with an unknown key, for which RunInference raises its own error."""


class GroupByModel(beam.PTransform[Any, Any]):
    """Groups `(key, element)` pairs by the model that serves them, and outputs them one by one.

    `GroupByKey` groups by *key*: two keys of one model may be far apart, with another model between
    them, and each key has a list of values. `GroupByModel` groups by *cohort*, all keys of one
    `KeyModelMapping`, and outputs the pairs unchanged. Add it before `RunInference`:

        pipeline | … | GroupByModel(handler) | RunInference(handler)

    Beam guarantees that all elements of one lane and window reach the next step from one worker,
    and that none is lost, duplicated or changed. This transform adds an order: within a lane, one
    model after the other. Neither guarantees which worker gets which lane, or that the runner does
    not shuffle again before the next step. The local runners and Dataflow fuse the two steps, so
    that a worker loads each model once, even with a hint of 1.

    Worker threads of one process share its models, and Beam evicts the least recently used model
    even while another thread uses it. With a hint of 1 and two lanes in one process, this sometimes
    causes a reload (measured: 5 loads of 4 models in about 40% of the runs); with one lane, never.

    Like every grouping, it waits for the end of each window: an unbounded input needs windows or
    triggers.

    Args:
      handler_or_mapping: the keyed handler, a handler that wraps it, or its list of
        `KeyModelMapping`.
      lanes: number of groups that are processed in parallel; model i is in lane i modulo `lanes`.
        One lane keeps one worker busy; use as many lanes as there are worker processes.

    Raises:
      TypeError: `handler_or_mapping` is neither, or `lanes` is not a whole number.
      ValueError: the handler has only one model, or `lanes` is not positive.
    """

    def __init__(
        self,
        handler_or_mapping: ModelHandler[Any, Any, Any] | Sequence[AnyMapping],
        *,
        lanes: int = 1,
    ):
        super().__init__()
        self._lanes = whole_number("lanes", lanes)
        self._model_of_key = _model_of_key(handler_or_mapping)

    def expand(self, pairs: PCollection[Any]) -> PCollection[Any]:
        """Add the steps to the pipeline; `pairs | GroupByModel(handler)` calls it."""
        grouped: PCollection[Any] = (
            pairs
            | "Find the lane" >> beam.Map(_in_lane, self._model_of_key, self._lanes)
            | "Group" >> beam.GroupByKey()
            | "One model after the other"
            >> beam.FlatMap(_by_model, self._model_of_key).with_output_types(tuple[Any, Any])
        )
        return grouped


def _model_of_key(handler_or_mapping: Any) -> dict[Any, int]:
    if isinstance(handler_or_mapping, ModelHandler):
        keyed = keyed_handler(handler_or_mapping)
        if keyed is None:
            raise ValueError(
                f"{type(handler_or_mapping).__name__} has one model for all elements: there is "
                "nothing to group. Leave GroupByModel out."
            )
        cohorts = list(cohort_handlers(keyed))
        return {key: cohorts.index(cohort) for key, cohort in cohort_of_key(keyed).items()}
    mappings = _mappings(handler_or_mapping)
    KeyedModelHandler(mappings)  # raises Beam's errors for repeated keys and empty mappings
    return {key: place for place, mapping in enumerate(mappings) for key in mapping.keys}


def _mappings(mappings: Any) -> list[AnyMapping]:
    listed = list(mappings) if isinstance(mappings, Iterable) else []
    if not listed or not all(isinstance(mapping, KeyModelMapping) for mapping in listed):
        raise TypeError(
            "handler_or_mapping must be the KeyedModelHandler of the RunInference step, or its "
            f"list of KeyModelMapping, got {short(mappings)}"
        )
    return listed


def _in_lane(
    pair: tuple[Any, Any], model_of_key: dict[Any, int], lanes: int
) -> tuple[int, tuple[Any, Any]]:
    try:
        key, _ = pair
    except (TypeError, ValueError):
        raise TypeError(
            f"elements must be (key, element) pairs, as for RunInference, got {short(pair)}"
        ) from None
    return model_of_key.get(key, _NO_MODEL) % lanes, pair


def _by_model(
    group: tuple[int, Iterable[tuple[Any, Any]]], model_of_key: dict[Any, int]
) -> Iterator[tuple[Any, Any]]:
    """Yield the pairs of a lane by model; reads it once per model, as it may not fit in memory."""
    _, pairs = group
    models = {model_of_key.get(key, _NO_MODEL) for key, _ in pairs}
    for model in sorted(models):
        yield from (pair for pair in pairs if model_of_key.get(pair[0], _NO_MODEL) == model)


class FixedBatches(KeyedModelHandler[Any, Any, Any, Any]):
    """A `KeyedModelHandler` with a fixed batch size, so that a run can be repeated exactly.

    Beam adapts the batch size to measured time and ignores batching arguments of handlers with
    several models. Overriding `batch_elements_kwargs` is the documented alternative.

    Args:
      unkeyed: as for `KeyedModelHandler`.
      max_models_per_worker_hint: as for `KeyedModelHandler`.
      batch_size: elements per batch; the last batches may be smaller.
    Raises:
      TypeError, ValueError: `unkeyed` is not a list of mappings, or `batch_size` is not a positive
        integer.
    """

    def __init__(
        self,
        unkeyed: Any,
        max_models_per_worker_hint: int | None = None,
        *,
        batch_size: int = 1,
    ):
        if not isinstance(unkeyed, list | ModelHandler):
            raise TypeError(
                "unkeyed must be a list of KeyModelMapping, as for KeyedModelHandler, got "
                f"{short(unkeyed)}"
            )
        super().__init__(unkeyed, max_models_per_worker_hint=max_models_per_worker_hint)
        self.batch_size = whole_number("batch_size", batch_size)

    def batch_elements_kwargs(self) -> dict[str, int]:
        return {"min_batch_size": self.batch_size, "max_batch_size": self.batch_size}
