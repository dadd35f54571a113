"""Memory of a worker process, read from the inside."""

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


class QuietReader:
    """Reads the resident set size of this process without letting another of its threads run.

    So it may be asked inside Beam's unlocked `load`. Only on Linux.
    """

    def __init__(self) -> None:
        self._pid, self._file = 0, -1
        self._buffer = ctypes.create_string_buffer(128)

    def prepare(self) -> None:
        """Open what is read later; lets other threads run."""
        if self._pid == os.getpid() or not sys.platform.startswith("linux"):
            return
        try:
            self._file = os.open("/proc/self/statm", os.O_RDONLY)  # stays that of a forking process
        except OSError:
            return
        self._pid = os.getpid()

    def rss_bytes(self) -> int | None:
        """Resident set size now; None where it cannot be read in this way."""
        if self._pid != os.getpid():
            return None
        size = _c().pread(self._file, self._buffer, len(self._buffer), 0)
        fields = self._buffer.raw[: max(size, 0)].split()
        return int(fields[1]) * _page_bytes() if len(fields) > 1 else None


@cache
def _c() -> Any:
    library = ctypes.PyDLL(None)  # unlike CDLL, it keeps the lock of the interpreter
    library.pread.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_long]
    library.pread.restype = ctypes.c_ssize_t
    return library


@cache
def _page_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE")


quiet_reader = QuietReader()


def peak_rss_bytes() -> int | None:
    """The highest resident set size since this process began; None where the system has none."""
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
    """Processes that the kernel has ended for want of memory since it started.

    Those of a cgroup that reached its own limit count too. None where the system does not tell it.
    """
    try:
        counters = Path("/proc/vmstat").read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r"^oom_kill (\d+)$", counters, re.MULTILINE)
    return int(found[1]) if found else None


def oom_kills_since(before: int | None) -> int | None:
    """Such processes since there were so many; None where that is not known."""
    now = oom_kills()
    return None if now is None or before is None else max(now - before, 0)


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
    memory = _memory()
    return Memory(
        rss=getattr(memory, "rss", None),
        peak_rss=peak_rss_bytes(),
        data=getattr(memory, "data", None),
        data_limit=_data_limit(),
        device_bytes=device_bytes(),
    )


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
    return any(
        abs((getattr(now, figure) or 0) - (getattr(before, figure) or 0)) >= CHANGE_BYTES
        for figure in ("rss", "data", "device_bytes")
    )
