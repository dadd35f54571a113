"""Read event logs while they grow."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from operator import attrgetter

from mmlab.events import Event, NewerTraceError, decode, decode_lines
from mmlab.log.clock import Clocks
from mmlab.log.folders import folder_at

BLOCK_BYTES = 4_000_000
"""Approximate size of the blocks in which lines are decoded."""


def parse(lines: bytes, clocks: Clocks) -> list[Event]:
    """Decode one or more whole lines of a log and convert their times to wall-clock time.

    Args:
      lines: as `Event.to_json` writes them.
      clocks: of the log that contains the lines; `process` events add to them.

    Raises:
      ValueError: one of them is not an event, or was written by a newer mmlab.
    """
    events = decode_lines(lines) if b"\n" in lines[:-1] else [decode(lines)]
    clocks.align(events)
    return events


def _blocks(data: bytes) -> Iterator[bytes]:
    """Split whole lines into blocks of whole lines."""
    begin = 0
    while begin < len(data):
        end = data.rfind(b"\n", begin, begin + BLOCK_BYTES) + 1
        if end == 0:  # a longer line
            end = data.find(b"\n", begin) + 1 or len(data)
        yield data[begin:end]
        begin = end


class LogReader:
    """Reads a log folder repeatedly while it grows, each event once.

    Args:
      folder: a path, or a URI that Beam's FileSystems know.
      most_bytes: limit of what is read, plus one byte that shows that there is more; None for no
        limit.

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
        """Seconds to wait between two polls."""
        return self._folder.pause

    @property
    def bytes_read(self) -> int:
        return sum(self._offset.values())

    def poll(self) -> list[Event]:
        """Events written since the last call, file by file."""
        self.fetch()
        return self.parse()

    def fetch(self) -> bool:
        """Read what was written since the last call; `parse` then works without the folder.

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
        """Fetch all logs of a run that has ended; waits for processes that still buffer events.

        Polls until nothing new comes, because a process that has just started may have no log yet.
        """
        deadline = time.monotonic() + self._folder.patience
        while self.fetch() or self._folder.awaits(self._unread):
            if time.monotonic() >= deadline:
                return
            time.sleep(self._folder.pause / 4)

    def parse(self) -> list[Event]:
        """Parse what was fetched and return its events, file by file."""
        events: list[Event] = []
        for name, data in self._unread.items():
            end = data.rfind(b"\n") + 1
            self._unread[name] = data[end:]
            clocks = self._clocks[name.partition(".")[0]]  # segments of a process share a stem
            found: list[Event] = []
            for block in _blocks(data[:end]):
                found += self._parsed(block, clocks)
            found.sort(key=attrgetter("t_ns"))  # threads write an event after timing it
            events += found
        return events

    def _parsed(self, block: bytes, clocks: Clocks) -> list[Event]:
        try:
            return parse(block, clocks)
        except NewerTraceError:
            raise
        except ValueError:
            found: list[Event] = []
        for line in block.splitlines():
            try:
                found += parse(line, clocks)
            except NewerTraceError:
                raise
            except ValueError:
                self.invalid += 1
        return found

    @property
    def torn(self) -> int:
        """Lines cut off by a killed process or a full disk; valid after everything is parsed."""
        return self.invalid + sum(1 for rest in self._unread.values() if rest)
