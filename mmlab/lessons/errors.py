"""Short output for the errors that a lesson shows on purpose."""

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
    """Catch an error raised in the block and print it.

    Prints its type and first line, then mmlab's notes. The number of the cell, which Beam puts
    before the label of a step, is left out, because it changes with every run of the cell. If the
    block raises no error, prints "No error."
    """
    with warnings.catch_warnings(record=True) as remarks, without_logging():
        warnings.simplefilter("always", WatchWarning)  # before Python 3.11, which has no notes
        try:
            yield
        except Exception as error:
            notes = [str(remark.message) for remark in remarks if _is_ours(remark)]
            notes += (note.removeprefix(PREFIX) for note in getattr(error, "__notes__", []))
            print_wrapped("\n".join([_in_short(error), *(f"{PREFIX}{note}" for note in notes)]))
        else:
            say("No error.")


def print_wrapped(text: str) -> None:
    """Print text, with line breaks between words."""
    say(wrapped(text))


@contextmanager
def without_logging() -> Iterator[None]:
    """Suppress Beam's log messages about an error that is shown in another way."""
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
