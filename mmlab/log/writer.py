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
    """Appends events to a new file in `folder`; once open, it never raises.

    Each event is one `os.write` to a file opened with `O_APPEND`. This needs no lock: events can
    be written from any thread and from a finalizer, and a killed process loses at most one line.

    Args:
      folder: an existing folder that the reader can also access.
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
            (self._folder / name).chmod(0o600 | shared)  # the reader may be another user
        self._lost = 0
        self._cut_off = False
        self._head = line_head(self._run)
        self._here = _Thread(self._head)
        self.emit(process_event())

    def emit(self, event: Event, t_ns: int | None = None, tid: int | None = None) -> bool:
        """Write one event. Returns whether it was written completely.

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
        """Write one event whose members are already encoded; see `emit` and `members_of`.

        Args:
          head: the part of the line before the time; None is that of this thread.
          counted: whether to count it as lost if it cannot be written.
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
        self._cut_off = not whole  # the next line then begins with a newline
        if not whole:
            self._lost += counted
        return whole

    def _tell_of_lost(self) -> None:
        lost, self._lost = self._lost, 0
        if not self.emit(Dropped(n=lost)):
            self._lost += lost

    def run_ended(self) -> bool:
        """Whether the `ended` file exists, or the folder does not exist any more.

        Also reports lost events: this is called repeatedly, and after the run no further event
        would report them.
        """
        if self._lost:
            self._tell_of_lost()
        with contextlib.suppress(OSError):  # access to the folder was removed
            return (self._folder / ENDED).exists() or not self._folder.exists()
        return False

    @property
    def lost(self) -> int:
        """Events that could not be written and are not yet reported in the log."""
        return self._lost

    def close(self) -> None:
        """Report lost events and stop writing; later events are ignored."""
        if self._lost:
            self._tell_of_lost()
        self._file = None


class _Thread(threading.local):
    """Cached start of this thread's lines: a system call for its id takes a fifth of an event."""

    def __init__(self, head: bytes) -> None:
        self.head = of_thread(head, threading.get_native_id())


class _OpenFile:
    """A file descriptor that is closed when nothing refers to this object any more.

    A thread that is about to write refers to it. If the descriptor were closed before the write,
    the process could reuse it for another file or socket, and the line would end up there.
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
    # The child must not write its parent's process and thread ids, nor share its file.
    for writer in list(_writers):
        if writer._file is not None:
            writer._file = None  # the parent reports its own lost events
            with contextlib.suppress(OSError):
                writer._open()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reopen_after_fork)


def members_of(event: Event) -> bytes:
    """Encode the part of a line that follows its time, up to its end.

    >>> members_of(Dropped(n=2))
    b',"event":"dropped","n":2}\\n'
    """
    return f",{encode(event)[1:]}\n".encode()


def file_stem() -> str:
    """Return a unique name for the log of this process."""
    return f"{_safe(socket.gethostname())}-{os.getpid()}-{secrets.token_hex(4)}"


def line_head(run: str) -> bytes:
    """Return the start of this process's lines, up to the thread id."""
    head = encode({"v": VERSION, "run": run, "host": socket.gethostname(), "pid": os.getpid()})
    return f'{head[:-1]},"tid":'.encode()


def of_thread(head: bytes, tid: int) -> bytes:
    """Return the start of a thread's lines, up to the time.

    Args:
      head: start of the lines of its process.
      tid: native id of the thread.
    """
    return b'%b%d,"t_ns":' % (head, tid)


def process_event(*, segments: bool = False) -> ProcessBegins:
    """The event with which this process begins a log."""
    return ProcessBegins(wall_ns=time.time_ns(), info=ProcessInfo(_boot(), segments))


@cache
def _boot() -> str | None:
    """Return an id of this boot of this machine; None if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return None


def _safe(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)[:64]
