"""Elements reach model managers, and every manager keeps the models that were used last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmlab.lru import Depths, depths
from mmlab.page.content import MOST_ACCESSES
from mmlab.prediction.batches import Batches, grouped_visits
from mmlab.prediction.belady import fewest_loads
from mmlab.prediction.keys import KeyNumbers
from mmlab.prediction.routing import Routing, by_name, sprayed
from mmlab.prediction.sizes import peak_bytes


@dataclass(frozen=True)
class Plan:
    """How elements are dealt.

    Attributes:
      managers: model managers, each with models of its own.
      batch_size: elements in a batch.
      seed: of the draw which element or key goes where.
      keeps_visits: whether all visits are kept until the end, which the optimum needs, and bytes
        where models differ in size; 2 or 4 bytes each. Otherwise memory does not grow with the
        number of elements.
    """

    managers: int
    batch_size: int
    seed: int
    keeps_visits: bool


class Manager:
    """One model manager: what it is asked for, and what that means for every number of models."""

    def __init__(self, batch_size: int):
        self.elements = 0
        self._batches = Batches(batch_size)
        self._depths = depths()
        self._kept: list[np.ndarray] = []

    def feed(self, models: np.ndarray, count: int, keep: bool) -> None:
        """Go on with elements for `models`, int32; there can be `count` models."""
        self.elements += len(models)
        self.visit(self._batches.visits(models, count), count, keep)

    def visit(self, visits: np.ndarray, count: int, keep: bool) -> None:
        self._depths.grow(count)
        self._depths.feed(visits)
        if keep:
            self._kept.append(visits.astype(np.uint16 if count <= 2**16 else np.int32))

    @property
    def visits(self) -> int:
        return self._depths.visits

    @property
    def seen(self) -> int:
        """Models that were visited at all."""
        return self._depths.first

    def loads(self, count: int) -> np.ndarray:
        return self._depths.loads(count)

    def kept(self) -> np.ndarray:
        return np.concatenate([*self._kept, np.zeros(0, np.uint16)])


class FirstElements:
    """The first elements of a log, for a page in which its accesses are stepped through.

    Args:
      batch_size: elements in a batch.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._left = MOST_ACCESSES
        self._parts: list[np.ndarray] = []

    def add(self, keys: np.ndarray, models: np.ndarray, where: np.ndarray | None = None) -> None:
        """Go on with elements: numbers of their keys, models and managers."""
        n = min(len(keys), self._left)
        if n:
            managers = np.zeros(n, np.int32) if where is None else where[:n]
            self._parts.append(np.stack([keys[:n], models[:n], managers]).astype(np.int32))
            self._left -= n

    def accesses(self, manager: int) -> list[tuple[int, dict[int, int]]]:
        """Accesses of a manager, in order: the model, and elements per key."""
        if not self._parts:
            return []
        keys, models, managers = np.concatenate(self._parts, axis=1)
        here = np.flatnonzero(managers == manager)
        found: list[tuple[int, dict[int, int]]] = []
        batch: dict[int, dict[int, int]] = {}
        for i, (key, model) in enumerate(
            zip(keys[here].tolist(), models[here].tolist(), strict=True)
        ):
            if i % self._batch_size == 0:
                found += batch.items()
                batch = {}
            counts = batch.setdefault(model, {})
            counts[key] = counts.get(key, 0) + 1
        return [*found, *batch.items()]


class Replay:
    """All managers under one way of routing."""

    def __init__(self, plan: Plan, routing: Routing):
        self._plan = plan
        self._routing = routing
        self._position = 0
        self._table = np.zeros(0, np.int32)
        self.first = FirstElements(plan.batch_size)
        self.managers = [Manager(plan.batch_size) for _ in range(plan.managers)]

    def feed(self, keys: np.ndarray, numbers: KeyNumbers) -> None:
        """Go on with `keys`, numbers that `numbers` gave, int32."""
        models = numbers.models[keys]
        count = len(numbers.names)
        for manager, part in self._dealt(keys, models, numbers):
            manager.feed(part, count, self._plan.keeps_visits)

    def _dealt(
        self, keys: np.ndarray, models: np.ndarray, numbers: KeyNumbers
    ) -> list[tuple[Manager, np.ndarray]]:
        if self._plan.managers == 1:
            self.first.add(keys, models)
            return [(self.managers[0], models)]
        where = self._where(keys, models, numbers).astype(np.uint16)  # sorted in linear time
        self.first.add(keys, models, where)
        order = np.argsort(where, kind="stable")
        bounds = np.cumsum(np.bincount(where, minlength=self._plan.managers))[:-1]
        parts = np.split(models[order], bounds)
        return [(m, part) for m, part in zip(self.managers, parts, strict=True) if len(part)]

    def _where(self, keys: np.ndarray, models: np.ndarray, numbers: KeyNumbers) -> np.ndarray:
        plan = self._plan
        if self._routing == "spray":
            begin = self._position
            self._position += len(keys)
            return sprayed(begin, len(keys), plan.managers, plan.seed)
        names = numbers.texts if self._routing == "by_key" else numbers.names
        if len(names) > len(self._table):
            self._table = by_name(names, plan.managers, plan.seed)
        return self._table[keys if self._routing == "by_key" else models]


class KeyCounts:
    """Elements of each key, and the order in which keys were first seen."""

    def __init__(self) -> None:
        self._elements = np.zeros(0, np.int64)
        self._order: list[np.ndarray] = []

    def feed(self, keys: np.ndarray) -> None:
        """Go on with `keys`, numbers, int32."""
        counts = np.bincount(keys, minlength=len(self._elements))
        known = np.zeros(len(counts), np.int64)
        known[: len(self._elements)] = self._elements
        new = keys[known[keys] == 0] if (counts[known == 0] > 0).any() else keys[:0]
        if len(new):
            unique, first = np.unique(new, return_index=True)
            self._order.append(unique[np.argsort(first)])
        self._elements = known + counts

    def groups(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys in the order first seen, and how many elements each has."""
        order = np.concatenate([*self._order, np.zeros(0, np.int32)])
        return order, self._elements[order]


def grouped_by_key(counts: KeyCounts, numbers: KeyNumbers, plan: Plan) -> np.ndarray:
    """Loads after a GroupByKey, for room for 1, 2, … models; int64, shape (models,)."""
    keys, elements = counts.groups()
    models = numbers.models[keys]
    where = by_name(numbers.texts, plan.managers, plan.seed)[keys]
    total = np.zeros(len(numbers.names), np.int64)
    for manager in np.unique(where):
        here = where == manager
        stack: Depths = depths(len(total))
        stack.feed(grouped_visits(models[here], elements[here], plan.batch_size))
        total += stack.loads(len(total))
    return total


def optimum(managers: Sequence[Manager], count: int) -> np.ndarray:
    """Fewest loads of all managers together, for room for 1, 2, … models."""
    return np.sum([fewest_loads(manager.kept(), count) for manager in managers], axis=0)


def most_bytes(managers: Sequence[Manager], sizes: np.ndarray) -> np.ndarray:
    """Most bytes of models that each manager holds; int64, shape (managers, models)."""
    return np.array([peak_bytes(manager.kept(), sizes) for manager in managers])
