"""Batches of one size, so that a run can be repeated to the last load."""

from __future__ import annotations

from typing import Any

from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler

from mmlab._arguments import short, whole_number


class FixedBatches(KeyedModelHandler):
    """A `KeyedModelHandler` whose batches have one size, so that a run can be repeated exactly.

    Beam adapts the size of batches to measured time, and takes no batching arguments from the
    handlers of several models; overriding `batch_elements_kwargs` is its documented way out.

    Args:
      unkeyed: as `KeyedModelHandler` takes it.
      max_models_per_worker_hint: as `KeyedModelHandler` takes it.
      batch_size: of every batch but the last ones.

    Raises:
      TypeError, ValueError: `unkeyed` is no list of mappings; `batch_size` no positive integer.
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
                f"FixedBatches takes a list of KeyModelMapping, as KeyedModelHandler does, not "
                f"{short(unkeyed)}"
            )
        super().__init__(unkeyed, max_models_per_worker_hint=max_models_per_worker_hint)
        self.batch_size = whole_number("batch_size", batch_size)

    def batch_elements_kwargs(self) -> dict[str, int]:
        return {"min_batch_size": self.batch_size, "max_batch_size": self.batch_size}
