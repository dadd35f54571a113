"""Append-only event logs: one file per process, one write per event, read while they grow."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
import weakref
from pathlib import Path
from threading import get_native_id
from time import monotonic_ns
from typing import Any

from mmlab.trace.event import VERSION, Event, NewerTraceError, encode, parse
from mmlab.trace.place import ENDED, SUFFIX, folder_at, shared_bits

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
        self._lost = 0
        self._open()
        _writers.add(self)

    def _open(self) -> None:
        name = f"{file_stem()}{SUFFIX}"
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        self._fd: int | None = os.open(self._folder / name, flags, 0o600)
        if shared := shared_bits(self._folder) & 0o066:
            (self._folder / name).chmod(0o600 | shared)  # who reads them need not be who writes
        self._head = self._line_start = line_head(self._run)
        self.emit("process", f',"wall_ns":{time.time_ns()}')

    def emit(self, event: str, fields: str = "") -> None:
        """Write one event.

        Args:
          event: its kind.
          fields: more members of the JSON object, each after a comma: see `members`.
        """
        if self._lost:
            self._tell_of_lost()
        fd = self._fd
        if fd is None:
            return
        line = (
            f'{self._line_start}{get_native_id()},"t_ns":{monotonic_ns()}'
            f',"event":"{event}"{fields}}}\n'
        ).encode()
        try:
            whole = os.write(fd, line) == len(line)
        except OSError:
            self._lost += 1
            return
        if whole:
            self._line_start = self._head
        else:  # a line that was cut off ends where the next one begins
            self._line_start = "\n" + self._head
            self._lost += 1

    def _tell_of_lost(self) -> None:
        lost, self._lost = self._lost, 0
        self.emit("dropped", f',"n":{lost}')
        if self._lost:  # nor could that be written
            self._lost = lost

    def run_ended(self) -> bool:
        """Whether the processes that write to this folder were told to stop, or it is gone."""
        with contextlib.suppress(OSError):  # nobody may enter it any more
            return (self._folder / ENDED).exists() or not self._folder.exists()
        return False

    @property
    def lost(self) -> int:
        """Events that could not be written, and that the log does not tell of yet."""
        return self._lost

    def close(self) -> None:
        """Stop writing; events that come later are let go."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _reopen_after_fork() -> None:
    # The child must neither sign with its parent's process id nor share its file.
    for writer in list(_writers):
        if writer._fd is not None:
            writer.close()
            with contextlib.suppress(OSError):
                writer._open()


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


def _safe(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)[:64]


class LogReader:
    """Reads a log folder again and again while it grows, each event once.

    Args:
      folder: a path, or a URI that Beam's FileSystems know.

    Attributes:
      invalid: complete lines that are not events.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self._folder = folder_at(folder)
        self._offset: dict[str, int] = {}
        self._unread: dict[str, bytes] = {}
        self._clocks: dict[str, int] = {}
        self.invalid = 0

    @property
    def pause(self) -> float:
        """Seconds that a follower should leave between two polls."""
        return self._folder.pause

    def poll(self) -> list[Event]:
        """The events that were written since the last call, file by file."""
        self.fetch()
        return self.parse()

    def fetch(self) -> None:
        """Read what was written since the last call, to be parsed later; the folder may then go."""
        for name in self._folder.logs():
            data = self._folder.read(name, self._offset.get(name, 0))
            self._offset[name] = self._offset.get(name, 0) + len(data)
            self._unread[name] = self._unread.get(name, b"") + data

    def fetch_all(self) -> None:
        """Fetch what a run that has ended left, once the processes that buffer have written it."""
        deadline = time.monotonic() + self._folder.patience
        self.fetch()
        while self._folder.awaits(self._unread) and time.monotonic() < deadline:
            time.sleep(self._folder.pause / 4)
            self.fetch()

    def parse(self) -> list[Event]:
        """The events among what was fetched, file by file."""
        events: list[Event] = []
        for name, data in self._unread.items():
            *lines, self._unread[name] = data.split(b"\n")
            for line in lines:
                try:
                    events.append(parse(line, self._clocks))
                except NewerTraceError:
                    raise
                except ValueError:
                    self.invalid += 1
        return events

    @property
    def torn(self) -> int:
        """Lines that were cut off, once all is parsed: by a killed process or a full disk."""
        return self.invalid + sum(1 for rest in self._unread.values() if rest)
