"""One recorder per run and process: marks what happens to models and writes it as events.

Beam's model manager is not locked: it adds a model to its order before it loads it, and another
thread may evict a model that is still loading. Slow code in between makes that more likely. So
code called inside Beam's `load`, or in a finalizer, only appends a mark with its time to a queue.
Marks are written as events when `load` has returned, before the next event of this process, and at
each tick of the sampler.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from time import monotonic_ns
from typing import Any, NamedTuple, TypeVar

from mmlab._faults import describe, survived
from mmlab.events import (
    Dropped,
    Event,
    Evicts,
    Frees,
    InMemory,
    LoadBegins,
    LoadEnds,
    LoadFails,
    OfModel,
    Refreshes,
    UseBegins,
    UseEnds,
    encode,
)
from mmlab.log.folders import ENDED, folder_at, is_remote
from mmlab.log.segments import SegmentWriter
from mmlab.log.writer import LogWriter, members_of
from mmlab.worker.memory import MemorySampler, sample
from mmlab.worker.models import LoadedObject, Site, load_of
from mmlab.worker.sizes import size_of


@dataclass(frozen=True)
class Log:
    """Where the events of a run go; pickled with the handlers.

    Attributes:
      folder: an absolute path, or a URI of Beam's FileSystems, that all workers can reach.
      run: identifies the run.
      sample_seconds: time between samples of memory.
      idle_seconds: time without a load after which sampling stops until the next load.
    """

    folder: str
    run: str
    sample_seconds: float = 0.05
    idle_seconds: float = math.inf


_MOST_USES = 65_536
"""Size of the cache of encoded events: one entry per step, model, key and batch size."""


class _Mark(NamedTuple):
    """An event of a load, with its time, that is not yet written.

    Attributes:
      t_ns: nanoseconds of the machine's monotonic clock.
      tid: native id of the thread in which it happened.
      event: what happened.
      loaded: the model, if it is new to the run.
    """

    t_ns: int
    tid: int
    event: OfModel
    loaded: LoadedObject | None = None

    def complete(self) -> OfModel:
        """Return the event with what is measured only on writing, such as the size."""
        if self.loaded is not None and isinstance(self.event, LoadEnds | InMemory):
            self.event.bytes, self.event.sized_by = self.loaded.measured(size_of)
        return self.event


class _Use(NamedTuple):
    """The encoded members of a use's two events, cached because every batch needs them.

    It refers to its site, because the cache key contains the `id` of the site.
    """

    site: Site
    begin: bytes
    end: bytes


def _never_raises(method: Callable[..., Any]) -> Callable[..., Any]:
    """Keep errors of recording (no file descriptor or thread is left) away from the run.

    Lost events are reported in the log if that can be written. Not used on the path of every
    batch, where the only system call is a write.
    """

    @wraps(method)
    def guarded(self: Recorder, *args: Any) -> Any:
        with survived("record all that happens to models"):
            return method(self, *args)
        self._emit(Dropped(n=1))
        return None

    return guarded


class Recorder:
    """Records what happens to models in this process. Its methods never raise.

    Args:
      log: where the events go.
    Attributes:
      marks: events that are not yet written.
    """

    def __init__(self, log: Log):
        self._log = log
        self._writer = _open_writer(log)
        self._emit = _let_go if self._writer is None else self._writer.emit
        self._append = _let_go if self._writer is None else self._writer.append
        self.marks: deque[_Mark] = deque()
        self._loads: dict[Site, Iterator[int]] = {}
        self._generations: dict[Site, int] = {}
        self._generation_of_object: dict[tuple[Site, int], int] = {}
        self._uses: dict[tuple[Any, ...], _Use] = {}
        self._paths: dict[Site, str] = {}
        self._sampler: MemorySampler | None = None
        self._lock = threading.Lock()
        self._last_load = time.monotonic()

    def emit(self, event: Event) -> None:
        """Write one event, after all earlier marks; see `LogWriter.emit`."""
        if self.marks:
            self.write_marks()
        self._emit(event)

    @_never_raises
    def start_sampling(self) -> None:
        """Sample this process's memory until the run has ended."""
        with self._lock:
            if self._sampler is None or not self._sampler.is_alive():
                self._sampler = MemorySampler(
                    self.emit,
                    self._tick,
                    self._log.sample_seconds,
                )

    def _tick(self) -> bool:
        """Write the marks since the last tick. Returns whether sampling is over."""
        self.write_marks()
        idle = time.monotonic() - self._last_load > self._log.idle_seconds
        return idle or self.ended

    @property
    def lost(self) -> int:
        """Events that could not be written and are not yet reported in the log."""
        return self._writer.lost if self._writer is not None else 0

    @property
    def ended(self) -> bool:
        """Whether the run has ended, or its log cannot be written."""
        return self._writer is None or self._writer.run_ended()

    @_never_raises
    def stop_sampling(self) -> None:
        """Take a last sample of memory."""
        with self._lock:
            sampler, self._sampler = self._sampler, None
        if sampler is not None:
            sampler.stop()
        self.write_marks()

    def close(self) -> None:
        """End this process's part in the run."""
        self.stop_sampling()
        if self._writer is not None:
            self._writer.close()

    # Marks: no system call that releases the interpreter's lock, no lock, no waiting.

    def load_begins(self, site: Site) -> int:
        """Returns the generation of the load that begins."""
        generation = self._new_generation(site)
        self._mark(_about(LoadBegins, site, generation))
        return generation

    def _new_generation(self, site: Site) -> int:
        generation = next(self._loads.setdefault(site, itertools.count(1)))
        self._generations[site] = generation
        self._last_load = time.monotonic()
        return generation

    def load_fails(self, site: Site, generation: int, error: BaseException) -> None:
        self._mark(_about(LoadFails, site, generation, error=describe(error)))

    def load_ends(self, site: Site, generation: int, loaded: LoadedObject) -> None:
        self._holds(site, generation, loaded)
        about = {
            "rss_growth": loaded.rss_growth,
            "what": None if loaded.observable else "free",
            "object": loaded.number,
        }
        self._mark(_about(LoadEnds, site, generation, **about), loaded)

    def in_memory(self, site: Site, loaded: LoadedObject) -> int:
        """Mark a model of this run that another run has loaded. Returns its generation."""
        generation = self._new_generation(site)
        self._holds(site, generation, loaded)
        about = {
            "age_ns": monotonic_ns() - loaded.end_ns,
            "what": None if loaded.observable else "free",
            "object": loaded.number,
        }
        self._mark(_about(InMemory, site, generation, **about), loaded)
        return generation

    def evicted_before(self, site: Site) -> None:
        """Count an eviction before this run: the next load is not the first of this process."""
        if site not in self._loads:
            self._new_generation(site)

    def evicts(self, site: Site) -> None:
        self._mark(_about(Evicts, site, self._generations.get(site, 0)))

    def released(self, site: Site, generation: int, identity: int) -> None:
        # Runs in whichever thread drops the last reference, even inside the garbage collector.
        self._generation_of_object.pop((site, identity), None)
        self._uses.clear()  # the next model may have the same address
        self._mark(_about(Frees, site, generation))

    def _holds(self, site: Site, generation: int, loaded: LoadedObject) -> None:
        self._generation_of_object[site, loaded.identity] = generation
        self._uses.clear()  # an earlier model at its address may have been released unseen

    def _mark(self, event: OfModel, loaded: LoadedObject | None = None) -> None:
        self.marks.append(_Mark(monotonic_ns(), threading.get_native_id(), event, loaded))

    @_never_raises
    def write_marks(self) -> None:
        """Write the marks, and a memory sample if models were loaded."""
        loaded = False
        while self.marks:
            try:
                mark = self.marks.popleft()
            except IndexError:  # another thread was faster
                break
            self._emit(mark.complete(), mark.t_ns, mark.tid)
            loaded = loaded or isinstance(mark.event, LoadEnds | LoadFails)
        if loaded:
            self._emit(sample())

    def load_returned(self) -> None:
        """Write the marks of a `load` of Beam's model manager that has returned."""
        self.write_marks()
        self.start_sampling()

    def forget_marks(self) -> None:
        """Drop marks copied from the parent process, which writes them itself."""
        self.marks.clear()

    # Events

    def use_begins(self, site: Site, identity: int, n: int, keys: dict[str, int]) -> bytes:
        """Write that a batch enters a model. Returns the argument for `use_ends`.

        Args:
          site: of the model.
          identity: `id` of the model; 0 if another process holds it.
          n: elements of the batch.
          keys: elements per key; empty without keys.
        """
        if self.marks:
            self.write_marks()
        place = (id(site), identity, n, *keys)  # one key has all n
        use = self._uses.get(place) or self._new_use(place, site, identity, n, keys)
        self._append(use.begin)
        return use.end

    def use_ends(self, use: bytes, error: BaseException | None = None) -> None:
        if self.marks:
            self.write_marks()
        self._append(_with_error(use, error) if error else use)

    @_never_raises
    def refreshes(self, site: Site, path: str) -> None:
        """Store the path of a handler's model; write an event if a loaded model gets a new one."""
        with self._lock:
            generation = self._generations.get(site, 0)
            is_new = self._paths.get(site) != path and generation > 0
            self._paths[site] = path
        if is_new:
            self.emit(_about(Refreshes, site, generation, path=path))

    def _new_use(
        self, place: tuple[Any, ...], site: Site, identity: int, n: int, keys: dict[str, int]
    ) -> _Use:
        generation = self._generation_of(site, identity)
        begin = members_of(_about(UseBegins, site, generation, n=n, keys=keys))
        end = members_of(_about(UseEnds, site, generation))
        use = _Use(site, begin, end)
        if len(keys) > 1:  # such batches rarely repeat
            return use
        if len(self._uses) >= _MOST_USES:  # proxies may be new objects for each batch
            self._uses.clear()
        self._uses[place] = use
        return use

    def _generation_of(self, site: Site, identity: int) -> int | None:
        """Return the generation of a model that answers a batch; None if its load was not seen.

        If another step of this run or an earlier run loaded the model, it is now recorded as a
        model that was in memory.
        """
        generation = self._generation_of_object.get((site, identity))
        if generation is not None or (load := load_of(identity)) is None:
            return generation
        with self._lock:  # threads share the model
            load.report_to(self, site)
        self.write_marks()
        return load.generation_in(self)


