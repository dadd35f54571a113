"""Shows a run while it goes on: a picture under the running cell, or one line in a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from mmlab.plots.live import LivePicture, png
from mmlab.trace import Trace
from mmlab.trace.log import LogReader

FRAME_SECONDS = 0.2
MOST_WORK = 0.05
"""Share of the time that drawing may take; slower frames come less often."""


def live_view(live: bool | str, folder: str, title: str) -> LiveView | None:
    """The view that suits where this process runs.

    Args:
      live: True, False, or "auto": in notebooks and terminals, but not where output is captured.
      folder: the run's log folder.
      title: stands above the picture.

    """
    if live is False:
        return None
    if _in_notebook():
        return LiveView(folder, title, _NotebookPicture(title))
    if live is True or sys.stderr.isatty():
        return LiveView(folder, title, _TerminalLine())
    return None


class LiveView:
    """Follows a log folder from a thread and shows what it holds. Its thread never raises."""

    def __init__(self, folder: str, title: str, screen: _NotebookPicture | _TerminalLine):
        self._reader = LogReader(folder)
        self._picture = LivePicture(title)
        self._screen = screen
        self._stop = threading.Event()
        self._screen.show(self._picture)
        self._thread = threading.Thread(target=self._follow, name="mmlab-live", daemon=True)
        self._thread.start()

    def finish(self, trace: Callable[[], Trace]) -> None:
        """End the thread and leave the last, full-quality picture."""
        self._stop.set()
        self._thread.join()
        self._quietly(lambda: self._screen.finish(self._picture, trace()))

    def _follow(self) -> None:
        least = max(FRAME_SECONDS, self._reader.pause)
        pause = least
        while not self._stop.wait(pause):
            began = time.thread_time()
            if not self._quietly(self._frame):
                return
            pause = max(least, (time.thread_time() - began) / MOST_WORK)

    def _frame(self) -> None:
        events = self._reader.poll()
        if events:
            self._picture.add(events)
            self._screen.show(self._picture)

    @staticmethod
    def _quietly(work: Callable[[], None]) -> bool:
        # The view looks on: whatever goes wrong with it, the pipeline goes on.
        try:
            work()
        except Exception:
            return False
        return True


class _NotebookPicture:
    """A picture that is updated in its place, by display handle, and stays in the saved file.

    Its words are the same in every frame, so that a notebook can be compared exactly; the words of
    `trace.timeline()` say more.
    """

    def __init__(self, title: str):
        self._text = f"Timeline of {title}, drawn while it ran"
        self._handle: Any = None

    def show(self, picture: LivePicture) -> None:
        image = picture.image()
        self._put(png(image), {"width": image.width, "height": image.height})

    def finish(self, picture: LivePicture, trace: Trace) -> None:
        data, metadata = trace.timeline()._repr_mimebundle_()
        self._put(data["image/png"], metadata["image/png"])

    def _put(self, png: bytes, size: dict[str, int]) -> None:
        from IPython.display import display

        data, metadata = {"image/png": png, "text/plain": self._text}, {"image/png": size}
        if self._handle is None:
            self._handle = display(data, raw=True, metadata=metadata, display_id=True)
        else:
            self._handle.update(data, raw=True, metadata=metadata)


class _TerminalLine:
    """One line on standard error, written over and over."""

    def show(self, picture: LivePicture) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{picture.line()}")
            sys.stderr.flush()

    def finish(self, picture: LivePicture, trace: Trace) -> None:
        over = "\r\x1b[K" if sys.stderr.isatty() else ""
        sys.stderr.write(f"{over}{trace!r}\n")
        sys.stderr.flush()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
