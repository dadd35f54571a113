"""Append-only event logs: one file per process, one write per event."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from time import monotonic_ns

from mmlab.events import VERSION, Dropped, Event, ProcessBegins, ProcessInfo, encode
from mmlab.log.folders import ENDED, SUFFIX, shared_bits

_writers: weakref.WeakSet[LogWriter] = weakref.WeakSet()


class LogWriter:
    """Appends events to a file of its own in `folder`; never raises once it is open.

    One `os.write` to a file opened with `O_APPEND` per event needs no lock, so that an event can be
    written from any thread and from a finalizer, and a killed process loses at most the line that
    it was writing.

    Args:
      folder: an existing folder, on any disk that the reader can see.
      run: identifies the run; the same in all its processes.

    Raises:
      OSError: the file cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], run: str):
        self._folder = Path(folder)
        self._run = run
        self._open()
        _writers.add(self)

    def _open(self) -> None:
        name = f"{file_stem()}{SUFFIX}"
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        self._file: _OpenFile | None = _OpenFile(os.open(self._folder / name, flags, 0o600))
        if shared := shared_bits(self._folder) & 0o066:
            (self._folder / name).chmod(0o600 | shared)  # who reads them need not be who writes
        self._lost = 0
        self._cut_off = False
        self._head = line_head(self._run)
        self._here = _Thread(self._head)
        self.emit(process_event())

    def emit(self, event: Event, t_ns: int | None = None, tid: int | None = None) -> bool:
        """Write one event. Returns whether it is written, whole.

        Args:
          event: what happened; run, host, process and version are added.
          t_ns: nanoseconds of the machine's monotonic clock; None is now.
          tid: native id of the thread in which it happened; None is this one.
        """
        head = of_thread(self._head, tid) if tid else self._here.head
        return self.append(members_of(event), head, t_ns, counted=type(event) is not Dropped)

    def append(
        self,
        members: bytes,
        head: bytes | None = None,
        t_ns: int | None = None,
        counted: bool = True,
    ) -> bool:
        """Write one event whose members are encoded already: see `emit` and `members_of`.

        Args:
          head: what stands before the time; None is that of this thread.
          counted: whether it is one of the events that are lost if it cannot be written.
        """
        if self._lost and counted:
            self._tell_of_lost()
        file = self._file
        if file is None:
            return False
        line = b"%b%d%b" % (head or self._here.head, t_ns or monotonic_ns(), members)
        if self._cut_off:
            line = b"\n" + line
        try:
            whole = os.write(file.fd, line) == len(line)
        except OSError:
            self._lost += counted
            return False
        self._cut_off = not whole  # such a line ends where the next one begins
        if not whole:
            self._lost += counted
        return whole

    def _tell_of_lost(self) -> None:
        lost, self._lost = self._lost, 0
        if not self.emit(Dropped(n=lost)):
            self._lost += lost

    def run_ended(self) -> bool:
        """Whether the processes that write to this folder were told to stop, or it is gone.

        Tells of lost events as well: whoever asks does so again and again, and after the run there
        is no event to tell of them with.
        """
        if self._lost:
            self._tell_of_lost()
        with contextlib.suppress(OSError):  # nobody may enter it any more
            return (self._folder / ENDED).exists() or not self._folder.exists()
        return False

    @property
    def lost(self) -> int:
        """Events that could not be written, and that the log does not tell of yet."""
        return self._lost

    def close(self) -> None:
        """Tell of lost events and stop writing; events that come later are let go."""
        if self._lost:
            self._tell_of_lost()
        self._file = None


class _Thread(threading.local):
    """How lines of this thread begin: to ask the system for its id costs a fifth of an event."""

    def __init__(self, head: bytes) -> None:
        self.head = of_thread(head, threading.get_native_id())


class _OpenFile:
    """The number of an open file, which is closed when nobody holds this object any more.

    A thread that is about to write holds it: were the number given back under its hands, the next
    file or socket of this process would get the number, and then the line.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int):
        self.fd = fd

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.fd)


def _close_all() -> None:
    for writer in list(_writers):
        writer.close()


def _reopen_after_fork() -> None:
    # The child must neither sign with its parent's process and thread nor share its file.
    for writer in list(_writers):
        if writer._file is not None:
            writer._file = None  # what the parent lost is the parent's to tell
            with contextlib.suppress(OSError):
                writer._open()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reopen_after_fork)


def members_of(event: Event) -> bytes:
    """What a line says after its time, up to its end.

    >>> members_of(Dropped(n=2))
    b',"event":"dropped","n":2}\\n'
    """
    return f",{encode(event)[1:]}\n".encode()


def file_stem() -> str:
    """A name for the log of this process, which no other has."""
    return f"{_safe(socket.gethostname())}-{os.getpid()}-{secrets.token_hex(4)}"


def line_head(run: str) -> bytes:
    """How each line of this process begins, up to the id of its thread."""
    head = encode({"v": VERSION, "run": run, "host": socket.gethostname(), "pid": os.getpid()})
    return f'{head[:-1]},"tid":'.encode()


def of_thread(head: bytes, tid: int) -> bytes:
    """How each line of a thread begins, up to its time.

    Args:
      head: how the lines of its process begin.
      tid: native id of the thread.
    """
    return b'%b%d,"t_ns":' % (head, tid)


def process_event(*, segments: bool = False) -> ProcessBegins:
    """The event with which this process begins a log."""
    return ProcessBegins(wall_ns=time.time_ns(), info=ProcessInfo(_boot(), segments))


@cache
def _boot() -> str | None:
    """What tells this machine, since it was started, from all others; None where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return None


def _safe(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)[:64]
