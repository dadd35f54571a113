"""The error of a watched run: the same as unwatched, with notes added by mmlab."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from mmlab._faults import survived
from mmlab.watching.warning import WatchWarning

PREFIX = "mmlab adds: "
_PACKAGE = Path(__file__).parents[1]
_FRAMES = re.compile(
    r'^ *File "[^"\n]*[/\\]mmlab[/\\](?:beam|watching|worker)[/\\]\w+\.py", line .*\n(?: {4}.*\n)*',
    re.MULTILINE,
)
"""Matches frames of a watched handler in a traceback's text, with their lines of code."""


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and its causes: Beam wraps an interrupt in an error of its own."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def leave_frames_out(error: BaseException) -> None:
    """Remove the frames of watched handlers from an error's traceback and text.

    Runners with separate workers put the worker's traceback into the text.
    """
    for one in chain(error):
        with survived("leave its own frames out of an error"):  # the error may not allow it
            one.__traceback__ = _without_frames(one.__traceback__)
            if any(isinstance(text, str) and _FRAMES.search(text) for text in one.args):
                one.args = tuple(
                    _FRAMES.sub("", text) if isinstance(text, str) else text for text in one.args
                )


def _without_frames(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and _is_ours(frames):
        frames = frames.tb_next
    kept = frames
    while kept is not None:
        while kept.tb_next is not None and _is_ours(kept.tb_next):
            kept.tb_next = kept.tb_next.tb_next
        kept = kept.tb_next
    return frames


def _is_ours(frames: TracebackType) -> bool:
    return Path(frames.tb_frame.f_code.co_filename).parent == _PACKAGE / "worker"


def add_notes(error: BaseException, sentences: Iterable[str]) -> None:
    """Add sentences to an error as notes, each with mmlab's prefix."""
    for sentence in sentences:
        if hasattr(error, "add_note"):  # Python 3.11 and later
            error.add_note(f"{PREFIX}{sentence}")
        else:
            warnings.warn(sentence, WatchWarning, stacklevel=3)
