"""A limit on the memory of a process, set and enforced by the system."""

from __future__ import annotations

import mmap
import re
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil

with suppress(ImportError):  # Windows
    import resource

_THREAD_STACK_BYTES = 1 << 20
_PROBE_BYTES = 64 << 20


def check_limits_work_here() -> None:
    """Check that this system enforces memory limits.

    Raises:
      NotImplementedError: it does not; the message says what to do instead.
    """
    if not sys.platform.startswith("linux"):
        raise NotImplementedError(
            f"memory_limit needs Linux, and this is {sys.platform}: leave it out here, or run the "
            "notebook in Colab, in a container or in WSL"
        )


def limit_memory(limit: int) -> None:
    """Limit this process to `limit` bytes more than it has now.

    The limit is on private writable memory (`RLIMIT_DATA`): tensors, heap and thread stacks, but
    not mapped files and libraries. It is close to the possible growth of the resident set. Stacks
    count in full, so new threads get smaller stacks than the usual 8 MB, of which they use a few
    KB.

    Raises:
      OSError: the system accepts the limit but does not enforce it.
    """
    threading.stack_size(_THREAD_STACK_BYTES)
    ceiling = _data_bytes() + limit
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hard))
    try:
        mmap.mmap(-1, limit + _PROBE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
        return
    raise OSError("this system does not enforce a memory limit (RLIMIT_DATA): leave it out")


def is_full(pid: int, least_bytes: int) -> bool:
    """Whether a process, or one that it started, has less than `least_bytes` left to its limit."""
    try:
        processes = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return False
    rooms = [room for process in processes if (room := _room_bytes(process)) is not None]
    return min(rooms, default=least_bytes) < least_bytes


def _room_bytes(pid: int) -> int | None:
    """Return the bytes that a process has left to its limit; None if unknown."""
    try:
        ceiling, _ = psutil.Process(pid).rlimit(psutil.RLIMIT_DATA)
        return None if ceiling == psutil.RLIM_INFINITY else ceiling - _data_bytes(pid)
    except (AttributeError, OSError, IndexError, psutil.Error):
        return None


def _data_bytes(pid: int | str = "self") -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    kilobytes = re.findall(r"^VmData:\s*(\d+) kB", status, re.MULTILINE)
    return int(kilobytes[0]) * 1024
