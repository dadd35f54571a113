"""Show a run of this process live, from a thread that reads its log."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mmlab._faults import survived
from mmlab.log.reader import LogReader
from mmlab.trace import Trace
from mmlab.watching.screens import DRAW, LEAVE_PICTURE, RunFrames, Screen


class LiveView:
    """Reads a log folder in a thread and shows the run. The thread never raises.

    Args:
      folder: the run's log folder.
      title: title of the picture.
      screen: where it is shown.
    """

    def __init__(self, folder: str, title: str, screen: Screen):
        self._reader = LogReader(folder)
        self._screen = screen
        self._frames: RunFrames | None = None
        self._begin(title)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mmlab-live", daemon=True)
        self._thread.start()

    def finish(self, trace: Callable[[], Trace]) -> None:
        """End the thread and show the final, full-quality picture."""
        self._stop.set()
        self._thread.join()
        with survived(LEAVE_PICTURE):
            self._screen.finish(trace())

    def _begin(self, title: str) -> None:
        with survived(DRAW):
            self._frames = RunFrames(title, self._screen, self._reader.poll())

    def _follow(self) -> None:
        frames = self._frames
        if frames is None:
            return
        with survived(DRAW):  # after an error, stop drawing
            while not self._stop.wait(max(frames.pause, self._reader.pause)):
                self._frame(frames)

    def _frame(self, frames: RunFrames) -> None:
        if events := self._reader.poll():
            frames.add(events)
