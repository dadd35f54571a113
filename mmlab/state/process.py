"""The state of one process: loads, batches and memory, each in the order of its events."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from mmlab.events import (
    UNKNOWN,
    DeadLetter,
    Event,
    Evicts,
    Frees,
    InMemory,
    LoadBegins,
    LoadEnds,
    LoadFails,
    Memory,
    OfLoad,
    OfModel,
    Process,
    Refreshes,
    Unknown,
    UseBegins,
    UseEnds,
)
from mmlab.state.intervals import Ints

UNSEEN = -(2**63)
"""Marks, in a column of times, what did not happen or was not seen."""
_UNENDED = 2**63
_LEAST_GROWTH = 1_000_000
"""Bytes: smaller changes of a process's memory also happen without a load."""

Kind = TypeVar("Kind", bound=Event)


@dataclass(slots=True)
class Load:
    """One load of one model in one process, until its memory is freed.

    Attributes:
      step, model, cohort: identify the model.
      generation: 1 for the model's first load in its process, 2 for the second, …
      begin_ns, end_ns, evict_ns, free_ns: nanoseconds since the epoch; None for what did not happen
        or was not seen. A failed load is freed when it fails.
      bytes: of the model.
      free_observable: whether the model supports weak references, so that its release is seen.
      error: why it could not be loaded.
      object: number of the loaded object in its process; None if not known.
      already: whether the model was in memory before the run; then its load lies before the run.
      again: whether the process had loaded the model before and evicted it.
      sized_by: how its bytes were found, one of `mmlab.events.SIZED_BY`.
    """

    step: str
    model: str
    cohort: str | None
    generation: int
    begin_ns: int
    end_ns: int | None = None
    evict_ns: int | None = None
    free_ns: int | None = None
    bytes: int | Unknown = UNKNOWN
    free_observable: bool = True
    error: str | None = None
    object: int | None = None
    already: bool = False
    again: bool = False
    sized_by: str = "tensors"

    @property
    def over(self) -> bool:
        """Whether the model is gone from memory, as far as that can be seen."""
        gone = self.evict_ns is not None and self.end_ns is not None and not self.free_observable
        return self.free_ns is not None or gone


def _times() -> array[int]:
    return array("q")


@dataclass(slots=True)
class Curve:
    """A quantity of a process over time: nanoseconds since the epoch, and values.

    Attributes:
      in_order: whether the times ascend.
      highest: the highest value; 0 if there is none.
    """

    t_ns: array[int] = field(default_factory=_times)
    values: array[int] = field(default_factory=_times)
    in_order: bool = True
    highest: int = 0

    def add(self, t_ns: int, value: int) -> None:
        if self.t_ns and t_ns < self.t_ns[-1]:
            self.in_order = False
        if value > self.highest:
            self.highest = value
        self.t_ns.append(t_ns)
        self.values.append(value)

    def __len__(self) -> int:
        return len(self.t_ns)


BATCH_COLUMNS = ("load", "asked", "begin_ns", "n", "keys", "end_ns")


@dataclass(slots=True)
class _BatchTable:
    """Batches of one process, one row each, in the order in which they ended.

    The columns are `BATCH_COLUMNS`:
      load: index of the load that answered, in the loads of the process. If that is still to be
        found: -1 - generation, or -1 if another process holds the model.
      asked: index of the model in `ProcessState.asked`.
      begin_ns, end_ns: nanoseconds since the epoch; `UNSEEN` when the end was not seen.
      n: elements.
      keys: index of the elements per key in `ProcessState.key_counts`.
    """

    _numbers: array[int] = field(default_factory=_times)

    def add(self, row: tuple[int, int, int, int, int], end_ns: int) -> None:
        """Add a batch, given as its columns in order."""
        self._numbers.extend(row)
        self._numbers.append(end_ns)

    def since(self, row: int) -> Ints:
        """Return the rows from `row` on, shape (n, 6)."""
        width = len(BATCH_COLUMNS)
        return np.array(self._numbers[row * width :], np.int64).reshape(-1, width)

    @property
    def last_end_ns(self) -> int:
        """End of the last batch; the table must not be empty."""
        return self._numbers[-1]

    def __len__(self) -> int:
        return len(self._numbers) // len(BATCH_COLUMNS)


Asked = tuple[str, str, str | None]
"""A model as a batch asks for it: step, name, cohort."""
_Row = tuple[int, int, int, int, int]
"""A batch that has not ended: the columns without `end_ns`."""


