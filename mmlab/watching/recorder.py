"""One recorder per run and process: writes its events and counts its loads."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any, NamedTuple

from mmlab.trace.event import encode
from mmlab.trace.log import LogWriter, members
from mmlab.trace.place import ENDED, folder_at, is_remote
from mmlab.trace.segments import SegmentWriter
from mmlab.watching.memory import MemorySampler, rss_bytes


@dataclass(frozen=True)
class Log:
    """Where the events of a run go. Travels to the workers inside the handlers.

    Attributes:
      folder: an absolute path, or a URI of Beam's FileSystems, that all workers can reach.
      run: identifies the run.
      sample_seconds: time between samples of memory.
      idle_seconds: sampling stops when no model was loaded for so long, until the next load.
    """

    folder: str
    run: str
    sample_seconds: float = 0.05
    idle_seconds: float = math.inf


class Site(NamedTuple):
    """The model of a step, as the events name it.

    A tuple, because it is hashed for every batch.
    """

    step: str
    model: str
    cohort: str | None = None


def _never_raises(method: Callable[..., Any]) -> Callable[..., Any]:
    """Whatever fails while something is noted (no descriptor, no thread is left) is not the run's.

    What is lost is told in the log, as far as that can be written. Not for what is on the path of
    every batch, which asks the system for nothing but a write.
    """

    @wraps(method)
    def guarded(self: Recorder, *args: Any) -> Any:
        try:
            return method(self, *args)
        except Exception:
            self.emit("dropped", members(n=1))
            return None

    return guarded


class Recorder:
    """Writes what happens to models in this process. Its methods never raise.

    Args:
      log: where to.
    """

    def __init__(self, log: Log):
        self._log = log
        self._writer = _open_writer(log)
        self.emit = _let_go if self._writer is None else self._writer.emit
        self._generations: Counter[Site] = Counter()
        self._generation_of_object: dict[int, int] = {}
        self._ids: dict[tuple[Site, int | None], str] = {}
        self._paths: dict[Site, str] = {}
        self._sampler: MemorySampler | None = None
        self._lock = threading.Lock()
        self._last_load = time.monotonic()

    @_never_raises
    def start_sampling(self) -> None:
        """Sample this process's memory until the run has ended."""
        with self._lock:
            if self._sampler is None or not self._sampler.is_alive():
                self._sampler = MemorySampler(
                    lambda memory: self.emit("memory", members(**memory)),
                    self._is_over,
                    self._log.sample_seconds,
                )

    def _is_over(self) -> bool:
        idle = time.monotonic() - self._last_load > self._log.idle_seconds
        return idle or self._writer is None or self._writer.run_ended()

    @property
    def lost(self) -> int:
        """Events that could not be written, and that the log does not tell of yet."""
        return self._writer.lost if self._writer is not None else 0

    @_never_raises
    def stop_sampling(self) -> None:
        """Take a last sample of memory."""
        with self._lock:
            sampler, self._sampler = self._sampler, None
        if sampler is not None:
            sampler.stop()

    def close(self) -> None:
        """End this process's part in the run."""
        self.stop_sampling()
        if self._writer is not None:
            self._writer.close()

    # Models

    @_never_raises
    def load_begins(self, site: Site) -> int:
        """Returns the generation of the load that begins."""
        with self._lock:
            self._generations[site] += 1
            generation = self._generations[site]
            self._last_load = time.monotonic()
        self.start_sampling()
        self.emit("load_begin", self._id(site, generation) + members(rss=rss_bytes()))
        return generation

    @_never_raises
    def load_fails(self, site: Site, generation: int, error: BaseException) -> None:
        self.emit("load_fail", self._id(site, generation) + members(error=describe(error)))

    @_never_raises
    def load_ends(self, site: Site, generation: int, model: Any, size: int | None) -> None:
        self._generation_of_object[id(model)] = generation
        seen = self._watch_release(site, generation, model)
        what = None if seen else "free"
        fields = members(bytes=size, rss=rss_bytes(), what=what)
        self.emit("load_end", self._id(site, generation) + fields)

    def use_begins(self, site: Site, model: Any, n: int, keys: dict[str, int]) -> str:
        """A batch enters a model. Returns what `use_ends` calls this use.

        Args:
          site: the model's.
          model: the model itself, if this process holds it.
          n: elements of the batch.
          keys: how many of them each key has; empty where there are no keys.
        """
        generation = self._generation_of_object.get(id(model))
        use = self._ids.get((site, generation)) or self._id(site, generation)
        self.emit("use_begin", f'{use},"n":{n}{keys_field(keys)}')
        return use

    def use_ends(self, use: str, error: BaseException | None = None) -> None:
        self.emit("use_end", use + members(error=describe(error)) if error else use)

    @_never_raises
    def evicts(self, site: Site) -> None:
        generation = self._generations[site]
        self.emit("evict", self._id(site, generation) + members(rss=rss_bytes()))

    @_never_raises
    def refreshes(self, site: Site, path: str) -> None:
        """A handler was told where its model comes from; only news of a loaded model count."""
        with self._lock:
            news = self._paths.get(site) != path and self._generations[site] > 0
            self._paths[site] = path
        if news:
            self.emit("refresh", self._id(site, self._generations[site]) + members(path=path))

    def _watch_release(self, site: Site, generation: int, model: Any) -> bool:
        try:
            release = weakref.finalize(model, self._released, site, generation, id(model))
        except TypeError:
            return False
        release.atexit = False  # a process that ends gives nothing back to the others
        return True

    def _released(self, site: Site, generation: int, identity: int) -> None:
        # Runs in whichever thread drops the last reference, even inside the garbage collector.
        self._generation_of_object.pop(identity, None)
        self.emit("free", self._id(site, generation))

    def _id(self, site: Site, generation: int | None) -> str:
        """The fields that name a load, kept as text: this is on the path of every batch."""
        text = self._ids.get((site, generation))
        if text is None:
            text = members(
                step=site.step, model=site.model, cohort=site.cohort, generation=generation
            )
            self._ids[site, generation] = text
        return text


