"""Records of a run: loads, batches, counts and memory."""

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
      begin_ns, end_ns: nanoseconds since the epoch; `end_ns` is None when the end was not seen.
      n: elements.
      keys: elements per key, for keyed handlers.
      process: the process of the batch; the model may be in another process.
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
    """Batches of a run as columns, shape (n,) each, sorted by the time at which they began.

    Attributes:
      begin_ns, end_ns: nanoseconds since the epoch; `UNSEEN` when the end was not seen.
      n: elements.
      residence: index of the load that answered in `State.residences`; -1 where none was seen.
      process: index in `processes` of the process of the batch.
      asked: index in `models` of the model, as named by the step of the batch.
      keys: index in `key_counts` of the elements per key.
      errors: type and text of the exception that ended a batch; None for the others.
      given_up_ns: when Beam stopped waiting for a batch that ended later; else `UNSEEN`.
      processes, models, key_counts: the tables that the indices refer to.
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
        """Return the batches of these rows."""
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
        """Mask of the batches that ended with an exception while Beam waited for them."""
        raised = np.array([error is not None for error in self.errors], np.bool_)
        failed: npt.NDArray[np.bool_] = raised & (self.given_up_ns == UNSEEN)
        return failed

    def uses(self) -> Iterator[Use]:
        """Yield each batch as an object."""
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
    """One load of one model in one process, until its memory is freed.

    Attributes:
      process: the process that holds the model.
      generation: 1 for the first load of this model in this process, 2 for the second, …
      load_begin_ns, load_end_ns, evict_ns, free_ns: nanoseconds since the epoch; None for what did
        not happen or was not seen. Evicted: dropped by Beam; freed: nothing refers to the model.
      last_ns: last moment of the run at which the memory was held, as far as is known.
      bytes: of the model.
      free_observable: whether the model supports weak references, so that its release is seen.
      error: why it could not be loaded.
      object: number of the loaded object in its process, the same for loads that got one object
        from a cache; None if not known.
      already: whether the model was in memory before the run: then nothing was loaded, and
        `load_begin_ns` and `load_end_ns` are the start of the run, or when another run had loaded
        it.
      again: whether this is a reload: the process had loaded the model before and evicted it. A
        second copy of a model and a refresh are not reloads.
      version: the path that a refresh set; None without a refresh.
      rows: indices in `State.batches` of the batches that it answered.
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
        """The batches that it answered, as objects."""
        return list(self.batches.uses())

    @property
    def loading(self) -> tuple[int, int]:
        """Begin and end of its load; a load without an end lasts until the run ends."""
        if self.load_end_ns is not None:
            return self.load_begin_ns, self.load_end_ns
        return self.load_begin_ns, self.last_ns

    def resident_at(self, t_ns: int) -> bool:
        """Whether the model was loaded and not yet freed at `t_ns`."""
        return self.load_end_ns is not None and self.load_end_ns <= t_ns < self.last_ns


@dataclass(frozen=True)
class Counts:
    """Counts of a run.

    Attributes:
      loads: loads that finished; `reloads` of them are of models that the same process had loaded
        before and evicted.
      already: models that were in memory before the run.
      evictions: models that the model manager dropped.
      refreshes: how often a loaded model got another path.
      uses: batches in models; a batch that uses two models counts twice.
      elements: elements in those batches.
      failed: batches in models that ended with an exception.
      timed_out: batches that Beam stopped waiting for; not counted in `failed`.
      dead_letters: batches that steps with exception handling output as failed, including
        timed-out ones. A batch for several models counts once.
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
    """Memory of the worker process with the highest resident set size, in bytes.

    Attributes:
      rss: resident set size at the end, or now.
      peak_rss: the highest resident set size during the run.
      device_bytes: highest memory allocated on GPUs by one process; None without a GPU.
      processes: worker processes whose memory is known.
    """

    rss: int | None
    peak_rss: int | None
    device_bytes: int | None
    processes: int


@dataclass(frozen=True)
class MachineMemory:
    """Memory of one machine in bytes, summed over the processes that ran at the same time.

    A process counts from its first memory sample to its last. Shared pages count once for each
    process, as in their resident set sizes.

    Attributes:
      peak_rss: highest sum of the resident set sizes; at least the highest of one process.
      processes: largest number of processes at the same time.
      holding: number of processes that held models.
      model_bytes: most bytes of models held at the same time.
    """

    peak_rss: int
    processes: int
    holding: int
    model_bytes: int | Unknown


def held_over_time(residences: Iterable[Residence], *, sizes: bool = False) -> tuple[Ints, Ints]:
    """Return the number of models held over time, or their bytes, as `over_time` does.

    An object shared by several loads counts once in bytes, and once per model in numbers.

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
    """Return the first load of each object, held for as long as any load of that object."""
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
    """Return a key equal for loads that count once together; None for a load that counts alone.

    Args:
      number: of the loaded object.
      model: step and name when models are counted; None when bytes are summed.
    """
    return None if number is None else (number, model)


def most_bytes_held(groups: Iterable[Iterable[Residence]]) -> int | Unknown:
    """Return the most bytes that one group held at once; unknown if a size is, or if none was held.

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
