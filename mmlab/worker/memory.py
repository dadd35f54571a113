"""Memory of a worker process, read by the process itself."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from mmlab.events import Memory

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]  # Windows has none

_CHANGE_BYTES = 1_000_000
"""A sample is not written if it differs by less from the last one written …"""
_QUIET_SECONDS = 0.5
"""… and less than this time has passed."""


@cache
def _process(pid: int) -> psutil.Process:
    return psutil.Process(pid)


def _memory() -> Any | None:
    try:
        return _process(os.getpid()).memory_info()
    except (OSError, psutil.Error):  # no file descriptor is left
        return None


def _rss_bytes() -> int | None:
    """Return the resident set size of this process; None if it cannot be read."""
    memory = _memory()
    return None if memory is None else memory.rss


class _QuietReader:
    """Reads the resident set size of this process without releasing the interpreter's lock.

    It can therefore be used inside Beam's unlocked `load`. Linux only.
    """

    def __init__(self) -> None:
        self._pid, self._file = 0, -1
        self._buffer = ctypes.create_string_buffer(128)

    def prepare(self) -> None:
        """Open the file to read; releases the interpreter's lock."""
        if self._pid == os.getpid() or not sys.platform.startswith("linux"):
            return
        try:
            self._file = os.open("/proc/self/statm", os.O_RDONLY)  # a fork keeps that of its parent
        except OSError:
            return
        self._pid = os.getpid()

    def rss_bytes(self) -> int | None:
        """Return the resident set size; None if it cannot be read in this way."""
        if self._pid != os.getpid():
            return None
        size = _c().pread(self._file, self._buffer, len(self._buffer), 0)
        fields = self._buffer.raw[: max(size, 0)].split()
        return int(fields[1]) * _page_bytes() if len(fields) > 1 else None


@cache
def _c() -> Any:
    library = ctypes.PyDLL(None)  # unlike CDLL, keeps the interpreter's lock
    library.pread.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_long]
    library.pread.restype = ctypes.c_ssize_t
    return library


@cache
def _page_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE")


quiet_reader = _QuietReader()


def _peak_rss_bytes() -> int | None:
    """Return the peak resident set size of this process; None if the system has none."""
    if resource is None:
        return getattr(_memory(), "peak_wset", None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _data_limit() -> int | None:
    if not hasattr(resource, "RLIMIT_DATA"):
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return None if limit == resource.RLIM_INFINITY or limit < 0 else limit


def oom_kills() -> int | None:
    """Return how many processes the kernel has killed for lack of memory since boot.

    This includes kills in a cgroup that reached its own limit. None if the system does not report
    it.
    """
    try:
        counters = Path("/proc/vmstat").read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r"^oom_kill (\d+)$", counters, re.MULTILINE)
    return int(found[1]) if found else None


def oom_kills_since(before: int | None) -> int | None:
    """Return the number of such kills since the count was `before`; None if not known."""
    now = oom_kills()
    return None if now is None or before is None else max(now - before, 0)


def _device_bytes() -> int | None:
    """Return the bytes that this process has allocated on all GPUs; None if it uses none.

    Never imports torch and never initializes CUDA.
    """
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return None
    return sum(int(cuda.memory_allocated(device)) for device in range(cuda.device_count()))


def sample() -> Memory:
    """Take a sample of this process's memory."""
    memory = _memory()
    return Memory(
        rss=getattr(memory, "rss", None),
        peak_rss=_peak_rss_bytes(),
        data=getattr(memory, "data", None),
        data_limit=_data_limit(),
        device_bytes=_device_bytes(),
    )


class MemorySampler:
    """A daemon thread that reports this process's memory when it changes.

    Args:
      report: called with `sample()`, from the thread.
      ended: returns whether the run is over; the thread then stops by itself.
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
            if last or _worth_writing(written, now) or quiet >= _QUIET_SECONDS:
                self._report(now)
                written, quiet = now, 0.0
            if last or self._ended():
                return


def _worth_writing(before: Memory | None, now: Memory) -> bool:
    if before is None:
        return True
    return any(
        abs((getattr(now, figure) or 0) - (getattr(before, figure) or 0)) >= _CHANGE_BYTES
        for figure in ("rss", "data", "device_bytes")
    )