def describe(error: BaseException) -> str:
    """Type and text of an exception, at most 500 characters.

    >>> describe(KeyError("Z"))
    "KeyError: 'Z'"
    """
    try:
        text = str(error)
    except Exception:
        text = "(no text)"
    return f"{type(error).__name__}: {text}"[:500]


def keys_field(keys: dict[str, int]) -> str:
    """The `keys` member of an event, as text.

    >>> keys_field({"KEY_1": 2, "KEY_2": 1})
    ',"keys":{"KEY_1":2,"KEY_2":1}'
    >>> keys_field({})
    ''
    """
    if len(keys) == 1:  # the usual batch, on the path of all of them
        return _one_key(*keys.items())
    if not keys:
        return ""
    return ',"keys":{' + ",".join(f"{_encoded(key)}:{n}" for key, n in keys.items()) + "}"


@lru_cache(maxsize=65_536)
def _one_key(item: tuple[str, int]) -> str:
    return f',"keys":{{{encode(item[0])}:{item[1]}}}'


@lru_cache(maxsize=65_536)
def _encoded(key: str) -> str:
    return encode(key)


def _let_go(event: str, fields: str = "") -> None:
    """What becomes of the events of a process that cannot write."""


def _open_writer(log: Log) -> LogWriter | SegmentWriter | None:
    # A worker that cannot reach the log folder works on, unwatched.
    try:
        return (SegmentWriter if is_remote(log.folder) else LogWriter)(log.folder, log.run)
    except Exception:
        return None


_recorders: dict[Log, Recorder] = {}
_recorders_lock = threading.Lock()


def recorder_for(log: Log) -> Recorder:
    """The recorder of this process for a run."""
    recorder = _recorders.get(log)
    if recorder is None:
        with _recorders_lock:
            recorder = _recorders.get(log) or _recorders.setdefault(log, Recorder(log))
    return recorder


def close_recorder(log: Log) -> None:
    """Tell every process that the run has ended, and close this process's recorder."""
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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks_after_fork)
