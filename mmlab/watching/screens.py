"""Where a run is shown while it goes on: under the cell of a notebook, or in a terminal's line."""

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
"""What a fault of ours leaves out; see `survived`."""

FRAME_SECONDS = 0.2
IDLE_SECONDS = 2.0
"""Between frames while nothing happens to models: only the clock and the memory go on."""
_BACKGROUND = frozenset({"memory", "process", "close"})
MOST_WORK = 0.05
"""Share of the time that drawing may take; slower frames come less often."""
CREDIT_SECONDS = 0.3
"""Drawing that may be done beyond that share: the first frames of a run take longest, and a short
run has no others."""


class Drawn(Protocol):
    """A picture that changes while something goes on."""

    @property
    def begun(self) -> bool:
        """Whether its layout is known: what is shown before is words."""

    def image(self) -> Image.Image:
        """The frame of this moment."""

    def line(self) -> str:
        """The same in one line of text."""


class Screen(Protocol):
    """Shows one picture, over and over in the same place."""

    def wait(self, picture: Drawn) -> None:
        """Show that a run is about to begin, unless something else is shown already."""

    def show(self, picture: Drawn) -> None:
        """Show how a run stands."""

    def finish(self, trace: Trace, title: str | None = None) -> None:
        """Leave the last, full-quality picture of a run, under a title of its own if wanted."""

    def leave(self, picture: Picture) -> None:
        """Leave a picture in full quality."""

    def clear(self) -> None:
        """Leave nothing: what was shown is shown elsewhere."""


def screen_for(live: bool | str, text: str) -> Screen | None:
    """The screen that suits where this process runs.

    Args:
      live: True, False, or "auto": in notebooks and terminals, but not where output is captured.
      text: stands for the picture where none can be shown; the same in every frame, so that a
        notebook can be compared exactly.

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
    """A picture that is updated in its place, by display handle, and stays in the saved file.

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
    """One line on standard error, written over and over."""

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
    """Shows a picture on a screen, as often as it may.

    Args:
      picture: what is shown.
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
        """Draw what the picture has taken, unless the last frame was a moment ago."""
        self._news = self._news or any(event.event not in _BACKGROUND for event in events)
        if self._picture.begun and self._is_due():
            self._draw()

    def _is_due(self) -> bool:
        pause = self.pause if self._news else max(self.pause, IDLE_SECONDS)
        return self._frames == 0 or time.monotonic() - self._last >= pause

    @property
    def pause(self) -> float:
        """Seconds from the last frame to the next one."""
        earned = CREDIT_SECONDS + MOST_WORK * (self._last - self._began)
        return max(FRAME_SECONDS, (self._drawn_seconds - earned) / MOST_WORK)

    def _draw(self) -> None:
        began = time.thread_time()
        self._screen.show(self._picture)
        self._drawn_seconds += time.thread_time() - began
        self._frames += 1
        self._last = time.monotonic()
        self._news = False


class TakesEvents(Protocol):
    """What changes when something happens in a run."""

    def add(self, events: Iterable[Event]) -> None:
        """Take events."""


class EventFrames(Frames):
    """Draws a run on a screen while its events come, as often as it may.

    Args:
      picture: what is shown.
      run: takes the events.
      screen: where it is shown.
      events: what has happened already.
    """

    def __init__(
        self, picture: Drawn, run: TakesEvents, screen: Screen, events: Iterable[Event] = ()
    ):
        self._run = run
        self._run.add(events)
        super().__init__(picture, screen)

    def add(self, events: Iterable[Event]) -> None:
        """Take events, and draw them unless the last frame was a moment ago."""
        events = list(events)
        self._run.add(events)
        self.note(events)


class RunFrames(EventFrames):
    """Draws a single run; see `EventFrames`.

    Args:
      title: stands above the picture.
      screen: where it is shown.
      events: what has happened already.
    """

    def __init__(self, title: str, screen: Screen, events: Iterable[Event] = ()):
        run = LivePicture(title)
        super().__init__(run, run, screen, events)
