"""Internal errors of mmlab: they never stop the author's run; one log line says what is missing."""

from __future__ import annotations

import logging
from types import TracebackType

_log = logging.getLogger("mmlab")

_level = logging.DEBUG
_said: dict[str, object] = {}
"""What this process has reported; a plain dict needs no lock and survives a fork."""


def warn() -> None:
    """Log errors of this process as warnings from now on, because its author sees the log.

    In other processes (workers) they are logged at level DEBUG.
    """
    global _level
    _level = logging.WARNING


class survived:
    """Suppress errors of mmlab's own code, which must not reach the author's run.

    The first error per process and `what` is logged, with its traceback if the logger "mmlab" is
    set to DEBUG. Interrupts and exits are not suppressed.

    Args:
      what: what the block does, as in "mmlab could not …".

    Attributes:
      failed: whether the block ended with an error.
    """

    def __init__(self, what: str):
        self._what = what
        self.failed = False

    def __enter__(self) -> survived:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        frames: TracebackType | None,
    ) -> bool:
        self.failed = isinstance(error, Exception)
        if isinstance(error, Exception):
            _report(self._what, error)
        return self.failed


def _report(what: str, error: Exception) -> None:
    mark = object()
    if _said.setdefault(what, mark) is mark:
        traced = error if _log.isEnabledFor(logging.DEBUG) else None
        said = describe(error)
        _log.log(_level, "mmlab could not %s: %s; the run goes on", what, said, exc_info=traced)


def describe(error: BaseException) -> str:
    """Return type and text of an exception, at most 500 characters: the beginning and the end.

    For a worker's exception, which comes as the text of a traceback, the last line is used.

    >>> describe(KeyError("Z"))
    "KeyError: 'Z'"
    """
    try:
        text = str(error)
    except Exception:  # its __str__ may raise
        text = "(no text)"
    whole = f"{type(error).__name__}: {text}"
    return whole if len(whole) <= 500 else f"{whole[:199]} … {whole[-298:]}"
