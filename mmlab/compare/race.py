"""Simultaneous runs, drawn in one picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mmlab.compare.comparison import line_of
from mmlab.draw.race import REMARK, SHORT_REMARK, RacePicture
from mmlab.draw.sheets import NOTEBOOK, Sheet
from mmlab.events import Event
from mmlab.fresh.outcome import RunOutcome
from mmlab.fresh.process import FreshRun
from mmlab.fresh.together import Together
from mmlab.watching.follow import quietly
from mmlab.watching.screens import Frames, Screen


class Race:
    """Simultaneous runs, as many as fit into the free memory.

    Args:
      title: first line of the picture.
      labels: names of the runs.
      starts: functions that start the runs, in the order of the labels.
      screen: screen for the picture, or None.
      on_events: callback with the index of a run and its new events.
      on_end: callback with the index of a run and its outcome.
      estimate: see `Together`.
      sheet: sizes of the picture.
    """

    def __init__(
        self,
        title: str,
        labels: Sequence[str],
        starts: Sequence[Callable[[], FreshRun]],
        screen: Screen | None,
        on_events: Callable[[int, list[Event]], None] = lambda place, events: None,
        on_end: Callable[[int, RunOutcome], None] = lambda place, outcome: None,
        estimate: int | None = None,
        sheet: Sheet = NOTEBOOK,
    ):
        self._on_events = on_events
        self._on_end = on_end
        self._together = Together(starts, self._take, self._end, estimate)
        self._picture = RacePicture(
            title, labels, self._together.states,
            remark=REMARK if sheet.explains else SHORT_REMARK, sheet=sheet,
        )  # fmt: skip
        self._screen = screen
        self._frames: Frames | None = None
        self._note = quietly(self._draw)

    def run(self) -> dict[int, RunOutcome]:
        """Run all and wait; see `Together.run`."""
        self._note([])
        return self._together.run()

    def stop(self) -> None:
        """Stop all runs, from any thread; their events are kept."""
        self._together.stop()

    def _take(self, place: int, events: list[Event]) -> None:
        self._note(events)
        self._on_events(place, events)

    def _end(self, place: int, outcome: RunOutcome) -> None:
        self._picture.end(place, None if outcome.succeeded else line_of(outcome))
        self._on_end(place, outcome)

    def _draw(self, events: list[Event]) -> None:
        if self._screen is None:
            return
        known = self._together.need is not None
        self._picture.wait(self._together.waiting if known else ())
        if self._frames is None:
            self._frames = Frames(self._picture, self._screen)
        self._frames.note(events)
