"""One line at the end of a terminal, which is out of the way of whatever else is written."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from mmlab._text import head, shown

CLEAR = "\r\x1b[K"
COLUMNS = 80
"""Of a terminal that does not say how many it has."""


class LiveLine:
    """A line on standard error that is written over and over.

    While it stands, whatever this process prints or logs to the terminal goes through here: the
    line is cleared before, and comes again with its next text.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._stands = False
        self._terminal: Any = None
        self._through: list[_Through] = []

    def show(self, text: str) -> None:
        """Write the line over, where standard error is a terminal."""
        if not sys.stderr.isatty():
            return
        with self._lock:
            if not self._through:
                self._begin()
            if any(through.unended for through in self._through):
                return  # over half a line of somebody else's
            line = head(shown(text, self._terminal), _width(self._terminal) - 1)
            self._terminal.write(f"{CLEAR}{line}")
            self._terminal.flush()
            self._stands = True

    def end(self, text: str = "") -> None:
        """Leave a last text in the place of the line, and let others write as before."""
        with self._lock:
            self.clear()
            for through in self._through:
                through.leave()
            self._through, self._terminal = [], None
            if text:
                sys.stderr.write(shown(text, sys.stderr))
                sys.stderr.flush()

    def clear(self) -> None:
        """Clear the line, where it stands."""
        with self._lock:
            if self._stands:
                self._terminal.write(CLEAR)
                self._terminal.flush()
                self._stands = False

    def _begin(self) -> None:
        self._terminal = sys.stderr
        for name in ("stderr", "stdout"):
            stream = getattr(sys, name)
            if stream.isatty():
                self._through.append(_Through(self, self._lock, name, stream))


class _Through:
    """A stream of the terminal, in the place of which it is until `leave`."""

    def __init__(self, line: LiveLine, lock: threading.RLock, name: str, stream: Any):
        self._line, self._lock, self._name, self._stream = line, lock, name, stream
        self.unended = False
        setattr(sys, name, self)
        # A handler of logging keeps the stream that it was made with.
        self._handlers = [one for one in _handlers() if one.stream is stream]
        for handler in self._handlers:
            handler.setStream(self)

    def write(self, text: str) -> int:
        with self._lock:
            self._line.clear()
            written: int = self._stream.write(text)
            if text:
                self.unended = not text.endswith("\n")
            return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def leave(self) -> None:
        if getattr(sys, self._name) is self:
            setattr(sys, self._name, self._stream)
        for handler in self._handlers:
            if handler.stream is self:
                handler.setStream(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _width(terminal: Any) -> int:
    """Its columns: a line that is longer could not be cleared."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or COLUMNS
    except (AttributeError, OSError, ValueError):  # what stands for a terminal is not one
        return COLUMNS


def _handlers() -> Iterator[logging.StreamHandler[Any]]:
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):  # there are placeholders among them
            if isinstance(handler, logging.StreamHandler):
                yield handler
