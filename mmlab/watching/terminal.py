"""A live line at the end of a terminal that does not mix with other output."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from mmlab._text import head, shown

_CLEAR = "\r\x1b[K"
_COLUMNS = 80
"""Width of a terminal that does not report it."""


class LiveLine:
    """A line on standard error that is overwritten with each new text.

    While it is shown, all output and log messages of this process to the terminal go through this
    class: it clears the line first and writes it again with its next text.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._stands = False
        self._terminal: Any = None
        self._through: list[_Through] = []

    def show(self, text: str) -> None:
        """Overwrite the line, if standard error is a terminal."""
        if not sys.stderr.isatty():
            return
        with self._lock:
            if not self._through:
                self._begin()
            if any(through.unended for through in self._through):
                return  # other output has an unfinished line
            line = head(shown(text, self._terminal), _width(self._terminal) - 1)
            self._terminal.write(f"{_CLEAR}{line}")
            self._terminal.flush()
            self._stands = True

    def end(self, text: str = "") -> None:
        """Replace the line by a last text, and restore the streams."""
        with self._lock:
            self.clear()
            for through in self._through:
                through.leave()
            self._through, self._terminal = [], None
            if text:
                sys.stderr.write(shown(text, sys.stderr))
                sys.stderr.flush()

    def clear(self) -> None:
        """Clear the line, if it is shown."""
        with self._lock:
            if self._stands:
                self._terminal.write(_CLEAR)
                self._terminal.flush()
                self._stands = False

    def _begin(self) -> None:
        self._terminal = sys.stderr
        for name in ("stderr", "stdout"):
            stream = getattr(sys, name)
            if stream.isatty():
                self._through.append(_Through(self, self._lock, name, stream))


class _Through:
    """Replaces a stream of the terminal until `leave`."""

    def __init__(self, line: LiveLine, lock: threading.RLock, name: str, stream: Any):
        self._line, self._lock, self._name, self._stream = line, lock, name, stream
        self.unended = False
        setattr(sys, name, self)
        # A logging handler keeps the stream that it was created with.
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
    """Return the columns of a terminal: a longer line could not be cleared."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or _COLUMNS
    except (AttributeError, OSError, ValueError):  # not a real terminal
        return _COLUMNS


def _handlers() -> Iterator[logging.StreamHandler[Any]]:
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):  # some are placeholders
            if isinstance(handler, logging.StreamHandler):
                yield handler
