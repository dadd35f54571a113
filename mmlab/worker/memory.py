"""Memory of a worker process, read from the inside."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import psutil

from mmlab.events import Memory

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

CHANGE_BYTES = 1_000_000
"""A sample that differs by less from the last one written is left out."""
QUIET_SECONDS = 0.5
"""… unless this much time has passed."""


@cache
def _process(pid: int) -> psutil.Process:
    return psutil.Process(pid)


def _memory() -> Any | None:
    try:
        return _process(os.getpid()).memory_info()
    except (OSError, psutil.Error):  # no descriptor is left to read it with
        return None


def rss_bytes() -> int | None:
    """Resident set size of this process now; None where it cannot be read."""
    memory = _memory()
    return None if memory is None else memory.rss


def peak_rss_bytes() -> int | None:
    """The highest resident set size since this process began; None where the system has none."""
    if resource is None:
        return getattr(_memory(), "peak_wset", None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_bytes() -> int | None:
    """Memory that this process has allocated on all GPUs; None when it uses none.

    Never loads torch nor starts CUDA: a process that has not used a GPU is not made to.
    """
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return None
    return sum(int(cuda.memory_allocated(device)) for device in range(cuda.device_count()))


def sample() -> Memory:
    """This process's memory now."""
    return Memory(rss=rss_bytes(), peak_rss=peak_rss_bytes(), device_bytes=device_bytes())


class MemorySampler:
    """A daemon thread that reports this process's memory when it changes.

    Args:
      report: called with `sample()`, from the thread.
      ended: whether the run is over; the thread then stops by itself.
      seconds: time between samples.
    """

    def __init__(
        self,
        report: Callable[[Memory], None],
        ended: Callable[[], bool],
        seconds: float,
    ):
        self._report = report
        self._ended = ended
        self._seconds = seconds
        self._stop = threading.Event()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="mmlab-memory", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        return os.getpid() == self._pid and self._thread.is_alive()

    def stop(self) -> None:
        """Take a last sample and end the thread."""
        self._stop.set()
        if os.getpid() == self._pid:
            self._thread.join()

    def _run(self) -> None:
        written, quiet = None, 0.0
        while True:
            last = self._stop.wait(self._seconds) if written is not None else False
            now = sample()
            quiet += self._seconds
            if last or _worth_writing(written, now) or quiet >= QUIET_SECONDS:
                self._report(now)
                written, quiet = now, 0.0
            if last or self._ended():
                return


def _worth_writing(before: Memory | None, now: Memory) -> bool:
    if before is None:
        return True
    return (
        abs((now.rss or 0) - (before.rss or 0)) >= CHANGE_BYTES
        or abs((now.device_bytes or 0) - (before.device_bytes or 0)) >= CHANGE_BYTES
    )
