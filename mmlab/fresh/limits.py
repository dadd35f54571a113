"""A limit on the memory of a process: read from text, set by the system, enforced by it."""

from __future__ import annotations

import mmap
import operator
import re
import sys
import threading
from pathlib import Path
from typing import Any

import psutil

try:
    import resource
except ImportError:  # Windows
    resource = None

UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    UNITS[f"{_letter}b"] = UNITS[_letter] = 1000**_power
    UNITS[f"{_letter}ib"] = 1024**_power

THREAD_STACK_BYTES = 1 << 20
PROBE_BYTES = 64 << 20


def parse_bytes(limit: Any) -> int | None:
    """A memory limit in bytes; None is no limit.

    Raises:
      ValueError: it is not a positive number of bytes, with examples of what is.

    >>> parse_bytes("600MB"), parse_bytes("1.5 GiB"), parse_bytes(20_000), parse_bytes(None)
    (600000000, 1610612736, 20000, None)
    """
    if limit is None:
        return None
    amount = _amount(limit)
    if amount is None or amount < 1:
        raise ValueError(
            f"memory_limit is {limit!r}: give a number of bytes, or text such as '600MB', "
            "'1.5GB' or '512MiB'"
        )
    return amount


def _amount(limit: Any) -> int | None:
    if isinstance(limit, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*)\s*", limit.lower())
        factor = UNITS.get(match[2]) if match else None
        return None if factor is None else int(float(match[1]) * factor)
    try:
        return None if isinstance(limit, bool) else operator.index(limit)
    except TypeError:
        return None


def check_limits_work_here() -> None:
    """Refuse a memory limit on a system that would not enforce it.

    Raises:
      NotImplementedError: with what to do instead.
    """
    if resource is None or not sys.platform.startswith("linux"):
        raise NotImplementedError(
            f"memory_limit needs Linux, and this is {sys.platform}: leave it out here, or run the "
            "notebook in Colab, in a container or in WSL"
        )


def limit_memory(limit: int) -> None:
    """Let this process take `limit` more bytes than it has now, and no more.

    What counts is private memory that can be written (`RLIMIT_DATA`): the tensors, the heap, the
    stacks of threads. Files and libraries that are mapped do not, so the figure is close to what
    the process's resident set may grow by. Stacks count with their full size, so the threads that
    start from now on get smaller ones than the usual 8 MB, of which they touch a few KB.

    Raises:
      OSError: the system takes the limit but does not enforce it.
    """
    threading.stack_size(THREAD_STACK_BYTES)
    ceiling = _data_bytes() + limit
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hard))
    try:
        mmap.mmap(-1, limit + PROBE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
        return
    raise OSError("this system does not enforce a memory limit (RLIMIT_DATA): leave it out")


def room_bytes(pid: int) -> int | None:
    """What a process may still take before it reaches its limit.

    None when it has no limit, has ended, or cannot be looked at.
    """
    try:
        ceiling, _ = psutil.Process(pid).rlimit(psutil.RLIMIT_DATA)
        return None if ceiling == psutil.RLIM_INFINITY else ceiling - _data_bytes(pid)
    except (AttributeError, OSError, TypeError, psutil.Error):
        return None


def _data_bytes(pid: int | str = "self") -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return int(re.search(r"^VmData:\s*(\d+) kB", status, re.MULTILINE)[1]) * 1024
