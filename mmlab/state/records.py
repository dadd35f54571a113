"""What is read of a run: loads, batches, counts, memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mmlab._text import shown_everywhere
from mmlab.events import UNKNOWN, Process, Unknown
from mmlab.state.intervals import Ints, over_time
from mmlab.state.process import UNSEEN, Asked


@dataclass(slots=True)
class Use:
    """One batch in one model.

    Attributes:
      begin_ns, end_ns: nanoseconds since the epoch; `end_ns` is None when the end was never seen.
      n: elements.
      keys: elements per key, for keyed handlers.
      process: the process that asked, which need not be the one that holds the model.
      error: type and text of the exception that ended it.
    """

    begin_ns: int
    n: int
    process: Process
    keys: Mapping[str, int] = field(default_factory=dict)
    end_ns: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """Batches of a run as columns, shape (n,) each, by the time at which they began.

    Attributes:
      begin_ns, end_ns: nanoseconds since the epoch; `UNSEEN` when the end was never seen.
      n: elements.
      residence: place of the load that answered in `State.residences`; -1 where none was seen.
      process: place in `processes` of the process that asked.
      asked: place in `models` of the model, as the step that asked calls it.
      keys: place in `key_counts` of the elements per key.
      errors: type and text of the exception that ended a batch; None for the others.
      given_up_ns: when Beam stopped waiting for a batch that ended later; else `UNSEEN`.
      processes, models, key_counts: what the columns refer to.
    """

    begin_ns: Ints
    end_ns: Ints
    n: Ints
    residence: Ints
    process: Ints
    asked: Ints
    keys: Ints
    errors: np.ndarray
    given_up_ns: Ints
    processes: Sequence[Process]
    models: Sequence[Asked]
    key_counts: Sequence[Mapping[str, int]]

    def __len__(self) -> int:
        return len(self.begin_ns)

    def take(self, rows: Ints | slice) -> Batches:
        """Some of them."""
        return Batches(
            begin_ns=self.begin_ns[rows],
            end_ns=self.end_ns[rows],
            n=self.n[rows],
            residence=self.residence[rows],
            process=self.process[rows],
            asked=self.asked[rows],
            keys=self.keys[rows],
            errors=self.errors[rows],
            given_up_ns=self.given_up_ns[rows],
            processes=self.processes,
            models=self.models,
            key_counts=self.key_counts,
        )

    @property
    def failed(self) -> npt.NDArray[np.bool_]:
        """Which of them ended with an exception, while Beam waited for them."""
        raised = np.array([error is not None for error in self.errors], np.bool_)
        failed: npt.NDArray[np.bool_] = raised & (self.given_up_ns == UNSEEN)
        return failed

    def uses(self) -> Iterator[Use]:
        """One object for each."""
        for row in zip(
            self.begin_ns.tolist(), self.n.tolist(), self.process.tolist(), self.keys.tolist(),
            self.end_ns.tolist(), self.errors.tolist(), strict=True,
        ):  # fmt: skip
            begin_ns, n, process, keys, end_ns, error = row
            end = None if end_ns == UNSEEN else end_ns
            yield Use(begin_ns, n, self.processes[process], self.key_counts[keys], end, error)


@shown_everywhere
@dataclass(slots=True, eq=False)
class Residence:
    """One load of one model in one process, from the first byte to the last.

    Attributes:
      process: the process that holds the model.
      generation: 1 for the first load of this model in this process, 2 for the second, …
      load_begin_ns, load_end_ns, evict_ns, free_ns: nanoseconds since the epoch; None for what did
        not happen or was not seen. Evicted is a decision; freed means that nothing refers to it.
      last_ns: the last moment of the run in which the memory was, as far as is known, still held.
      bytes: of the model.
      free_observable: whether the model can be weakly referenced, so that its release is seen.
      error: why it could not be loaded.
      object: tells the objects that a process loaded apart: a cache around the loading may give one
        object to several loads; None where that is not known.
      already: whether the model was in memory before the run: then nothing was loaded, and
        `load_begin_ns` and `load_end_ns` are when the run began, or another run had loaded it.
      again: whether the process had loaded the model before, and evicted it: a reload. The second
        copy of a model is none, and neither is a refresh.
      version: where a refresh said that it comes from; None where it was not refreshed.
      rows: places of the batches that it answered in `State.batches`.
      sized_by: how its bytes were found, one of `mmlab.events.SIZED_BY`.
    """

    process: Process
    step: str
    model: str
    generation: int
    load_begin_ns: int
    load_end_ns: int | None
    evict_ns: int | None
    free_ns: int | None
    last_ns: int
    bytes: int | Unknown
    free_observable: bool
    error: str | None
    cohort: str | None
    object: int | None
    already: bool
    again: bool
    version: str | None
    _all: Batches
    rows: Ints
    sized_by: str = "tensors"

    @property
    def loaded(self) -> bool:
        """Whether this run loaded it."""
        return self.load_end_ns is not None and not self.already

    @property
    def batches(self) -> Batches:
        """The batches that it answered."""
        return self._all.take(self.rows)

    @property
    def uses(self) -> list[Use]:
        """The batches that it answered, an object each."""
        return list(self.batches.uses())

    @property
    def loading(self) -> tuple[int, int]:
        """When its load began, and when that ended: well, with an error, or with the run."""
        if self.load_end_ns is not None:
            return self.load_begin_ns, self.load_end_ns
        return self.load_begin_ns, self.last_ns

    def resident_at(self, t_ns: int) -> bool:
        """Whether it was held: loaded, and not freed."""
        return self.load_end_ns is not None and self.load_end_ns <= t_ns < self.last_ns


@dataclass(frozen=True)
class Counts:
    """What happened in a run, counted.

    Attributes:
      loads: models that finished loading; `reloads` of them had been loaded before in that process,
        and evicted.
      already: models that were in memory before the run.
      evictions: models that the model manager dropped.
      refreshes: how often a model that had been loaded was given another path.
      uses: batches in models; a batch that touches two models counts twice.
      elements: elements in those batches.
      failed: batches in models that ended with an exception.
      timed_out: batches that Beam stopped waiting for; they are no failed ones, however they end.
      dead_letters: batches that steps with exception handling gave out as failed, timed-out ones
        among them. A batch for several models is one.
    """

    loads: int
    reloads: int
    already: int
    evictions: int
    refreshes: int
    uses: int
    elements: int
    failed: int
    timed_out: int
    dead_letters: int


@dataclass(frozen=True)
class RunMemory:
    """Memory of the worker process whose resident set size was highest, in bytes.

    Attributes:
      rss: resident set size at the end, or now.
      peak_rss: the highest during the run.
      device_bytes: highest memory allocated on GPUs by any one process; None without a GPU.
      processes: worker processes whose memory is known.
    """

    rss: int | None
    peak_rss: int | None
    device_bytes: int | None
    processes: int


@dataclass(frozen=True)
class MachineMemory:
    """Memory of one machine, in bytes: of the processes that lived on it at the same time, summed.

    A process lives from its first sample of memory to its last. Pages that processes share count
    once for each of them, as they do in their resident set sizes.

    Attributes:
      peak_rss: highest sum of the resident set sizes; at least the highest of any one process.
      processes: most processes that lived at the same time.
      holding: processes that held models.
      model_bytes: most bytes of models that they held at the same time.
    """

    peak_rss: int
    processes: int
    holding: int
    model_bytes: int | Unknown


def held_over_time(residences: Iterable[Residence], *, sizes: bool = False) -> tuple[Ints, Ints]:
    """Models held over time, or their bytes; see `over_time`.

    Several loads may have given the same object: it counts once, and once for each of its models
    where models are counted.

    Args:
      sizes: whether to sum bytes; models of unknown size are left out.
    """
    held = _first_of_each([r for r in residences if r.load_end_ns is not None], sizes)
    if sizes:
        held = [r for r in held if r.bytes is not UNKNOWN]
    amounts = [r.bytes for r in held if isinstance(r.bytes, int)] if sizes else None
    begins = [r.load_end_ns for r in held if r.load_end_ns is not None]
    return over_time(begins, [r.last_ns for r in held], amounts)


def _first_of_each(residences: list[Residence], sizes: bool) -> list[Residence]:
    """The first load of each object: it was held as long as all others together."""
    seen: set[tuple[object, ...]] = set()
    kept = []
    for r in residences:
        thing = held_as(r.object, None if sizes else (r.step, r.model))
        if thing is None or (r.process, *thing) not in seen:
            kept.append(r)
        if thing is not None:
            seen.add((r.process, *thing))
    return kept


def held_as(number: int | None, model: tuple[str, str] | None) -> tuple[object, ...] | None:
    """What counts once of all loads of a process; None for a load that counts by itself.

    Args:
      number: of the loaded object.
      model: step and name, where models are counted and not bytes.
    """
    return None if number is None else (number, model)


def most_bytes_held(groups: Iterable[Iterable[Residence]]) -> int | Unknown:
    """Most bytes of models that one group held at once; unknown where a size is, or none was held.

    Args:
      groups: loads of each process, or of each machine.
    """
    held = [[r for r in group if r.load_end_ns is not None] for group in groups]
    if not any(held) or any(r.bytes is UNKNOWN for group in held for r in group):
        return UNKNOWN
    return max(int(held_over_time(group, sizes=True)[1].max(initial=0)) for group in held)


NONE = np.zeros(0, np.int64)
NO_BATCHES = Batches(
    NONE, NONE, NONE, NONE, NONE, NONE, NONE, np.zeros(0, object), NONE, [], [], []
)  # fmt: skip
