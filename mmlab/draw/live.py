"""The picture of a running pipeline: drawn in milliseconds, however long the run is.

It has the layout of the final timeline. Matplotlib needs a tenth of a second for the frame, so the
frame is drawn again only when it changes: when an axis is too short or a limit has changed. Events
are painted onto a copy of the frame. That takes a few milliseconds, in which the pipeline may have
to wait for Python's global interpreter lock. Each part of the state is read only once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from mmlab._text import in_megabytes, plural
from mmlab.draw import theme
from mmlab.draw.lanes import LABEL_POINTS, SMALL_POINTS, fitting, left_inches
from mmlab.draw.layout import (
    HEADLINE_INCHES,
    HEADLINE_POINTS,
    MEMORY_POINTS,
    TEXT_INCHES,
    TEXT_LEFT,
    TITLE_INCHES,
    TITLE_POINTS,
    Layout,
    draw_frame,
    headline,
    headline_parts,
    in_lines,
    is_flat,
    limit_lines,
    memory_words,
    unit_of,
)
from mmlab.draw.paint import (
    BAR,
    Canvas,
    Flags,
    Pen,
    canvas_of,
    number,
    paint_area,
    paint_counts,
    paint_lane,
    paint_outline,
)
from mmlab.draw.picture import PIXELS_PER_INCH, WIDTH_INCHES
from mmlab.draw.pixels import TimeAxis
from mmlab.draw.places import Place, lane_rows, place_of
from mmlab.draw.progress import STATES, LiveLane, Reader
from mmlab.draw.timeline import memory_limit, memory_top, memory_words_inches
from mmlab.events import Event, Refreshes, RunBegins
from mmlab.state import NS, State

_ABOVE, _BELOW, _BESIDE = BAR // 2 + 7, BAR // 2 + 6, 8
"""Pixels painted above and below the middle of a lane, and left of the begin of the time axis."""
_FIRST_SPAN = 2.0
"""Initial length of the time axis, seconds; it grows by half when the run gets longer."""


class LivePicture:
    """Turns events into frames.

    Args:
      title: first line of the picture.
    """

    def __init__(self, title: str):
        self._title = fitting(title, TEXT_INCHES, TITLE_POINTS, bold=True)
        self._state = State()
        self._reader = Reader(self._state)
        self._background: _Background | None = None

    @property
    def state(self) -> State:
        """State of the run so far."""
        return self._state

    @property
    def begun(self) -> bool:
        """Whether the lanes of the run are known, on which the layout of frames depends."""
        states = self._state.processes.values()
        return any(state.of(RunBegins) or state.loads or state.asked for state in states)

    def add(self, events: Iterable[Event]) -> None:
        """Add events. Events of one process must be in order; processes may interleave."""
        self._state.add(events)

    @property
    def _seconds(self) -> float:
        return (self._state.end_ns - self._state.start_ns) * NS

    def line(self) -> str:
        """Describe the run in one line of text, for a terminal."""
        counts, memory = self._state.counts, self._state.memory
        parts = [
            f"{self._seconds:5.1f} s",
            plural(counts.elements, "element"),
            plural(counts.loads, "load"),
            plural(counts.evictions, "eviction"),
            f"{self._state.held_now} resident",
        ]
        if memory.rss is not None:  # unknown before the first sample
            several = f" (highest of {memory.processes} processes)" if memory.processes > 1 else ""
            parts.append(f"RSS {in_megabytes(memory.rss)}{several}")
        return " · ".join(parts)

    def image(self) -> Image.Image:
        """Draw the frame, 950 pixels wide, as a palette image; only words before the run begins."""
        if not self.begun:
            return words_alone(self._title, "starting …")
        self._reader.read()
        lanes = self._reader.lanes()
        background = self._fitting_background(lanes)
        canvas = background.canvas.copy()
        self._paint_lanes(canvas, background, lanes)
        self._paint_models(canvas, background)
        self._paint_model_bytes(canvas, background)
        pen = Pen(canvas)
        self._write(pen, background, lanes)
        return pen.finished()

    # The frame

    def _fitting_background(self, lanes: Sequence[LiveLane]) -> _Background:
        layout = self._layout(lanes)
        if self._background is None or self._background.layout != layout:
            with theme.style():
                self._background = _Background.of(layout)
        return self._background

    def _layout(self, lanes: Sequence[LiveLane]) -> Layout:
        state, old = self._state, self._background.layout if self._background else None
        limit = memory_limit(state)
        highest = max(self._reader.highest_memory, limit[1] if limit else 0)
        left = left_inches(lane.label for lane in lanes)
        seconds = grown(old.seconds if old else _FIRST_SPAN, self._seconds)
        unit = unit_of(highest)
        words = self._memory_words(left, unit)
        flat = is_flat(self._reader.most_machine_bytes, highest)
        memory = memory_top(highest, len(words), limited=limit is not None, flat=flat)
        return Layout(
            title=self._title,
            lanes=len(lanes),
            left_inches=left,
            seconds=seconds,
            most_models=self._reader.most_models,
            limits=limit_lines(state),
            memory=roof(memory),
            unit=unit,
            memory_limit=limit,
            already=state.counts.already > 0,
            failed=state.counts.failed > 0,
            timed_out=len(state.timeouts) > 0,
            refreshes=bool(state.facts(Refreshes)),
            late=self._reader.leaves_late(seconds),
            flat=flat,
        )

    def _memory_words(self, left: float, unit: float) -> list[str]:
        memory = self._state.memory
        held = [load for of in self._state.processes.values() for load in of.open.values()]
        words = memory_words(
            peak=memory.peak_rss, now=memory.rss, when="now", device=memory.device_bytes,
            models=self._reader.most_machine_bytes, unit=unit, several=memory.processes > 1,
            how=sorted({load.sized_by for load in held if isinstance(load.bytes, int)}),
        )  # fmt: skip
        return in_lines(words, " · ", memory_words_inches(left), MEMORY_POINTS)

    # Painting

    def _paint_lanes(
        self, canvas: Canvas, background: _Background, lanes: Sequence[LiveLane]
    ) -> None:
        covers = self._reader.covers(background.axis)
        colours = theme.model_palette.colours(lane.model for lane in lanes if not lane.others)
        for lane, middle in zip(lanes, background.lane_rows, strict=True):
            if lane.numbers:
                colour = theme.OTHERS if lane.others else colours[lane.model]
                self._paint_lane(canvas, background, middle, cover_of(covers, lane), colour)

    def _paint_lane(
        self, canvas: Canvas, background: _Background, middle: int, covers: dict[str, Flags],
        colour: str,
    ) -> None:  # fmt: skip
        """Paint a lane, reusing its pixels from the last frame if nothing is new, as in most."""
        looks = (colour, b"".join(flags.tobytes() for flags in covers.values()))
        strip = canvas[middle - _ABOVE : middle + _BELOW, background.left - _BESIDE :]
        before = background.painted.get(middle)
        if before is not None and before[0] == looks:
            strip[:] = before[1]
            return
        paint_lane(canvas, middle, background.left, covers, colour)
        background.painted[middle] = looks, strip.copy()

    def _paint_models(self, canvas: Canvas, background: _Background) -> None:
        """Paint the models held by each process; with one process, also models being loaded."""
        place, now = background.models, background.axis.place(self._seconds)
        curves = self._reader.held_curves()
        area, free = place.area(canvas), place.free
        for held, both in curves:
            heights, reach = (place.heights(each.in_columns(background.axis), now)
                              for each in (held, both))  # fmt: skip
            if len(curves) == 1:
                paint_counts(area, free, heights, reach)
            else:
                paint_outline(area, free, heights)

    def _paint_model_bytes(self, canvas: Canvas, background: _Background) -> None:
        place, now = background.memory, background.axis.place(self._seconds)
        for level in self._reader.machine_bytes.values():
            held = level.curve.in_columns(background.axis)
            paint_area(place.area(canvas), place.free, place.heights(held, now))

    def _write(self, pen: Pen, background: _Background, lanes: Sequence[LiveLane]) -> None:
        place, axis = background.memory, background.axis
        for curve, dashed in self._reader.memory_curves():
            points = place.points(curve.in_columns(axis))
            if len(points) > 1:
                pen.line(points, width=2, dashed=dashed)
        for lane, middle in zip(lanes, background.lane_rows, strict=True):
            write_label(pen, background.left - 5, middle, lane)
        lines = self._memory_words(background.layout.left_inches, background.layout.unit)
        for i, text in enumerate(lines):
            at = (background.left + 6, place.top + 6 + 15 * i)
            width = 7 * len(text)
            pen.clear((at[0] - 2, at[1] - 2, min(at[0] + width, background.right), at[1] + 13))
            pen.write(at, text, MEMORY_POINTS, "la")
        self._write_headline(pen)

    def _write_headline(self, pen: Pen) -> None:
        parts = [*headline_parts(self._state), f"{self._seconds:.1f} s so far"]
        write_headline(pen, *headline(parts))


def words_alone(title: str, words: str) -> Image.Image:
    """Draw the image that is shown before a run begins."""
    size = round(WIDTH_INCHES * PIXELS_PER_INCH)
    pen = Pen(np.full((64, size), number(theme.PAPER), np.uint8))
    left = TEXT_LEFT * PIXELS_PER_INCH
    pen.write((left, TITLE_INCHES * PIXELS_PER_INCH), title, TITLE_POINTS, "la", bold=True)
    write_headline(pen, words, HEADLINE_POINTS)
    return pen.finished()


def write_headline(pen: Pen, line: str, points: float) -> None:
    """Write the second line of the header."""
    x, y = TEXT_LEFT * PIXELS_PER_INCH, HEADLINE_INCHES * PIXELS_PER_INCH
    for word in line.split(" "):  # one by one: most words are cached, as they seldom change
        if word:
            x += pen.write((x, y), word, points, "la")
        x += 5


def write_label(
    pen: Pen, right: int, middle: int, lane: LiveLane, points: float = LABEL_POINTS
) -> None:
    """Write the label of a lane, at most `points` large."""
    lines = lane.label.split("\n")
    size = points if len(lines) == 1 else min(points, SMALL_POINTS)
    for i, text in enumerate(lines):
        at = (right, middle + 13 * (i - (len(lines) - 1) / 2))
        pen.write(at, text, size, "rm", bold=bool(lane.numbers), muted=not lane.numbers)


def cover_of(covers: dict[str, Flags], lane: LiveLane) -> dict[str, Flags]:
    """Return the columns that each state covers in one lane."""
    return {state: _any_of(covers[state], lane.numbers) for state in STATES}


def _any_of(cover: Flags, lanes: Sequence[int]) -> Flags:
    one = len(lanes) == 1
    flags: Flags = cover[lanes[0]] if one else np.logical_or.reduce(cover[list(lanes)], axis=0)
    return flags


def grown(seconds: float, now: float) -> float:
    """Return the length of the time axis: `seconds`, extended by half until it reaches `now`."""
    while now > seconds:
        seconds *= 1.5
    return seconds


def roof(value: float) -> float:
    """Round up to one of a few round numbers, so that an axis seldom changes.

    >>> roof(130e6), roof(0)
    (160000000.0, 0.0)
    """
    if value <= 0:
        return 0.0
    power = 10.0 ** np.floor(np.log10(value))
    steps = (1, 1.25, 1.6, 2, 2.5, 3.2, 4, 5, 6.4, 8, 10)
    return float(next(step * power for step in steps if step * power >= value * (1 - 1e-9)))


# Geometry


@dataclass(frozen=True)
class _Background:
    """A frame on a canvas, and the places of its axes."""

    layout: Layout
    canvas: Canvas
    axis: TimeAxis
    left: int
    lane_rows: tuple[int, ...]
    models: Place
    memory: Place
    painted: dict[int, tuple[object, Canvas]] = field(default_factory=dict)
    """Maps the row of a lane to its state and pixels in the last frame."""

    @property
    def right(self) -> int:
        return self.left + self.axis.columns

    @classmethod
    def of(cls, layout: Layout) -> _Background:
        frame = draw_frame(layout)
        canvas = canvas_of(frame.figure)
        box = frame.lanes.get_window_extent()
        left, right = round(box.x0), round(box.x1)
        return cls(
            layout=layout,
            canvas=canvas,
            axis=TimeAxis(right - left, layout.seconds),
            left=left,
            lane_rows=lane_rows(frame.lanes, canvas, layout.lanes),
            models=place_of(frame.models, canvas, unit=1),
            memory=place_of(frame.memory, canvas, unit=layout.unit),
        )
