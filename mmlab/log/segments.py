"""Event logs for file systems whose files cannot grow: numbered segments, written by a thread."""

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
"""Time between segments at the start of a run …"""
_MOST_SECONDS = 60.0
_SHARE = 0.05
"""… and later as a share of its age, so that a run of a day leaves only thousands of files."""
_SEGMENT_LINES = 5_000
_MOST_WAITING = 200_000
"""Lines buffered while writing fails; further lines are counted as lost."""
_CLOSE_SECONDS = 10.0
"""Timeout for writing the last lines after a run; lines not written by then are lost."""

_writers: weakref.WeakSet[SegmentWriter] = weakref.WeakSet()


class SegmentWriter:
    """Writes events to numbered files `<stem>.<number>.jsonl`; the counterpart of `LogWriter`.

    `emit` only adds to a buffer, without a lock: it can be called from a finalizer, and the run
    never waits for the network. A thread writes the buffer: once at the start, so that readers find
    the process, then every few seconds, every `_SEGMENT_LINES` lines, at the end of the run, and at
    a normal exit of the process. A killed process loses its buffer: its log has no `close` event,
    and the trace reports that.

    Args:
      folder: a URI that Beam's FileSystems know; write access is not checked.
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
        """Begin a log of this process, in memory only."""
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
                with contextlib.suppress(RuntimeError):  # no more threads: retry at the next event
                    thread.start()
                    self._thread = thread

    def emit(self, event: Event, t_ns: int | None = None, tid: int | None = None) -> None:
        """Add one event to the buffer; see `LogWriter.emit`."""
        if self._thread is None and type(event) is Frees:  # forked child: a model of its parent
            return
        self.append(members_of(event), t_ns, tid)

    def append(self, members: bytes, t_ns: int | None = None, tid: int | None = None) -> None:
        """Add one event whose members are already encoded; see `LogWriter.append`."""
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
        """Events that could not be buffered or written and are not yet reported in the log."""
        return self._lost + (len(self._lines) + self._writing if self._closed else 0)

    def run_ended(self) -> bool:
        """Whether the run had ended at the last check."""
        return self._ended

    def close(self) -> None:
        """Write the remaining events and stop; later events are ignored.

        What is not written after `_CLOSE_SECONDS` is lost, unless the process keeps running and the
        network recovers.
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
        """Write the buffer; what cannot be written now stays for the next flush."""
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
        self._number += 1  # a failed file may not be overwritable
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
    """Return the name of a segment; names sort in the order of writing.

    >>> _segment_name("host-17-ab", 3)
    'host-17-ab.000003.jsonl'
    """
    return f"{stem}.{number:06d}{SUFFIX}"


def _close_all() -> None:
    for writer in list(_writers):
        writer.close()


def _reopen_after_fork() -> None:
    # The parent writes its own buffer, so the child drops its copy. Most children emit no event,
    # so the thread and the log start with the first one.
    for writer in list(_writers):
        if not writer._closed:
            writer._open()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reopen_after_fork)