@dataclass(slots=True)
class ProcessState:
    """The state of one process, from its events.

    Attributes:
      process: its host and process id.
      first_ns, last_ns: times of its first and last event, nanoseconds since the epoch.
      loads: in the order in which they began.
      over: indices in `loads` of models that are gone from memory, in the order in which they went.
      open: the other loads, by index in `loads`.
      batches: the batches that have ended.
      asked: models that batches asked for.
      key_counts: elements per key of batches, keys as text.
      errors: type and text of the exception that ended a batch, by row in `batches`.
      given_up: when Beam stopped waiting for a batch, by row in `batches`.
      evictions, reloads, finished_loads, already, uses, elements: counts; see `Counts`.
      rss, peak_rss, data, device_bytes: memory, in bytes.
      data_limit: upper limit of `data` in bytes; None without a limit.
      strays: evictions, ends and releases of models that another step of this process loaded.
      facts: all other events, by type.
    """

    process: Process
    first_ns: int
    last_ns: int
    loads: list[Load] = field(default_factory=list)
    over: list[int] = field(default_factory=list)
    open: dict[int, Load] = field(default_factory=dict)
    batches: _BatchTable = field(default_factory=_BatchTable)
    asked: list[Asked] = field(default_factory=list)
    key_counts: list[Mapping[str, int]] = field(default_factory=lambda: [{}])
    errors: dict[int, str] = field(default_factory=dict)
    given_up: dict[int, int] = field(default_factory=dict)
    finished_loads: int = 0
    reloads: int = 0
    already: int = 0
    evictions: int = 0
    uses: int = 0
    elements: int = 0
    rss: Curve = field(default_factory=Curve)
    peak_rss: Curve = field(default_factory=Curve)
    data: Curve = field(default_factory=Curve)
    data_limit: int | None = None
    device_bytes: Curve = field(default_factory=Curve)
    strays: list[OfModel] = field(default_factory=list)
    facts: defaultdict[type[Event], list[Any]] = field(default_factory=lambda: defaultdict(list))
    _grown: dict[tuple[str, str], int] = field(default_factory=dict)
    _places: dict[tuple[str, str, int], int] = field(default_factory=dict)
    _sites: dict[tuple[str, str, str | None, int | None], tuple[int, int]] = field(
        default_factory=dict
    )
    _asked_places: dict[Asked, int] = field(default_factory=dict)
    _key_places: dict[tuple[tuple[str, int], ...], int] = field(default_factory=dict)
    _open_batches: dict[tuple[int, str, str], _Row] = field(default_factory=dict)
    _outer_batches: dict[tuple[int, str, str], list[_Row]] = field(default_factory=dict)
    _given_up: dict[tuple[int, str, str], int] = field(default_factory=dict)

    def of(self, kind: type[Kind]) -> list[Kind]:
        """Return events of a kind that is kept in `facts`, in the order of writing."""
        return self.facts.get(kind, [])

    def open_batches(self) -> list[_Row]:
        """Return the batches whose end was not seen, sorted by `begin_ns`."""
        outer = [row for rows in self._outer_batches.values() for row in rows]
        return sorted([*outer, *self._open_batches.values()], key=lambda row: row[2])

    # Loads

    def load_begins(self, event: LoadBegins) -> None:
        load = Load(event.step, event.model, event.cohort, event.generation or 1, event.t_ns)
        load.again = self._was_evicted(load)
        self._add(load)
        self.sample(event)

    def _was_evicted(self, load: Load) -> bool:
        """Whether the previous load of the model was evicted; True if this run did not see it."""
        place = self._places.get((load.step, load.model, load.generation - 1))
        return load.generation > 1 and (place is None or self.loads[place].evict_ns is not None)

    def _add(self, load: Load) -> None:
        place = len(self.loads)
        again = (load.step, load.model, load.generation)
        if again in self._places:  # same generation twice: later batches belong to the new load
            self._sites.clear()
        self._places[again] = place
        self.loads.append(load)
        self.open[place] = load

    def load_ends(self, event: LoadEnds) -> None:
        if (place := self._place(event)) is not None:
            load = self.loads[place]
            self.finished_loads += load.end_ns is None
            self.reloads += load.end_ns is None and load.again
            self._size(load, event)
            load.end_ns = event.t_ns
            self._is_there(load, event)
        if event.what is not None:
            self.keep(event)
        self.sample(event)

    def _is_there(self, load: Load, event: LoadEnds | InMemory) -> None:
        load.object, load.free_observable = event.object, event.what != "free"

    def in_memory(self, event: InMemory) -> None:
        since_ns = event.t_ns - event.age_ns
        load = Load(event.step, event.model, event.cohort, event.generation or 1, since_ns)
        load.end_ns, load.already = since_ns, True
        load.bytes, load.sized_by = event.bytes, event.sized_by
        self._is_there(load, event)
        self._add(load)
        self.already += 1
        if event.what is not None:
            self.keep(event)

    def _size(self, load: Load, event: LoadEnds) -> None:
        """Set the bytes of a model: as measured by the process, else the growth of its memory.

        The growth is used only if no other work in the process allocated memory during the load or
        released some before it. Further loads of the same model get the size of the first.
        """
        load.bytes, load.sized_by = event.bytes, event.sized_by
        if event.bytes is not UNKNOWN or event.rss_growth is None:
            return
        site = (load.step, load.model)
        if any((refresh.step, refresh.model) == site for refresh in self.of(Refreshes)):
            return
        if event.rss_growth >= _LEAST_GROWTH and self._was_alone(load):
            self._grown.setdefault(site, event.rss_growth)
        if site in self._grown:
            load.bytes, load.sized_by = self._grown[site], "rss"

    def _was_alone(self, load: Load) -> bool:
        """Whether nothing else allocated memory during a load, or released some before it."""
        return (
            not self.over
            and not self._open_batches
            and (not len(self.batches) or self.batches.last_end_ns <= load.begin_ns)
            and all(
                other is load
                or (other.evict_ns is None and (other.end_ns or _UNENDED) <= load.begin_ns)
                for other in self.open.values()
            )
        )

    def load_fails(self, event: LoadFails) -> None:
        if (place := self._place(event)) is not None:
            load = self.loads[place]
            load.error, load.free_ns = event.error, event.t_ns
            self._settle(place, load)
        self.sample(event)

    def evicts(self, event: Evicts) -> None:
        if (place := self._place(event)) is not None:
            load = self.loads[place]
            self.evictions += load.evict_ns is None
            load.evict_ns = event.t_ns
            self._settle(place, load)
        self.sample(event)

    def frees(self, event: Frees) -> None:
        if (place := self._place(event)) is not None:
            load = self.loads[place]
            load.free_ns = event.t_ns
            self._settle(place, load)

    def _place(self, event: OfModel) -> int | None:
        place = self._places.get((event.step, event.model, event.generation or 1))
        if place is None:
            self.strays.append(event)
        return place

    def _settle(self, place: int, load: Load) -> None:
        if load.over and self.open.pop(place, None) is not None:
            self.over.append(place)

    # Batches

    def use_begins(self, event: UseBegins) -> None:
        step, model, t_ns, n = event.step, event.model, event.t_ns, event.n
        site = (step, model, event.cohort, event.generation)
        load, asked = self._sites.get(site) or self._site(*site)
        keys = self._key_place(event.keys) if event.keys else 0
        batch = (event.tid, step, model)
        if batch in self._open_batches:
            self._outer_batches.setdefault(batch, []).append(self._open_batches[batch])
        self._open_batches[batch] = (load, asked, t_ns, n, keys)
        self.uses += 1
        self.elements += n

    def _site(
        self, step: str, model: str, cohort: str | None, generation: int | None
    ) -> tuple[int, int]:
        """Return the first two columns of a batch's row: its load and the model that it uses."""
        name = (step, model, cohort)
        if name not in self._asked_places:
            self._asked_places[name] = len(self.asked)
            self.asked.append(name)
        asked = self._asked_places[name]
        if generation is None:
            return -1, asked
        place = self._places.get((step, model, max(generation, 1)))
        if place is None:
            return -1 - max(generation, 1), asked
        self._sites[step, model, cohort, generation] = place, asked
        return place, asked

    def use_ends(self, event: UseEnds) -> None:
        batch = (event.tid, event.step, event.model)
        row = self._open_batches.pop(batch, None)
        if row is None:
            return
        if self._outer_batches and batch in self._outer_batches:
            self._resume(batch)
        if event.error is not None:
            self.errors[len(self.batches)] = event.error
        if self._given_up and batch in self._given_up:
            self.given_up[len(self.batches)] = self._given_up.pop(batch)
        self.batches.add(row, event.t_ns)

    def dead_letter(self, event: DeadLetter) -> None:
        if event.timed_out and event.thread is not None and event.step and event.model:
            batch = (event.thread, event.step, event.model)
            if batch in self._open_batches:
                self._given_up[batch] = event.t_ns
        self.keep(event)

    def _resume(self, batch: tuple[int, str, str]) -> None:
        """Make the enclosing batch the open one again, after a nested batch has ended."""
        outer = self._outer_batches[batch]
        self._open_batches[batch] = outer.pop()
        if not outer:
            del self._outer_batches[batch]

    def _key_place(self, keys: Mapping[str, int]) -> int:
        items = tuple(keys.items())
        place = self._key_places.get(items)
        if place is None:
            place = self._key_places[items] = len(self.key_counts)
            self.key_counts.append(keys)
        return place

    # Memory, and the rest

    def sample(self, event: Memory | OfLoad) -> None:
        if event.rss is not None:
            self.rss.add(event.t_ns, event.rss)
            if event.peak_rss is not None:
                self.peak_rss.add(event.t_ns, event.peak_rss)
        if isinstance(event, Memory) and event.data is not None:
            self.data.add(event.t_ns, event.data)
            self.data_limit = event.data_limit
        if event.device_bytes is not None:
            self.device_bytes.add(event.t_ns, event.device_bytes)

    def keep(self, event: Event) -> None:
        self.facts[type(event)].append(event)


WHAT_IT_DOES: dict[type[Event], Callable[[ProcessState, Any], None]] = {
    LoadBegins: ProcessState.load_begins,
    LoadEnds: ProcessState.load_ends,
    LoadFails: ProcessState.load_fails,
    UseBegins: ProcessState.use_begins,
    UseEnds: ProcessState.use_ends,
    DeadLetter: ProcessState.dead_letter,
    Evicts: ProcessState.evicts,
    Frees: ProcessState.frees,
    InMemory: ProcessState.in_memory,
    Memory: ProcessState.sample,
}
"""The method that applies each type of event; events of other types are kept in `facts`."""
