"""The errors that a lesson shows on purpose: real, and in few lines."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from mmlab._text import say, wrapped
from mmlab.watching import WatchWarning
from mmlab.watching.errors import PREFIX

_CELL_NUMBER = re.compile(r"(?<=['\"])\[\d+\]: ")


@contextmanager
def real_error() -> Iterator[None]:
    """Print the error in which the lines inside end, instead of raising it.

    Its type and first line are printed, then what mmlab adds to it. The number of the cell, which
    Beam puts before the label of a step, is left out: it changes with every run of the cell.
    Without an error it says so, so that a lesson cannot teach an error that is gone.
    """
    with warnings.catch_warnings(record=True) as remarks, without_logging():
        warnings.simplefilter("always", WatchWarning)  # where Python has no notes, before 3.11
        try:
            yield
        except Exception as error:
            notes = [str(remark.message) for remark in remarks if _is_ours(remark)]
            notes += (note.removeprefix(PREFIX) for note in getattr(error, "__notes__", []))
            print_wrapped("\n".join([_in_short(error), *(f"{PREFIX}{note}" for note in notes)]))
        else:
            say("No error.")


def print_wrapped(text: str) -> None:
    """Print text in lines that break between words."""
    say(wrapped(text))


@contextmanager
def without_logging() -> Iterator[None]:
    """Hold back what Beam logs of an error that is shown in another way."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _is_ours(remark: warnings.WarningMessage) -> bool:
    return issubclass(remark.category, WatchWarning)


def _in_short(error: BaseException) -> str:
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {_CELL_NUMBER.sub('', text)}"
