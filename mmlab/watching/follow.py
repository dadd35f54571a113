"""Live pictures whose errors never reach the run that they show."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mmlab.events import Event
from mmlab.watching.screens import RunFrames, Screen

_log = logging.getLogger(__name__)


def quietly(work: Callable[..., Any]) -> Callable[..., None]:
    """`work`, with its errors kept to itself; after the first one it is not tried again."""
    broken = False

    def quiet(*args: Any) -> None:
        nonlocal broken
        if broken:
            return
        try:
            work(*args)
        except Exception:
            broken = True
            _log.debug("a picture could not be drawn", exc_info=True)

    return quiet


def live_view(title: str, screen: Screen) -> Callable[[list[Event]], None]:
    """Takes events and draws them on a screen; something is shown at once."""
    frames: list[RunFrames] = []

    def show(events: list[Event]) -> None:
        if not frames:
            frames.append(RunFrames(title, screen))
        frames[0].add(events)

    view = quietly(show)
    view([])
    return view
