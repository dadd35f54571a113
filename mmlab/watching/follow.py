"""Show runs of other processes, from their log or from events.

Errors in drawing never reach the run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from mmlab._arguments import check_live, path_argument
from mmlab._faults import survived
from mmlab.events import Event, RunBegins, RunEnds
from mmlab.log.folders import folder_at, location
from mmlab.log.reader import LogReader
from mmlab.trace import Trace
from mmlab.watching.screens import (
    DRAW,
    FRAME_SECONDS,
    LEAVE_PICTURE,
    EventFrames,
    RunFrames,
    Screen,
    screen_for,
)


def quietly(work: Callable[..., Any], what: str = DRAW) -> Callable[..., None]:
    """Return `work` with its errors suppressed; after the first error it does nothing.

    Args:
      what: see `survived`.
    """
    broken = False

    def quiet(*args: Any) -> None:
        nonlocal broken
        if broken:
            return
        with survived(what) as attempt:
            work(*args)
        broken = broken or attempt.failed

    return quiet


def live_view(title: str, screen: Screen) -> Callable[[list[Event]], None]:
    """Return a callback that draws a run from its events; a first picture is shown at once."""
    return view_of(lambda: RunFrames(title, screen))


def view_of(begin: Callable[[], EventFrames]) -> Callable[[list[Event]], None]:
    """Return a callback that draws events; a first picture is shown at once.

    Args:
      begin: makes the frames that draw.
    """
    frames: list[EventFrames] = []

    def show(events: list[Event]) -> None:
        if not frames:
            frames.append(begin())
        frames[0].add(events)

    view = quietly(show)
    view([])
    return view


def follow(log: str | os.PathLike[str], *, live: bool | str = "auto") -> Trace:
    """Show a run of another process or machine until it ends, and return its trace.

    An interrupt stops `follow`, not the run, and returns the trace so far. The log of a killed run
    has no end: interrupt `follow` in that case, too.

    Args:
      log: the log folder of a run, or a folder of such folders, of which the newest run is shown or
        the first to appear. A path, or a URI that Beam's FileSystems know.
      live: whether the run is shown; see `WatchRunner`.

    Raises:
      TypeError, ValueError: `log` is not a path, or `live` is not True, False or "auto".
      FileNotFoundError: the folder does not exist.
      OSError: the folder cannot be read.
    """
    check_live(live)
    path_argument("log", log, "the log folder of a run")
    where = location(log)
    if not isinstance(where, str) and not where.is_dir():
        raise FileNotFoundError(f"no folder {where}: give the log folder of a run")
    reader = LogReader(_newest_run(str(where)))
    screen = screen_for(live, f"Timeline of the run in {where}, drawn while it ran")
    events: list[Event] = []
    try:
        _show_until_it_ends(reader, events, screen)
        reader.fetch_all()
    except KeyboardInterrupt:
        reader.fetch()
    events += reader.parse()
    trace = Trace(events, torn=reader.torn)
    if screen is not None:
        with survived(LEAVE_PICTURE):
            screen.finish(trace)
    return trace


def _newest_run(folder: str) -> str:
    """Return `folder` if it is that of a run, else its newest run; wait until there is one."""
    while True:
        at = folder_at(folder)
        if at.logs():
            return folder
        if runs := at.runs():
            return f"{folder}/{runs[-1]}"
        time.sleep(max(at.pause, FRAME_SECONDS))


def _show_until_it_ends(reader: LogReader, events: list[Event], screen: Screen | None) -> None:
    show: Callable[[list[Event]], None] | None = None
    ended = False
    while not ended:
        new = reader.poll()
        events += new
        ended = any(isinstance(event, RunEnds) for event in new)
        if show is None and screen is not None and new:
            show = live_view(_title(events), screen)
        if show is not None:
            show(new)
        if not ended:
            time.sleep(max(reader.pause, FRAME_SECONDS))


def _title(events: list[Event]) -> str:
    """Return the labels of the run's steps, from its first events."""
    begun = (event.info for event in events if isinstance(event, RunBegins))
    steps = dict.fromkeys(model.step for info in begun if info for model in info.models)
    return ", ".join(filter(None, steps)) or "the pipeline"
