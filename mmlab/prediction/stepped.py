"""A log of keys as a page in which its accesses are stepped through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmlab.page.content import (
    MOST_MANAGERS,
    Described,
    Logged,
    log_content,
    renumbered,
    window_of,
)

Access = tuple[int, Mapping[int, int]]
"""The model of an access, and its elements per key: numbers."""


@dataclass(frozen=True)
class Stepped:
    """What the page needs of a prediction beside its counts.

    Attributes:
      accesses: gives the first accesses of a manager.
      keys_and_models: gives all keys, as text, and the number of the model of each.
      sizes: bytes of each model; None where they are not known.
    """

    accesses: Callable[[int], Sequence[Access]]
    keys_and_models: Callable[[], tuple[Sequence[str], np.ndarray]]
    sizes: np.ndarray | None

    def content(self, models: Sequence[str], totals: Sequence[int]) -> dict[str, Any]:
        """What the page shows.

        Args:
          models: names.
          totals: accesses of each manager.
        """
        keys, model_of_key = self.keys_and_models()
        used = [number for number, total in enumerate(totals) if total]
        logged = []
        for number in used[:MOST_MANAGERS]:
            accesses = self.accesses(number)
            model = np.array([model for model, _ in accesses], np.int64)
            window = window_of(model, len(model))
            named, numbers = renumbered(len(models), model[:window])
            logged.append(
                Logged(
                    name="" if len(used) == 1 else f"manager {number + 1}",
                    models=self._described(models, named.tolist(), keys, model_of_key),
                    model=numbers[model[:window]],
                    elements=np.array([sum(n.values()) for _, n in accesses[:window]], np.int64),
                    keys=[[keys[key] for key in counts] for _, counts in accesses[:window]],
                    total=totals[number],
                )
            )
        return log_content(logged, len(used))

    def _described(
        self,
        models: Sequence[str],
        named: Sequence[int],
        keys: Sequence[str],
        model_of_key: np.ndarray,
    ) -> list[Described]:
        keys_of: dict[int, list[str]] = {model: [] for model in named}
        for key, model in zip(keys, model_of_key.tolist(), strict=True):
            if model in keys_of:
                keys_of[model].append(key)
        sizes = self.sizes
        return [
            Described(
                models[model], tuple(keys_of[model]), None if sizes is None else int(sizes[model])
            )
            for model in named
        ]
