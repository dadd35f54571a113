"""Predicted loads, evictions and bytes for every hint, and tables of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from mmlab._text import plural, shown_everywhere
from mmlab.budget import limit_with
from mmlab.events import UNKNOWN
from mmlab.lru import Ints
from mmlab.prediction.recorded import Measured
from mmlab.prediction.workload import Workload


@dataclass(frozen=True, eq=False)
class PerManager:
    """Counts of each process that holds models of its own.

    Attributes:
      elements, visits, models_seen: elements, accesses and distinct models, int64, shape
        (processes,).
      loads, evictions: int64, shape (processes, models); column n - 1 is capacity n.
      bytes: most bytes of models held at once, shape (processes, models); None without sizes.
    """

    elements: Ints
    visits: Ints
    models_seen: Ints
    loads: Ints
    evictions: Ints
    bytes: Ints | None


class Cliff(NamedTuple):
    """A steep fall in loads between two hints.

    Attributes:
      hint: the smaller hint, at the top of the fall.
      foot: the larger hint, at its foot.
      before, after: loads at `hint` and at `foot`.
    """

    hint: int
    foot: int
    before: int
    after: int


@shown_everywhere
@dataclass(frozen=True, eq=False, repr=False)
class PredictedLoads:
    """Loads, evictions and bytes for every hint from 1 to the number of models.

    Arrays have the shape (models,): entry h - 1 is hint h. The last entry also holds for a hint
    above the number of models and for no hint.

    Attributes:
      models: names of the models.
      models_seen: number of models that are accessed.
      elements, keys: number of elements and of distinct keys.
      visits: number of accesses; a batch accesses each of its models once.
      workload: machines, processes, batches and routing.
      managers: counts of each process.
      optimum_by_capacity, grouped_by_capacity: `optimum` and `grouped_by_key`, by capacity.
      measured: measurements of a trace; None without one.
      sizes: bytes of each model, shape (models,); None if not known.
    """

    models: tuple[str, ...]
    models_seen: int
    elements: int
    keys: int
    visits: int
    workload: Workload
    managers: PerManager
    optimum_by_capacity: Ints | None
    grouped_by_capacity: Ints
    measured: Measured | None
    sizes: Ints | None = None

    @property
    def batch_size(self) -> int | None:
        """Elements in a batch; None if batches are those of a trace."""
        return self.workload.batch_size

    @property
    def processes(self) -> int:
        """Processes per machine that hold models of their own."""
        return self.workload.processes

    @property
    def copies(self) -> int:
        """Copies of the handler that share a manager: the limit is hint × copies."""
        return self.workload.copies or 1

    @property
    def sizes_given(self) -> bool:
        """Whether the caller gave the sizes; otherwise they come from a trace."""
        return self.workload.sizes is not None

    @property
    def hints(self) -> Ints:
        """1 to the number of models, shape (models,)."""
        return np.arange(1, len(self.models) + 1)

    @property
    def loads(self) -> Ints:
        """Loads of all processes together."""
        return self._per_hint(self.managers.loads.sum(axis=0))

    @property
    def evictions(self) -> Ints:
        """Evictions of all processes together."""
        return self._per_hint(self.managers.evictions.sum(axis=0))

    @property
    def optimum(self) -> Ints | None:
        """Fewest possible loads, with optimal evictions; None if not computed."""
        return (
            None if self.optimum_by_capacity is None else self._per_hint(self.optimum_by_capacity)
        )

    @property
    def grouped_by_key(self) -> Ints:
        """Loads after a GroupByKey.

        Assumes that one process gets all elements of a key one after another, and keys in order of
        first occurrence. Local runners do this; Beam does not guarantee the order of the keys.
        """
        return self._per_hint(self.grouped_by_capacity)

    @property
    def grouped_by_model(self) -> int:
        """Loads if the elements are grouped by model: each model loads once, at any hint."""
        return self.models_seen

    @property
    def model_bytes(self) -> Ints | None:
        """Most bytes of models held at once by the fullest process; None without sizes."""
        held = self.managers.bytes
        return None if held is None else self._per_hint(held.max(axis=0))

    @property
    def machine_bytes(self) -> Ints | None:
        """Sum of the processes' peaks of models on the fullest machine; None without sizes."""
        held = self.managers.bytes
        if held is None:
            return None
        machines = held.reshape(self.workload.workers, self.processes, -1).sum(axis=1)
        return self._per_hint(machines.max(axis=0))

    @property
    def reloads(self) -> Ints:
        """Loads of models that the same process has loaded before."""
        return self.loads - int(self.managers.models_seen.sum())

    @property
    def most_reloads(self) -> Ints:
        """Reloads of the process with the most reloads."""
        each = self.managers
        return self._per_hint((each.loads - each.models_seen[:, None]).clip(0).max(axis=0))

    def _per_hint(self, by_capacity: Ints) -> Ints:
        capacity = np.minimum(limit_with(self.hints, self.copies), len(self.models))
        return by_capacity[..., capacity - 1]

    # Answers

    def table(self) -> pd.DataFrame:
        """One row per hint: limit, loads, evictions, optimum, loads after grouping, bytes."""
        return pd.DataFrame({"hint": self.hints, **self._columns()}).set_index("hint")

    def at(self, hint: int | None) -> dict[str, int]:
        """The row of one hint; None means no hint.

        Raises:
          ValueError: there is no such hint.
        """
        i = self.index(hint)
        return {name: int(values[i]) for name, values in self._columns().items()}

    def _columns(self) -> dict[str, Ints]:
        columns = {"limit": limit_with(self.hints, self.copies)} if self.copies > 1 else {}
        columns |= {"loads": self.loads, "evictions": self.evictions}
        if self.optimum is not None:
            columns["optimum"] = self.optimum
        columns["after GroupByKey"] = self.grouped_by_key
        columns["grouped per model"] = np.full(len(self.models), self.grouped_by_model)
        if self.model_bytes is not None:
            columns["model bytes"] = self.model_bytes
        return columns

    def per_worker(self, hint: int | None) -> pd.DataFrame:
        """One row per process under one hint: elements, accesses, models, loads, evictions, bytes.

        Raises:
          ValueError: there is no such hint.
        """
        i = self.index(hint)
        each = self.managers
        machine, process = np.divmod(np.arange(len(each.elements)), self.processes)
        columns = {
            "machine": machine + 1,
            "process": process + 1,
            "elements": each.elements,
            "visits": each.visits,
            "models": each.models_seen,
            "loads": self._per_hint(each.loads)[:, i],
            "evictions": self._per_hint(each.evictions)[:, i],
        }
        if each.bytes is not None:
            columns["model bytes"] = self._per_hint(each.bytes)[:, i]
        return pd.DataFrame(columns).set_index(["machine", "process"])

    def index(self, hint: int | None) -> int:
        """Index of `hint` in the arrays."""
        most = len(self.models)
        if hint is None:
            return most - 1
        if isinstance(hint, bool) or not isinstance(hint, int | np.integer):
            raise TypeError(f"hint must be a whole number from 1 to {most}, or None, got {hint!r}")
        if not 1 <= hint <= most:
            above = ", as every higher hint does the same as the highest" if hint > most else ""
            raise ValueError(
                f"the hint is {hint}, but there are {most} models: give 1 to {most}{above}"
            )
        return int(hint) - 1

    def cliff(self) -> Cliff | None:
        """The narrowest range of hints over which loads fall by half of the whole fall.

        None if loads do not fall, or if the range is wider than one hint and than a twentieth of
        all hints. Also None if the range begins at hint 1 and loads fall after it by more than a
        tenth of the whole fall: such a curve flattens gradually.
        """
        loads = self.loads
        fall = int(loads[0] - loads[-1])
        if fall == 0:
            return None
        foot = np.searchsorted(-loads, -(loads - (fall + 1) // 2))
        reachable = np.flatnonzero(foot < len(loads))
        begin = int(reachable[np.argmin((foot - np.arange(len(loads)))[reachable])])
        end = int(foot[begin])
        if end - begin > max(1, len(loads) // 20):
            return None
        if begin == 0 and loads[end] - loads[-1] > fall / 10:
            return None
        return Cliff(begin + 1, end + 1, int(loads[begin]), int(loads[end]))

    def __repr__(self) -> str:
        return "\n".join(self._sentences())

    @property
    def notes(self) -> list[str]:
        """Assumptions behind the numbers, in sentences; may be empty."""
        notes = []
        if self.measured is not None and self.measured.limit_grew:
            notes.append(
                f"Copies of the handler joined while models were in use, until the limit was "
                f"{self.measured.limit}. The prediction allows hint × {self.copies} from the "
                "start, so a run loads more often."
            )
        if self.measured is not None and UNKNOWN in (self.measured.hint, self.measured.limit):
            notes.append(
                "The trace does not say how many models were allowed, because this version of Beam "
                f"hides it: the prediction allows hint × {self.copies}. Say copies= if it was more."
            )
        if self.measured is not None and not self.measured.whole:
            notes.append("The trace is of a run that did not end, or lacks events.")
        return notes

    def _sentences(self) -> list[str]:
        lines = [
            f"Prediction for {plural(self.elements, 'element')} of {plural(self.keys, 'key')}, "
            f"{plural(len(self.models), 'model')}, {self.workload.words}"
        ]
        cliff = self.cliff()
        hints = {1, len(self.models)} | ({cliff.hint, cliff.foot} if cliff else set())
        for hint in sorted(hints):
            row = self.at(hint)
            lines.append(
                f"  hint {hint}: {plural(row['loads'], 'load')}, "
                f"{plural(row['evictions'], 'eviction')}"
            )
        return lines + [f"  {note}" for note in self.notes]
