"""Elements become visits: a batch visits each of its models once, in the order first seen."""

from __future__ import annotations

import numpy as np

from mmlab._compiled import IS_FAST, compiled


class Batches:
    """Cuts a stream of elements into batches of a fixed size.

    Args:
      size: elements in a batch.
    """

    def __init__(self, size: int):
        self._size = size
        self._position = 0
        self._last_batch = np.zeros(0, np.int64)
        self._open = np.zeros(0, np.int32)

    def visits(self, models: np.ndarray, count: int) -> np.ndarray:
        """Visits that follow from the next elements.

        Args:
          models: number of each element's model, int32, shape (n,).
          count: how many models there can be.

        Returns:
          Numbers of models, int32. What the last, open batch has visited so far is among them.
        """
        if self._size == 1:
            return models
        if len(self._last_batch) < count:
            grown = np.full(max(count, 2 * len(self._last_batch)), -1)
            grown[: len(self._last_batch)] = self._last_batch
            self._last_batch = grown
        begin = self._position
        self._position += len(models)
        if IS_FAST:
            out = np.empty(len(models), np.int32)
            kept = _first_of_batch(
                np.ascontiguousarray(models, np.int32), begin, self._size, self._last_batch, out
            )
            return out[:kept]
        batch = np.arange(begin, self._position) // self._size
        _, first = np.unique(batch * count + models, return_index=True)
        new = np.sort(first)
        new = new[self._last_batch[models[new]] != batch[new]]
        self._last_batch[models] = batch  # of several, the last one stays
        return models[new]


@compiled
def _first_of_batch(models, position, size, last_batch, out):
    """Write the models that are new to their batch to `out`; returns how many there are."""
    batch = position // size
    left = size - position % size
    kept = 0
    for model in models:
        if last_batch[model] != batch:
            last_batch[model] = batch
            out[kept] = model
            kept += 1
        left -= 1
        if left == 0:
            batch += 1
            left = size
    return kept


def grouped_visits(groups: np.ndarray, elements: np.ndarray, size: int) -> np.ndarray:
    """Visits of elements that come group by group.

    Batches in the middle of a group visit the model that was visited last, which changes nothing,
    and are left out.

    Args:
      groups: number of the model of each group, shape (n,), in order.
      elements: how many each group has, all positive, shape (n,).
      size: elements in a batch.
    """
    end = np.cumsum(elements)
    first, last = (end - elements) // size, (end - 1) // size
    visits = np.column_stack([first, groups, last, groups]).reshape(-1, 2)
    _, at = np.unique(visits, axis=0, return_index=True)
    return visits[np.sort(at), 1].astype(np.int32)
