"""Event logs where files cannot grow: numbered segments, written by a thread of their own."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections import deque

from mmlab.events import Close, Dropped, Event, Frees
from mmlab.log.folders import ENDED, SUFFIX, RemoteFolder
from mmlab.log.writer import file_stem, line_head, members_of, of_thread, process_event

_CHECK_SECONDS = 0.25
_FIRST_SECONDS = 2.0
"""Time between segments while a run is young …"""
_MOST_SECONDS = 60.0
_SHARE = 0.05
"""… then this share of its age, so that a run of a day leaves thousands of files, not more."""
_SEGMENT_LINES = 5_000
_MOST_WAITING = 200_000
"""Lines that are kept while they cannot be written; those that come later are counted as lost."""
_CLOSE_SECONDS = 10.0
"""A run that has ended waits so long for the last lines to be written; the others are lost."""

_writers: weakref.WeakSet[SegmentWriter] = weakref.WeakSet()


class SegmentWriter:
    """Writes events to numbered files `<stem>.<number>.jsonl`, as `LogWriter` does to one.

    `emit` only adds to a buffer, without a lock, so that it can be called from a finalizer, and
    nothing else that a run does waits for a network. A thread writes the buffer: at once, so that
    readers learn of this process, every few seconds, every `_SEGMENT_LINES` lines, when the run has
    ended, and when the process ends by itself. A killed process loses what it had not yet written:
    its log then has no `close` event, and the trace says so.

    Args:
      folder: a URI that Beam's FileSystems know; whether it can be written is not looked up.
      run: identifies the run; the same in all its processes.

    Raises:
      OSError: Beam has no file system for that URI.
    """

    def __init__(self, folder: str, run: str):
        self._folder = RemoteFolder(folder)
        self._folder.check_scheme()
        self._run = run
        self._open()
        self._start()
        _writers.add(self)

    def _open(self) -> None:
        """Begin a log of this process, in memory alone."""
        self._stem, self._head = file_stem(), line_head(self._run)
        self._lines = deque([self._line(members_of(process_event(segments=True)))])
        self._writing = 0
        self._number = 0
        self._lost = 0
        self._ended = False
        self._closed = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._began = self._wrote = time.monotonic()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._follow, name="mmlab-segments", daemon=True)
                with contextlib.suppress(RuntimeError):  # no more threads: the next event tries
                    thread.start()
                    self._thread = thread

    def emit(self, event: Event, t_ns: int | None = None, tid: int | None = None) -> None:
        """Add one event to the buffer: see `LogWriter.emit`."""
        if self._thread is None and type(event) is Frees:  # in a forked child: a parent's model
            return
        self.append(members_of(event), t_ns, tid)

    def append(self, members: bytes, t_ns: int | None = None, tid: int | None = None) -> None:
        """Add one event whose members are encoded already: see `LogWriter.append`."""
        if self._closed:
            return
        if self._thread is None:  # this is a forked child
            self._start()
        if len(self._lines) + self._writing >= _MOST_WAITING:
            self._lost += 1
            return
        self._lines.append(self._line(members, t_ns, tid))

    @property
    def lost(self) -> int:
        """Events that could not be kept or written, and that the log does not tell of yet."""
        return self._lost + (len(self._lines) + self._writing if self._closed else 0)

    def run_ended(self) -> bool:
        """Whether the run was over when that was last looked up."""
        return self._ended

    def close(self) -> None:
        """Write what is left, and stop; events that come later are let go.

        What is not written after `_CLOSE_SECONDS` is lost, unless this process lives on and the
        network comes back.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
        self._closed = True
        _writers.discard(self)

    def _line(self, members: bytes, t_ns: int | None = None, tid: int | None = None) -> bytes:
        head = of_thread(self._head, tid or threading.get_native_id())
        return b"%b%d%b" % (head, t_ns or time.monotonic_ns(), members)

    def _follow(self) -> None:
        self._flush()
        looked = time.monotonic()
        while not self._stop.wait(_CHECK_SECONDS) and not self._ended:
            if self._is_due():
                self._flush()
            if time.monotonic() - looked >= _FIRST_SECONDS:
                looked = time.monotonic()
                with contextlib.suppress(OSError):
                    self._ended = self._folder.exists(ENDED)
        self._finish()

    def _is_due(self) -> bool:
        now = time.monotonic()
        pause = min(max(_FIRST_SECONDS, _SHARE * (now - self._began)), _MOST_SECONDS)
        return now - self._wrote >= pause or len(self._lines) >= _SEGMENT_LINES

    def _finish(self) -> None:
        self._closed = True
        self._flush(self._line(members_of(Close())))

    def _flush(self, *last: bytes) -> None:
        """Write the buffer; what cannot be written now waits for the next time."""
        self._wrote = time.monotonic()
        with contextlib.suppress(OSError):
            self._write_segment(*last)

    def _write_segment(self, *last: bytes) -> None:
        lost = self._lost
        told = [self._line(members_of(Dropped(n=lost)))] if lost else []
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        text = b"".join((*lines, *told, *last))
        if not text:
            return
        name = _segment_name(self._stem, self._number)
        self._number += 1  # where nothing can be written over, a number is good for one attempt
        self._writing = len(lines)
        try:
            self._folder.write(name, text)
            self._lost -= lost
        except OSError:
            self._folder.remove(name)
            self._lines.extendleft(reversed(lines))
            raise
        finally:
            self._writing = 0


def _segment_name(stem: str, number: int) -> str:
    """The name of a segment; names sort as they were written.

    >>> _segment_name("host-17-ab", 3)
    'host-17-ab.000003.jsonl'
    """
    return f"{stem}.{number:06d}{SUFFIX}"


def _close_all() -> None:
    for writer in list(_writers):
        writer.close()


def _reopen_after_fork() -> None:
    # What the parent has not written yet is the parent's to write. Most children have no event to
    # add: the first one starts the thread, and with it the log.
    for writer in list(_writers):
        if not writer._closed:
            writer._open()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reopen_after_fork)
