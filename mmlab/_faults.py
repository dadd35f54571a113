"""Faults of mmlab's own: the author's run goes on, and one line of the log says what is missing."""

from __future__ import annotations

import logging
from types import TracebackType

log = logging.getLogger("mmlab")

_level = logging.DEBUG
_said: dict[str, object] = {}
"""What this process has told of; a plain dict, which takes no lock and survives a fork."""


def warn() -> None:
    """Report faults of this process as warnings from now on: its author sees what it logs.

    Elsewhere, in workers, they are for debugging.
    """
    global _level
    _level = logging.WARNING


class survived:
    """A block whose errors are mmlab's own and must not reach the author's run.

    The first error of a process at a place is logged; the traceback goes with it where the logger
    "mmlab" is set to DEBUG. Interrupts and exits pass.

    Args:
      what: what could not be done then, as in "mmlab could not …". It names the place.

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
        traced = error if log.isEnabledFor(logging.DEBUG) else None
        said = describe(error)
        log.log(_level, "mmlab could not %s: %s; the run goes on", what, said, exc_info=traced)


def describe(error: BaseException) -> str:
    """Type and text of an exception, at most 500 characters: the beginning and the end.

    A worker's exception comes as the text of its traceback, which names it in the last line.

    >>> describe(KeyError("Z"))
    "KeyError: 'Z'"
    """
    try:
        text = str(error)
    except Exception:  # an author's exception may refuse
        text = "(no text)"
    whole = f"{type(error).__name__}: {text}"
    return whole if len(whole) <= 500 else f"{whole[:199]} … {whole[-298:]}"
