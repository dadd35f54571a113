"""The content of a page that steps through the accesses of a log of keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmlab.lru import Ints
from mmlab.page.content import (
    MOST_ACCESSES,
    MOST_MANAGERS,
    Described,
    Logged,
    check_first,
    log_content,
    renumbered,
    shares,
    window_of,
)

Access = tuple[int, Mapping[int, int]]
"""The number of the accessed model, and a dict from the number of a key to its elements."""

_MOST_ELEMENTS = MOST_ACCESSES
"""Elements whose keys are kept."""

_NO_KEYS: Access = (0, {})


class FirstElements:
    """The first elements of a log, kept for the page.

    Args:
      batch_size: elements in a batch.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._left = _MOST_ELEMENTS
        self._parts: list[Ints] = []

    def add(self, keys: Ints, models: Ints, managers: Ints) -> None:
        """Add elements: numbers of their keys, models and managers, each of shape (n,)."""
        n = min(len(keys), self._left)
        if n:
            rows = (keys[:n], models[:n], managers[:n])
            self._parts.append(np.stack(rows).astype(np.int32))
            self._left -= n

    def accesses(self, manager: int) -> list[Access]:
        """The accesses of a manager, in order."""
        if not self._parts:
            return []
        keys, models, managers = np.concatenate(self._parts, axis=1)
        here = managers == manager
        elements = list(zip(keys[here].tolist(), models[here].tolist(), strict=True))
        found: list[Access] = []
        for begin in range(0, len(elements), self._batch_size):
            batch: dict[int, Counter[int]] = {}
            for key, model in elements[begin : begin + self._batch_size]:
                batch.setdefault(model, Counter())[key] += 1
            found += batch.items()
        return found


@dataclass(frozen=True)
class Stepped:
    """The accesses, keys and sizes that the page shows.

    Attributes:
      accesses: returns the first accesses of a manager.
      models: returns the model of every access of a manager; None if they were not kept.
      keys_and_models: returns all keys as text, and the number of each key's model.
      sizes: bytes of each model; None if not known.
    """

    accesses: Callable[[int], Sequence[Access]]
    models: Callable[[int], Ints] | None
    keys_and_models: Callable[[], tuple[Sequence[str], Ints]]
    sizes: Ints | None

    def content(
        self, models: Sequence[str], totals: Sequence[int], first: int = 1
    ) -> dict[str, Any]:
        """Return the content of the page.

        Args:
          models: names of the models.
          totals: number of accesses of each manager.
          first: first access of each manager that is shown, from 1; managers with fewer accesses
            are left out.

        Raises:
          ValueError: no manager has `first` accesses, the accesses were not kept, or too many
            models were accessed before.
        """
        check_first(first, totals)
        keys, model_of_key = self.keys_and_models()
        used = [number for number, total in enumerate(totals) if total]
        shown = [number for number in used if totals[number] >= first][:MOST_MANAGERS]
        lengths = shares([totals[number] - first + 1 for number in shown], MOST_ACCESSES)
        logged = []
        for number, length in zip(shown, lengths, strict=True):
            accesses = self.accesses(number)
            model = self._models(number, accesses, first)
            window = window_of(model, first, length)
            accesses = [*accesses[window], *[_NO_KEYS] * (window.stop - len(accesses))]
            named, numbers = renumbered(len(models), model[: window.stop])
            logged.append(
                Logged(
                    name="" if len(used) == 1 else f"manager {number + 1}",
                    models=self._described(models, named.tolist(), keys, model_of_key),
                    model=numbers[model[: window.stop]],
                    begin=window.start,
                    elements=np.array([sum(counts.values()) for _, counts in accesses], np.int64),
                    keys=[[keys[key] for key in counts] for _, counts in accesses],
                    total=totals[number],
                )
            )
        return log_content(logged, len(used))

    def _models(self, number: int, accesses: Sequence[Access], first: int) -> Ints:
        """The model of each access of a manager: the first accesses, or all if kept."""
        if first == 1 or (self.models is None and first <= len(accesses)):
            return np.array([model for model, _ in accesses], np.int64)
        if self.models is None:
            raise ValueError(
                f"first is {first:,}: of these accesses {len(accesses):,} were kept; predict with "
                "optimum=True, which keeps all"
            )
        return self.models(number).astype(np.int64)

    def _described(
        self,
        models: Sequence[str],
        named: Sequence[int],
        keys: Sequence[str],
        model_of_key: Ints,
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
