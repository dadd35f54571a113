"""Append-only event logs: one file per process, one write per event, read while they grow."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import socket
import time
import weakref
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from pathlib import Path
from threading import get_native_id
from time import monotonic_ns
from typing import Any

from mmlab.events import VERSION, Clocks, Event, NewerTraceError, encode, parse
from mmlab.log.folders import ENDED, SUFFIX, folder_at, shared_bits

_DROPPED = "dropped"

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
        self._head = self._line_start = line_head(self._run)
        self.emit("process", process_fields())

    def emit(
        self, event: str, fields: str = "", t_ns: int | None = None, tid: int | None = None
    ) -> bool:
        """Write one event. Returns whether it is written, whole.

        Args:
          event: its kind.
          fields: more members of the JSON object, each after a comma: see `members`.
          t_ns: nanoseconds of the machine's monotonic clock; None is now.
          tid: native id of the thread in which it happened; None is this one.
        """
        if self._lost:
            self._tell_of_lost()
        file = self._file
        if file is None:
            return False
        line = (
            f'{self._line_start}{tid or get_native_id()},"t_ns":{t_ns or monotonic_ns()}'
            f',"event":"{event}"{fields}}}\n'
        ).encode()
        try:
            whole = os.write(file.fd, line) == len(line)
        except OSError:
            self._lost += event != _DROPPED
            return False
        if whole:
            self._line_start = self._head
        else:  # a line that was cut off ends where the next one begins
            self._line_start = "\n" + self._head
            self._lost += event != _DROPPED
        return whole

    def _tell_of_lost(self) -> None:
        lost, self._lost = self._lost, 0
        if not self.emit(_DROPPED, f',"n":{lost}'):
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
    # The child must neither sign with its parent's process id nor share its file.
    for writer in list(_writers):
        if writer._file is not None:
            writer._file = None  # what the parent lost is the parent's to tell
            with contextlib.suppress(OSError):
                writer._open()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reopen_after_fork)


def members(**fields: Any) -> str:
    """Fields as text for `LogWriter.emit`; those that are None are left out.

    >>> members(step="Score", generation=None, n=2)
    ',"step":"Score","n":2'
    """
    text = encode({name: value for name, value in fields.items() if value is not None})
    return "," + text[1:-1] if len(text) > 2 else ""


def file_stem() -> str:
    """A name for the log of this process, which no other has."""
    return f"{_safe(socket.gethostname())}-{os.getpid()}-{secrets.token_hex(4)}"


def line_head(run: str) -> str:
    """How each line of this process begins, up to the id of its thread."""
    head = encode({"v": VERSION, "run": run, "host": socket.gethostname(), "pid": os.getpid()})
    return head[:-1] + ',"tid":'


def process_fields(**info: Any) -> str:
    """The fields of the event with which this process begins a log."""
    return members(wall_ns=time.time_ns(), info={**info, "boot": _boot()})


@cache
def _boot() -> str | None:
    """What tells this machine, since it was started, from all others; None where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return None


def _safe(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)[:64]


class LogReader:
    """Reads a log folder again and again while it grows, each event once.

    Args:
      folder: a path, or a URI that Beam's FileSystems know.
      most_bytes: to read, and one more to tell by that there are more; None for no limit.

    Attributes:
      invalid: complete lines that are not events.
    """

    def __init__(self, folder: str | os.PathLike[str], most_bytes: int | None = None):
        self._folder = folder_at(folder)
        self._most_bytes = most_bytes
        self._offset: dict[str, int] = {}
        self._unread: dict[str, bytes] = {}
        machines = Clocks()
        self._clocks: dict[str, Clocks] = defaultdict(lambda: Clocks(beside=machines))
        self.invalid = 0

    @property
    def pause(self) -> float:
        """Seconds that a follower should leave between two polls."""
        return self._folder.pause

    @property
    def bytes_read(self) -> int:
        return sum(self._offset.values())

    def poll(self) -> list[Event]:
        """The events that were written since the last call, file by file."""
        self.fetch()
        return self.parse()

    def fetch(self) -> bool:
        """Read what was written since the last call, to be parsed later; the folder may then go.

        Returns whether there was anything new.
        """
        news = False
        for name in self._folder.logs():
            data = self._folder.read(name, self._offset.get(name, 0), self._bytes_left())
            self._offset[name] = self._offset.get(name, 0) + len(data)
            self._unread[name] = self._unread.get(name, b"") + data
            news = news or bool(data)
        return news

    def _bytes_left(self) -> int | None:
        if self._most_bytes is None:
            return None
        return max(self._most_bytes + 1 - self.bytes_read, 0)

    def fetch_all(self) -> None:
        """Fetch what a run that has ended left, once the processes that buffer have written it.

        Looks until nothing more comes: a process that has only just begun may not be known yet.
        """
        deadline = time.monotonic() + self._folder.patience
        while self.fetch() or self._folder.awaits(self._unread):
            if time.monotonic() >= deadline:
                return
            time.sleep(self._folder.pause / 4)

    def parse(self) -> list[Event]:
        """The events among what was fetched, file by file."""
        events: list[Event] = []
        for name, data in self._unread.items():
            *lines, self._unread[name] = data.split(b"\n")
            clocks = self._clocks[name.partition(".")[0]]  # the segments of a process have one stem
            found: list[Event] = []
            for line in lines:
                try:
                    found.append(parse(line, clocks))
                except NewerTraceError:
                    raise
                except ValueError:
                    self.invalid += 1
            found.sort(key=attrgetter("t_ns"))  # threads write what they marked a little later
            events += found
        return events

    @property
    def torn(self) -> int:
        """Lines that were cut off, once all is parsed: by a killed process or a full disk."""
        return self.invalid + sum(1 for rest in self._unread.values() if rest)
