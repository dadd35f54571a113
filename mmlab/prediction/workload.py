"""Route elements to model managers and turn their batches into accesses.

Keys are numbers here (`mmlab.prediction.keys`), in NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, Literal, get_args
from zlib import crc32

import numpy as np
import numpy.typing as npt

from mmlab import lru
from mmlab._arguments import whole_number
from mmlab._text import listed, plural
from mmlab.lru import Ints, StackDistances
from mmlab.prediction.keys import KeyNumbers
from mmlab.prediction.stepped import Access, FirstElements

Routing = Literal["spray", "by_key", "by_model"]
ROUTINGS: tuple[Routing, ...] = get_args(Routing)

_ROUTING_WORDS = {
    "spray": "sprayed",
    "by_key": "routed by key",
    "by_model": "routed by model",
    "recorded": "as recorded",
}
_MOST_MANAGERS = 2**16

_Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Workload:
    """The arguments of `mmlab.predict` about workers, batches, routing and sizes.

    Attributes:
      batch_size: elements in a batch; None if batches are those of a trace.
      workers, processes: machines, and processes on each machine that hold models of their own.
      copies: copies of the handler that share a model manager: its limit is hint × copies.
      routing: "spray", "by_key", "by_model", or "recorded" for the accesses of a trace.
      sizes: bytes of models, as given by the caller; None if not given.
      optimum: whether to compute the fewest possible loads.
      seed: seed of the random draws.

    Raises:
      TypeError, ValueError: an argument is not valid.
    """

    batch_size: int | None = None
    workers: int = 1
    processes: int = 1
    copies: int | None = None
    routing: str = "spray"
    sizes: Mapping[Any, Real] | Sequence[Real] | Real | None = None
    optimum: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("workers", "processes"):
            whole_number(name, getattr(self, name))
        for name in ("batch_size", "copies"):
            if getattr(self, name) is not None:
                whole_number(name, getattr(self, name))
        whole_number("seed", self.seed, least=0)
        if self.routing not in (*ROUTINGS, "recorded"):
            raise ValueError(f"routing must be one of {', '.join(ROUTINGS)}, got {self.routing!r}")
        if self.managers > _MOST_MANAGERS:
            raise ValueError(f"{self.managers} processes are too many: up to {_MOST_MANAGERS}")

    @property
    def managers(self) -> int:
        """Number of model managers, each with models of its own."""
        return self.workers * self.processes

    @property
    def words(self) -> str:
        """Processes, routing, batches and limit, in words."""
        batches = {1: "batches of 1", None: "batches as recorded"}
        size = batches.get(self.batch_size, f"batches of {self.batch_size}")
        copies = f", limit = hint × {self.copies}" if (self.copies or 1) > 1 else ""
        return f"{self._processes}, {size}{copies}"

    @property
    def _processes(self) -> str:
        if self.managers == 1:
            return "one process"
        each = "" if self.processes == 1 else f" × {plural(self.processes, 'process')}"
        return f"{plural(self.workers, 'machine')}{each}, {_ROUTING_WORDS[self.routing]}"


@dataclass(frozen=True, eq=False)
class Asked:
    """The accesses of one model manager so far.

    Attributes:
      elements: number of elements.
      distances: stack distances of the accesses.
      kept: the accesses, in parts; empty if they are not kept.
      rest: models of the elements in the batch that is not full yet.
    """

    elements: int = 0
    distances: StackDistances = field(default_factory=StackDistances)
    kept: tuple[Ints, ...] = ()
    rest: Ints = field(default_factory=lambda: np.zeros(0, np.int32))

    @property
    def accesses(self) -> Ints:
        """The accessed models, in order; empty if they are not kept."""
        return np.concatenate([*self.kept, np.zeros(0, np.uint16)])

    def after_elements(self, models: Ints, batch_size: int, keep: bool) -> Asked:
        """A copy with elements for `models` added, int32, shape (n,)."""
        waiting = np.concatenate([self.rest, models]) if len(self.rest) else models
        whole = len(waiting) - len(waiting) % batch_size
        accesses = lru.batch_accesses(waiting[:whole], batch_size)
        following = self.after_accesses(accesses, keep) if whole else self
        return replace(following, elements=self.elements + len(models), rest=waiting[whole:])

    def after_accesses(self, accesses: Ints, keep: bool) -> Asked:
        """A copy with `accesses` added, shape (n,)."""
        few = accesses.max(initial=0) < 2**16
        kept = (*self.kept, accesses.astype(np.uint16 if few else np.int32)) if keep else ()
        return replace(self, distances=self.distances.after(accesses), kept=kept)

    def ended(self, keep: bool) -> Asked:
        """A copy with the last batch added, full or not."""
        if not len(self.rest):
            return self
        accesses = lru.batch_accesses(self.rest, len(self.rest))
        return replace(self.after_accesses(accesses, keep), rest=self.rest[:0])


class Managers:
    """All model managers of a workload; elements are added piece by piece.

    Args:
      workload: managers, batches and routing.
      keep: whether to keep all accesses, 2 or 4 bytes each. Otherwise memory does not grow with
        the number of elements.
    """

    def __init__(self, workload: Workload, keep: bool):
        self._each = [Asked() for _ in range(workload.managers)]
        self._workload = workload
        self._batch_size = workload.batch_size or 1
        self._keep = keep
        self._position = 0
        self._manager_of_name: Ints = np.zeros(0, np.int32)
        self._first = FirstElements(self._batch_size)

    def feed(self, keys: Ints, numbers: KeyNumbers) -> None:
        """Add elements with these `keys`, numbers from `numbers`, int32."""
        models = numbers.models[keys]
        managers = len(self._each)
        if managers == 1:
            where: Ints = np.zeros(len(keys), np.uint16)
            order, parts = None, [models]
        else:
            where = self._where(keys, models, numbers).astype(np.uint16)  # sorted in linear time
            order = np.argsort(where, kind="stable")
            ends = np.cumsum(np.bincount(where, minlength=managers))[:-1]
            parts = np.split(models[order], ends)
        self._first.add(keys, models, where)
        for i, part in enumerate(parts):
            if len(part):
                self._each[i] = self._each[i].after_elements(part, self._batch_size, self._keep)

    def end(self) -> list[Asked]:
        """The accesses of each manager, with the last batches added."""
        return [asked.ended(self._keep) for asked in self._each]

    def first_accesses(self, manager: int) -> Sequence[Access]:
        """The first accesses of a manager, with their keys."""
        return self._first.accesses(manager)

    def _where(self, keys: Ints, models: Ints, numbers: KeyNumbers) -> Ints:
        managers, seed = len(self._each), self._workload.seed
        if self._workload.routing == "spray":
            begin = self._position
            self._position += len(keys)
            return _sprayed(begin, len(keys), managers, seed)
        by_key = self._workload.routing == "by_key"
        if (len(numbers) if by_key else len(numbers.names)) > len(self._manager_of_name):
            names = numbers.texts if by_key else numbers.names
            self._manager_of_name = _by_name(names, managers, seed)
        return self._manager_of_name[keys if by_key else models]


class KeyCounts:
    """Number of elements of each key, and the order in which keys first occurred."""

    def __init__(self) -> None:
        self._elements: Ints = np.zeros(0, np.int64)
        self._order: list[Ints] = []

    def feed(self, keys: Ints) -> None:
        """Count `keys`, numbers, int32."""
        counts = np.bincount(keys, minlength=len(self._elements))
        known = np.zeros(len(counts), np.int64)
        known[: len(self._elements)] = self._elements
        if (counts[known == 0] > 0).any():
            unique, first = np.unique(keys[known[keys] == 0], return_index=True)
            self._order.append(unique[np.argsort(first)])
        self._elements = known + counts

    def groups(self) -> tuple[Ints, Ints]:
        """Keys in order of first occurrence, and the number of elements of each."""
        order = np.concatenate([*self._order, np.zeros(0, np.int32)])
        return order, self._elements[order]


def loads_by_key(counts: KeyCounts, numbers: KeyNumbers, workload: Workload) -> Ints:
    """Loads after a GroupByKey, with capacity 1, 2, … models; int64, shape (models,)."""
    keys, elements = counts.groups()
    models = numbers.models[keys]
    where = _by_name(numbers.texts, workload.managers, workload.seed)[keys]
    total: Ints = np.zeros(len(numbers.names), np.int64)
    for manager in np.unique(where):
        here = where == manager
        accesses = _grouped_accesses(models[here], elements[here], workload.batch_size or 1)
        total += StackDistances().after(accesses).loads(len(total))
    return total


def _grouped_accesses(groups: Ints, elements: Ints, size: int) -> Ints:
    """Accesses of elements that come group by group.

    Batches in the middle of a group are left out: they access the model that was accessed last, so
    they change no load.

    Args:
      groups: number of the model of each group, shape (n,), in order.
      elements: number of elements of each group, positive, shape (n,).
      size: elements in a batch.
    """
    end = np.cumsum(elements)
    first, last = (end - elements) // size, (end - 1) // size
    accesses: Ints = np.column_stack([first, groups, last, groups]).reshape(-1, 2)
    _, at = np.unique(accesses, axis=0, return_index=True)
    models: Ints = accesses[np.sort(at), 1].astype(np.int32)
    return models


# Routing


def _sprayed(start: int, count: int, managers: int, seed: int) -> Ints:
    """Draw a manager for each of the elements `start` to `start + count`, uniformly.

    A draw depends only on `seed` and the element's position, not on the pieces of the log.
    """
    positions = np.arange(start, start + count, dtype=np.uint64)
    drawn: Ints = _mixed(positions ^ _mixed(np.array([seed], np.uint64))) % np.uint64(managers)
    return drawn.astype(np.int32)


def _by_name(names: Sequence[str], managers: int, seed: int) -> Ints:
    """Managers of keys or models, by a hash of the name and `seed`."""
    sums = [crc32(name.encode("utf-8", "surrogatepass"), seed) for name in names]
    drawn: Ints = _mixed(np.array(sums, np.uint64)) % np.uint64(managers)
    return drawn.astype(np.int32)


def _mixed(values: _Words) -> _Words:
    """A well-mixed 64-bit number for each of `values`, uint64 (Steele and others, SplitMix64)."""
    z: Any = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: _Words = z ^ (z >> np.uint64(31))
    return mixed


# Sizes


def read_sizes(sizes: Any, names: Sequence[str], needed: npt.NDArray[np.bool_]) -> Ints:
    """Bytes of each model, int64, in the order of `names`.

    Args:
      sizes: bytes by model name, in the order of the models, or one number for all.
      needed: whether each model is accessed and so needs a size, bool, shape (models,).

    Raises:
      ValueError: a size is missing, negative or not finite; the message names the model.
      TypeError: a size is not a number.
    """
    given = _size_of_each(sizes, names)
    needs = zip(given, names, needed.tolist(), strict=True)
    return np.array([_size(*need) for need in needs], np.int64)


def _size_of_each(sizes: Any, names: Sequence[str]) -> list[Any]:
    if isinstance(sizes, Mapping):
        unknown = [name for name in sizes if name not in set(names)]
        if unknown:
            raise ValueError(
                f"sizes names {unknown[0]!r}, which is no model: the models are {listed(names)}"
            )
        return [sizes.get(name) for name in names]
    if isinstance(sizes, Real) or np.ndim(sizes) == 0:
        return [sizes] * len(names)
    if len(sizes) != len(names):
        raise ValueError(
            f"sizes has {len(sizes)} entries, but there are {len(names)} models: give bytes by "
            f"model name, or one number for each of {listed(names)}"
        )
    return list(sizes)


def _size(size: Any, name: str, used: bool) -> int:
    if size is None or size != size:
        if used:
            raise ValueError(f"sizes has no bytes for model {name}: add them, or leave sizes out")
        return 0
    if not isinstance(size, Real | np.number) or isinstance(size, bool):
        raise TypeError(f"the size of model {name} must be a number of bytes, got {size!r}")
    if size < 0 or size == float("inf"):
        raise ValueError(
            f"the size of model {name} must be a number of bytes, 0 or more, got {size}"
        )
    number: Any = size
    return int(round(number))
