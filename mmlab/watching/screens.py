"""Screens that show a run live: below a notebook cell, or in one line of a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any, Protocol

from PIL import Image

from mmlab._arguments import check_live
from mmlab.draw.live import LivePicture
from mmlab.draw.paint import png
from mmlab.draw.picture import Picture
from mmlab.events import Event
from mmlab.trace import Trace
from mmlab.watching.places import in_notebook as in_notebook
from mmlab.watching.terminal import LiveLine

DRAW = "draw the live picture"
LEAVE_PICTURE = "leave the last picture"
"""What failed if the last picture cannot be shown; see `survived`."""

FRAME_SECONDS = 0.2
_IDLE_SECONDS = 2.0
"""Time between frames without events of models, when only clock and memory change."""
_BACKGROUND = frozenset({"memory", "process", "close"})
_MOST_WORK = 0.05
"""Share of the time that drawing may take; slow frames are drawn less often."""
_CREDIT_SECONDS = 0.3
"""Drawing time allowed beyond that share: the first frames are the slowest, and a short run has no
others."""


class Drawn(Protocol):
    """A picture that changes during a run."""

    @property
    def begun(self) -> bool:
        """Whether its layout is known; before that, only text is shown."""

    def image(self) -> Image.Image:
        """The current frame."""

    def line(self) -> str:
        """The current state in one line of text."""


class Screen(Protocol):
    """Shows one picture and updates it in place."""

    def wait(self, picture: Drawn) -> None:
        """Show that a run is about to begin, unless something is already shown."""

    def show(self, picture: Drawn) -> None:
        """Show the current frame."""

    def finish(self, trace: Trace, title: str | None = None) -> None:
        """Show the final, full-quality picture of a run, with another title if given."""

    def leave(self, picture: Picture) -> None:
        """Show a final picture in full quality."""

    def clear(self) -> None:
        """Remove what was shown, because it is shown elsewhere."""


def screen_for(live: bool | str, text: str) -> Screen | None:
    """Return the screen for this process, or None.

    Args:
      live: True, False, or "auto": in notebooks and terminals, but not if output is captured.
      text: alternative text of the picture; the same in every frame, so that notebooks can be
        compared exactly.
    Raises:
      ValueError: `live` is none of these.
    """
    check_live(live)
    if live is False:
        return None
    if in_notebook():
        return NotebookScreen(text)
    return TerminalScreen() if live is True or sys.stderr.isatty() else None


class NotebookScreen:
    """Shows a picture in a notebook, updated by display handle; it stays in the saved file.

    Args:
      text: see `screen_for`.
    """

    def __init__(self, text: str):
        self._text = text
        self._handle: Any = None

    def wait(self, picture: Drawn) -> None:
        if self._handle is None:
            self.show(picture)

    def show(self, picture: Drawn) -> None:
        image = picture.image()
        self._put(png(image), {"width": image.width, "height": image.height})

    def finish(self, trace: Trace, title: str | None = None) -> None:
        self.leave(trace.timeline(title=title))

    def leave(self, picture: Picture) -> None:
        data, metadata = picture._repr_mimebundle_()
        self._put(data["image/png"], metadata["image/png"])

    def clear(self) -> None:
        if self._handle is not None:
            self._handle.update({"text/plain": self._text}, raw=True)

    def _put(self, png: bytes, size: dict[str, int]) -> None:
        from IPython.display import display

        data, metadata = {"image/png": png, "text/plain": self._text}, {"image/png": size}
        if self._handle is None:
            self._handle = display(data, raw=True, metadata=metadata, display_id=True)
        else:
            self._handle.update(data, raw=True, metadata=metadata)


class TerminalScreen:
    """Shows one line on standard error, overwritten by each frame."""

    def __init__(self) -> None:
        self._line = LiveLine()

    def wait(self, picture: Drawn) -> None:
        pass

    def show(self, picture: Drawn) -> None:
        self._line.show(picture.line())

    def finish(self, trace: Trace, title: str | None = None) -> None:
        self._line.end(f"{trace!r}\n")

    def leave(self, picture: Picture) -> None:
        self._line.end(f"{picture!r}\n")

    def clear(self) -> None:
        self._line.end()


class Frames:
    """Shows a picture on a screen, at a limited rate.

    Args:
      picture: the picture.
      screen: where it is shown.
    """

    def __init__(self, picture: Drawn, screen: Screen):
        self._picture = picture
        self._screen = screen
        self._last = self._began = time.monotonic()
        self._drawn_seconds = 0.0
        self._frames = 0
        self._news = True
        self.note(())
        if not picture.begun:
            screen.wait(picture)

    def note(self, events: Iterable[Event]) -> None:
        """Draw the picture after new events, unless the last frame was too recent."""
        self._news = self._news or any(event.event not in _BACKGROUND for event in events)
        if self._picture.begun and self._is_due():
            self._draw()

    def _is_due(self) -> bool:
        pause = self.pause if self._news else max(self.pause, _IDLE_SECONDS)
        return self._frames == 0 or time.monotonic() - self._last >= pause

    @property
    def pause(self) -> float:
        """Seconds between the last frame and the next one."""
        earned = _CREDIT_SECONDS + _MOST_WORK * (self._last - self._began)
        return max(FRAME_SECONDS, (self._drawn_seconds - earned) / _MOST_WORK)

    def _draw(self) -> None:
        began = time.thread_time()
        self._screen.show(self._picture)
        self._drawn_seconds += time.thread_time() - began
        self._frames += 1
        self._last = time.monotonic()
        self._news = False


class _TakesEvents(Protocol):
    """An object that is updated with events."""

    def add(self, events: Iterable[Event]) -> None:
        """Add events."""


class EventFrames(Frames):
    """Draws a run on a screen from its events, at a limited rate.

    Args:
      picture: the picture.
      run: receives the events.
      screen: where it is shown.
      events: earlier events.
    """

    def __init__(
        self, picture: Drawn, run: _TakesEvents, screen: Screen, events: Iterable[Event] = ()
    ):
        self._run = run
        self._run.add(events)
        super().__init__(picture, screen)

    def add(self, events: Iterable[Event]) -> None:
        """Add events and draw, unless the last frame was too recent."""
        events = list(events)
        self._run.add(events)
        self.note(events)


class RunFrames(EventFrames):
    """Draws a single run; see `EventFrames`.

    Args:
      title: title of the picture.
      screen: where it is shown.
      events: earlier events.
    """

    def __init__(self, title: str, screen: Screen, events: Iterable[Event] = ()):
        run = LivePicture(title)
        super().__init__(run, run, screen, events)
