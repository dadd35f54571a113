"""Event logs where files cannot grow: numbered segments, written by a thread of their own."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections import deque

from mmlab.trace.log import ENDED, file_stem, line_head, process_fields
from mmlab.trace.place import SUFFIX, RemoteFolder

CHECK_SECONDS = 0.25
FIRST_SECONDS = 2.0
"""Time between segments while a run is young …"""
MOST_SECONDS = 60.0
SHARE = 0.05
"""… then this share of its age, so that a run of a day leaves thousands of files, not more."""
SEGMENT_LINES = 5_000
MOST_WAITING = 200_000
"""Lines that are kept while they cannot be written; those that come later are counted as lost."""

_writers: weakref.WeakSet[SegmentWriter] = weakref.WeakSet()


class SegmentWriter:
    """Writes events to numbered files `<stem>.<number>.jsonl`, as `LogWriter` does to one.

    `emit` only adds to a buffer, without a lock, so that it can be called from a finalizer and
    never waits for a network. A thread writes the buffer every few seconds, every
    `SEGMENT_LINES` lines, when the run has ended, and when the process ends by itself. A killed
    process loses what it had not yet written: its log then has no `close` event, and the trace
    says so.

    Args:
      folder: a URI that Beam's FileSystems know.
      run: identifies the run; the same in all its processes.

    Raises:
      OSError: nothing can be written there.
    """

    def __init__(self, folder: str, run: str):
        self._folder = RemoteFolder(folder)
        self._run = run
        self._open()
        _writers.add(self)

    def _open(self) -> None:
        self._stem, self._head = file_stem(), line_head(self._run)
        self._lines: deque[str] = deque()
        self._number = 0
        self._lost = 0
        self._ended = False
        self._closed = False
        self._stop = threading.Event()
        self._began = self._wrote = time.monotonic()
        self.emit("process", process_fields(segments=True))
        self._write_segment()  # the readers learn at once that there is a process to wait for
        self._thread = threading.Thread(target=self._follow, name="mmlab-segments", daemon=True)
        self._thread.start()

    def emit(self, event: str, fields: str = "") -> None:
        """Add one event to the buffer: see `LogWriter.emit`."""
        if self._closed:
            return
        if len(self._lines) >= MOST_WAITING:
            self._lost += 1
            return
        self._lines.append(self._line(event, fields))

    @property
    def lost(self) -> int:
        """Events that could not be kept, and that the log does not tell of yet."""
        return self._lost

    def run_ended(self) -> bool:
        """Whether the run was over when that was last looked up."""
        return self._ended

    def close(self) -> None:
        """Write what is left and stop; events that come later are let go."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _line(self, event: str, fields: str = "") -> str:
        return (
            f'{self._head}{threading.get_native_id()},"t_ns":{time.monotonic_ns()}'
            f',"event":"{event}"{fields}}}\n'
        )

    def _follow(self) -> None:
        looked = time.monotonic()
        while not self._stop.wait(CHECK_SECONDS) and not self._ended:
            if self._is_due():
                self._flush()
            if time.monotonic() - looked >= FIRST_SECONDS:
                looked = time.monotonic()
                with contextlib.suppress(OSError):
                    self._ended = self._folder.exists(ENDED)
        self._finish()

    def _is_due(self) -> bool:
        now = time.monotonic()
        pause = min(max(FIRST_SECONDS, SHARE * (now - self._began)), MOST_SECONDS)
        return now - self._wrote >= pause or len(self._lines) >= SEGMENT_LINES

    def _finish(self) -> None:
        self._closed = True
        self._account_for_lost()
        self._lines.append(self._line("close"))
        self._flush()

    def _flush(self) -> None:
        """Write the buffer; what cannot be written now waits for the next time."""
        self._wrote = time.monotonic()
        with contextlib.suppress(OSError):
            self._write_segment()

    def _account_for_lost(self) -> None:
        lost, self._lost = self._lost, 0
        if lost:
            self._lines.append(self._line("dropped", f',"n":{lost}'))

    def _write_segment(self) -> None:
        self._account_for_lost()
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if not lines:
            return
        name = segment_name(self._stem, self._number)
        self._number += 1  # where nothing can be written over, a number is good for one attempt
        try:
            self._folder.write(name, "".join(lines).encode())
        except OSError:
            self._folder.remove(name)
            self._lines.extendleft(reversed(lines))
            raise


def segment_name(stem: str, number: int) -> str:
    """The name of a segment; names sort as they were written.

    >>> segment_name("host-17-ab", 3)
    'host-17-ab.000003.jsonl'
    """
    return f"{stem}.{number:06d}{SUFFIX}"


def _close_all() -> None:
    for writer in list(_writers):
        writer.close()


def _reopen_after_fork() -> None:
    # What the parent has not written yet is the parent's to write.
    for writer in list(_writers):
        if not writer._closed:
            with contextlib.suppress(OSError):
                writer._open()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reopen_after_fork)