_Kind = TypeVar("_Kind", bound=OfModel)


def _about(kind: type[_Kind], site: Site, generation: int | None, **more: Any) -> _Kind:
    return kind(step=site.step, model=site.model, cohort=site.cohort, generation=generation, **more)


def _with_error(members: bytes, error: BaseException) -> bytes:
    """Add an error to the encoded members of a `UseEnds`."""
    return b'%b,"error":%b}\n' % (members.removesuffix(b"}\n"), encode(describe(error)).encode())


def _let_go(*_: Any) -> None:
    """Discard the events of a process that cannot write."""


def _open_writer(log: Log) -> LogWriter | SegmentWriter | None:
    # A worker that cannot access the log folder continues unwatched.
    with survived("open the event log of a process"):
        return (SegmentWriter if is_remote(log.folder) else LogWriter)(log.folder, log.run)
    return None


_recorders: dict[Log, Recorder] = {}
_recorders_lock = threading.Lock()


def recorder_for(log: Log) -> Recorder:
    """Return the recorder of this process for a run."""
    recorder = _recorders.get(log)
    if recorder is None:
        with _recorders_lock:
            recorder = _recorders.get(log) or _recorders.setdefault(log, Recorder(log))
    return recorder


def close_recorder(log: Log) -> None:
    """Mark the run as ended for all processes, and close this process's recorder."""
    with contextlib.suppress(OSError):
        folder_at(log.folder).touch(ENDED)
    with _recorders_lock:
        recorder = _recorders.pop(log, None)
    if recorder is not None:
        recorder.close()


def _forget_locks_after_fork() -> None:
    global _recorders_lock
    _recorders_lock = threading.Lock()
    for recorder in _recorders.values():
        recorder._lock = threading.Lock()
        recorder.forget_marks()


def _write_all_marks() -> None:
    for recorder in list(_recorders.values()):
        recorder.write_marks()


atexit.register(_write_all_marks)  # runs before the logs are closed: they were imported earlier
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks_after_fork)
