"""The live picture of several runs on one screen.

It has the layout of the final comparison, and is painted like the live picture of a single run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mmlab._text import named
from mmlab.draw import theme
from mmlab.draw.comparison import (
    KEY_POINTS,
    LABEL_OF_RUN_POINTS,
    SIDE_INCHES,
    Block,
    Grid,
    GridLayout,
    arrange,
    beside_label,
    draw_grid,
    fitting_words,
    label_of,
    memory_key,
)
from mmlab.draw.lanes import fitting, left_inches
from mmlab.draw.layout import HEADLINE_POINTS, TITLE_INCHES, count_words
from mmlab.draw.live import (
    cover_of,
    grown,
    roof,
    words_alone,
    write_headline,
    write_label,
)
from mmlab.draw.paint import Canvas, Pen, canvas_of, number, paint_area, paint_lane
from mmlab.draw.pixels import TimeAxis
from mmlab.draw.places import Place, lane_rows, place_of
from mmlab.draw.progress import LiveLane, Reader
from mmlab.draw.sheets import NOTEBOOK, Sheet
from mmlab.draw.timeline import memory_limit
from mmlab.state import NS, State

REMARK = "the runs share the machine: compare their loads, not their seconds"
SHORT_REMARK = "compare loads, not seconds"
_FIRST_SPAN = 8.0
"""Initial length of the time axes, seconds; long, as one new frame costs as much as ten others."""
_POINTS = 9.5
_LINE_INCHES = 0.22
"""Distance of lines of words above a run."""


class RacePicture:
    """Draws the growing states of several runs.

    Args:
      title: first line of the picture.
      labels: one for each run.
      states: states of the runs; empty for runs that have not begun.
      remark: text beside the clock.
      one_clock: whether all time axes have the same origin; if not, each run begins at 0.
      sheet: sizes of the picture.
    """

    def __init__(
        self,
        title: str,
        labels: Sequence[str],
        states: Sequence[State],
        *,
        remark: str = REMARK,
        one_clock: bool = True,
        sheet: Sheet = NOTEBOOK,
    ):
        self._title = fitting(title, sheet.text_width, sheet.title_points, bold=True)
        self._remark = remark
        self._one_clock = one_clock
        self._sheet = sheet
        self._labels = [named(label) for label in labels]
        self._states = states
        self._readers = [Reader(state) for state in states]
        self._problems: dict[int, str | None] = {}
        self._waiting: set[int] = set()
        self._background: _Background | None = None

    @property
    def begun(self) -> bool:
        """Whether the models of any run are known."""
        return any(state.models for state in self._states)

    def wait(self, places: Sequence[int]) -> None:
        """Mark only these runs as waiting for free memory."""
        self._waiting = set(places)

    def end(self, place: int, problem: str | None) -> None:
        """Record the end of a run, and why it failed (None if it succeeded)."""
        self._problems[place] = problem

    def _late_ns(self, state: State) -> int:
        """Nanoseconds from the start of the clock to the start of a run."""
        if not self._one_clock:
            return 0
        return state.start_ns - min(each.start_ns for each in self._states if each.processes)

    @property
    def _seconds(self) -> float:
        ends = [
            state.end_ns - state.start_ns + self._late_ns(state)
            for state in self._states
            if state.processes
        ]
        return max(ends) * NS if ends else 0.0

    def line(self) -> str:
        """Describe the runs in one line of text, for a terminal."""
        runs = [f"{label}: {self._words_of(place)[0]}" for place, label in enumerate(self._labels)]
        return " · ".join([f"{self._seconds:5.1f} s", *runs])

    def _words_of(self, place: int) -> list[str]:
        """Describe the progress of a run, the most important words first."""
        problem = self._problems.get(place)
        if problem is not None:
            return [problem]
        state = self._states[place]
        if not state.processes:
            return ["waits for memory" if place in self._waiting else "waits to start"]
        return count_words(state.counts)

    def _clock_of(self, place: int) -> str:
        """Seconds of a run, and whether it is still running."""
        state = self._states[place]
        if not state.processes:
            return ""
        seconds = f"{(state.end_ns - state.start_ns) * NS:.1f} s"
        if place not in self._problems:
            return seconds
        return f"{seconds}, {'done' if self._problems[place] is None else 'failed'}"

    def image(self) -> Image.Image:
        """Draw the frame; only words before the first run begins."""
        if not self.begun:
            return words_alone(self._title, "starting fresh processes …")
        for reader in self._readers:
            reader.read()
        background = self._fitting_background()
        lanes = [reader.lanes(background.layout.grid.most_lanes) for reader in self._readers]
        longest = max(lanes, key=len)
        idle = [LiveLane(lane.model, lane.label) for lane in longest]
        shown = [mine or idle for mine in lanes]
        canvas = background.canvas.copy()
        axes = [self._axis(place, background) for place in range(len(shown))]
        for place, mine in enumerate(shown):
            self._paint_run(canvas, background.runs[place], place, mine, axes[place])
        pen = Pen(canvas, self._sheet.pixels_per_inch)
        if self._sheet.explains:
            key = background.runs[0].memory
            pen.write((key.left + 6, key.top + 3), memory_key(background.layout), KEY_POINTS, "la")
        for place, mine in enumerate(shown):
            self._write_run(pen, background, place, mine, axes[place])
        self._write_headline(pen)
        return pen.finished()

    def _write_headline(self, pen: Pen) -> None:
        sheet = self._sheet
        words = "   ·   ".join(filter(None, [f"{self._seconds:.1f} s", self._remark]))
        if sheet.explains:
            write_headline(pen, words, HEADLINE_POINTS)
            return
        at = (sheet.pixels(sheet.width - 0.1), sheet.pixels(TITLE_INCHES))
        pen.write(at, words, sheet.words_points, "ra")

    def _axis(self, place: int, background: _Background) -> TimeAxis:
        """Time axis of a run, shifted if the run began after the common clock."""
        state, width = self._states[place], background.runs[place].memory
        late = self._late_ns(state) * NS if state.processes else 0.0
        return TimeAxis(width.right - width.left, background.layout.seconds, -late)

    def _fitting_background(self) -> _Background:
        layout = self._layout()
        if self._background is None or self._background.layout != layout:
            with theme.style():
                self._background = _Background.of(layout)
        return self._background

    def _layout(self) -> GridLayout:
        old = self._background.layout if self._background else None
        lanes = [reader.lanes() for reader in self._readers]
        most = max(map(len, lanes))
        grid = arrange([most] * len(lanes), self._sheet)
        shown = [reader.lanes(grid.most_lanes) for reader in self._readers]
        most = max(map(len, shown))
        limits = [memory_limit(state) for state in self._states]
        highest = max([1, *(reader.highest_memory for reader in self._readers)]
                      + [limit[1] for limit in limits if limit])  # fmt: skip
        return GridLayout(
            title=self._title,
            words=(),
            grid=grid,
            blocks=tuple(
                Block(label, most, limit) for label, limit in zip(self._labels, limits, strict=True)
            ),
            left_inches=left_inches(lane.label for mine in shown for lane in mine),
            seconds=grown(old.seconds if old else _FIRST_SPAN, self._seconds),
            memory=_memory_top(highest * self._sheet.memory_room, old.memory if old else 0.0),
            since=f"seconds since the {'first ' if self._one_clock else ''}pipeline was submitted",
            ends=True,
        )

    def _paint_run(
        self, canvas: Canvas, place: _RunPlace, run: int, lanes: Sequence[LiveLane], axis: TimeAxis
    ) -> None:
        state, reader = self._states[run], self._readers[run]
        if not state.processes:
            return
        covers = reader.covers(axis)
        colours = theme.model_palette.colours(lane.model for lane in lanes if not lane.others)
        left = place.memory.left
        for lane, middle in zip(lanes, place.lane_rows, strict=False):
            if lane.numbers:
                colour = theme.OTHERS if lane.others else colours[lane.model]
                paint_lane(canvas, middle, left, cover_of(covers, lane), colour, place.bar)
        now = axis.place((state.end_ns - state.start_ns) * NS)
        for level in reader.machine_bytes.values():
            held = level.curve.in_columns(axis)
            paint_area(
                place.memory.area(canvas), place.memory.free, place.memory.heights(held, now)
            )
        if run in self._problems:
            well = self._problems[run] is None
            rows = canvas[place.lanes.top : place.memory.foot, left + int(now)]
            rows[:: 3 if well else 1] = number(theme.MUTED if well else theme.ALERT)

    def _write_run(
        self, pen: Pen, background: _Background, run: int, lanes: Sequence[LiveLane], axis: TimeAxis
    ) -> None:
        place, layout, state = background.runs[run], background.layout, self._states[run]
        if state.processes:
            for curve, dashed in self._readers[run].memory_curves():
                points = place.memory.points(curve.in_columns(axis))
                if len(points) > 1:
                    pen.line(points, width=2, dashed=dashed)
        for lane, middle in zip(lanes, place.lane_rows, strict=False):
            write_label(pen, place.memory.left - 5, middle, lane, layout.points)
        x, y = place.lanes.left, place.lanes.top - 6
        above = y if layout.grid.columns == 1 else y - self._sheet.pixels(_LINE_INCHES)
        label = label_of(layout.blocks[run], layout)
        pen.write((x, above), label, LABEL_OF_RUN_POINTS, "ls", bold=True)
        words, clock = self._words_of(run), self._clock_of(run)
        beside = self._sheet.pixels(beside_label(layout.blocks[run], layout) / 72)
        if layout.grid.columns == 1:
            words, room = [*words, clock] if clock else words, layout.axes_inches
            pen.write(
                (x + beside, y),
                fitting_words(words, room - beside / self._sheet.pixels_per_inch),
                _POINTS,
                "ls",
            )
            return
        pen.write((x + beside, above), clock, _POINTS, "ls")
        pen.write((x, y), fitting_words(words, layout.axes_inches), _POINTS, "ls")


@dataclass(frozen=True)
class _RunPlace:
    """The place of a run on the canvas; `bar` is the height of a bar in pixels."""

    lanes: Place
    memory: Place
    lane_rows: tuple[int, ...]
    bar: int

    def moved(self, down: int, right: int) -> _RunPlace:
        """Return the same place, shifted on the canvas."""
        return _RunPlace(
            self.lanes.moved(down, right),
            self.memory.moved(down, right),
            tuple(row + down for row in self.lane_rows),
            self.bar,
        )


@dataclass(frozen=True)
class _Background:
    """A frame on a canvas, and the places of the runs."""

    layout: GridLayout
    canvas: Canvas
    runs: tuple[_RunPlace, ...]

    @classmethod
    def of(cls, layout: GridLayout) -> _Background:
        """Draw one run of the lowest row with matplotlib, and copy its pixels to the other places.

        Without events all runs look the same, and matplotlib needs a tenth of a second for each.
        """
        grid, n = layout.grid, len(layout.blocks)
        first = (n - 1) // grid.columns * grid.columns
        figure, places = draw_grid(layout, [first])
        axes = places[first]
        canvas = canvas_of(figure, grid.sheet.pixels_per_inch)
        drawn = _RunPlace(
            place_of(axes.lanes, canvas, unit=1),
            place_of(axes.memory, canvas, unit=layout.unit),
            lane_rows(axes.lanes, canvas, layout.blocks[first].lanes),
            _bar_pixels(grid),
        )
        ticks = grid.sheet.pixels(0.44 if grid.sheet.explains else 0.2)
        places_of_runs = []
        for run in range(n):
            down, right = _offset(layout, first, run)
            below = ticks if grid.is_lowest(run, n) else 2
            left = drawn.lanes.left
            for rows, columns in (
                (slice(drawn.lanes.top - 2, drawn.memory.foot + 12),
                 slice(left - _left_pixels(layout), left - 5)),
                (slice(drawn.lanes.top - 2, drawn.memory.foot + below),
                 slice(left - 5, drawn.lanes.right + 11)),
            ):  # fmt: skip
                canvas[_moved(rows, down), _moved(columns, right)] = canvas[rows, columns]
            places_of_runs.append(drawn.moved(down, right))
        return cls(layout, canvas, tuple(places_of_runs))


def _offset(layout: GridLayout, first: int, run: int) -> tuple[int, int]:
    """Offset of a run from a run in the first column, in pixels: down and right."""
    grid = layout.grid
    row = grid.rows([block.lanes for block in layout.blocks])[0] + grid.memory + grid.block
    down, right = (run - first) // grid.columns, run % grid.columns
    return (
        grid.sheet.pixels(down * row),
        grid.sheet.pixels(right * (grid.sheet.width - SIDE_INCHES) / grid.columns),
    )


def _left_pixels(layout: GridLayout) -> int:
    """Width of the labels to the left of a run's axes."""
    return layout.grid.sheet.pixels(layout.left_inches) - 2


def _moved(pixels: slice, by: int) -> slice:
    return slice(pixels.start + by, pixels.stop + by)


def _memory_top(needed: float, before: float) -> float:
    """Upper end of the memory axes: unchanged, or extended by half if it is too low."""
    return before if needed <= before else roof(needed * 1.5)


def _bar_pixels(grid: Grid) -> int:
    """Height of a bar in pixels: an even number, as `paint_lane` requires."""
    return int(np.clip(round(grid.sheet.pixels(grid.lane) * 0.31) * 2, 4, 22))
