"""A picture of a run that goes on: drawn in milliseconds, however much has happened.

The full-quality timeline is matplotlib's work and takes a third of a second. This one is drawn five
times a second beside a running pipeline, so it keeps, for each lane, which pixels are loading,
resident, in use or evicted, adds new events to them, and paints only those.
"""

from __future__ import annotations

import io
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageColor, ImageDraw, ImageFont

from mmlab.plots import theme
from mmlab.plots.timeline import plural
from mmlab.trace.event import Event, Process

NS = 1e-9
WIDTH, LEFT, RIGHT = 950, 130, 105
HEAD, LANE, BAR, GAP = 62, 30, 18, 16
RESIDENCY, MEMORY, FOOT = 64, 84, 44
MOST_LANES = 40
FIRST_SPAN = 2.0
"""Seconds that the time axis spans at first; it grows by half whenever the run outgrows it."""
COUNTS = ("loads", "reloads", "evictions", "refreshes", "uses", "elements")
STATES = ("loading", "resident", "leaving", "used", "evicted", "refreshed")

_Lane = tuple[Process | None, str, str]


@dataclass
class _Intervals:
    """Begin and end of what one kind of state lasted, in seconds, with the lane it belongs to."""

    # Arrays of numbers, which numpy reads in place: a long run has a million of them.
    lane: array = field(default_factory=lambda: array("q"))
    begin: array = field(default_factory=lambda: array("d"))
    end: array = field(default_factory=lambda: array("d"))

    def add(self, lane: int, begin: float, end: float) -> None:
        self.lane.append(lane)
        self.begin.append(begin)
        self.end.append(end)


class _Curve:
    """A quantity over time, kept whole and drawn as its highest value in each pixel column."""

    def __init__(self) -> None:
        self._seconds, self._values = array("d"), array("d")
        self._highest_in: np.ndarray | None = None
        self._drawn = 0
        self.highest, self.last = 0, 0

    def add(self, seconds: float, value: int) -> None:
        self._seconds.append(seconds)
        self._values.append(value)
        self.highest, self.last = max(self.highest, value), value

    def rescale(self) -> None:
        self._highest_in, self._drawn = None, 0

    def points(self, columns: int, span: float) -> list[tuple[int, float]]:
        if self._highest_in is None:
            self._highest_in = np.zeros(columns)
        new = np.array(self._seconds[self._drawn :])
        column = np.minimum((new * columns / span).astype(np.int32), columns - 1)
        np.maximum.at(self._highest_in, column, np.array(self._values[self._drawn :]))
        self._drawn = len(self._seconds)
        return [(int(x), self._highest_in[x]) for x in np.flatnonzero(self._highest_in)]


class LivePicture:
    """Events in, frames out.

    Args:
      title: stands above the picture.
    """

    def __init__(self, title: str):
        self._title = title
        self._start_ns: int | None = None
        self._now = 0.0
        self._span = FIRST_SPAN
        self._lanes: dict[_Lane, int] = {}
        self._hints: set[int] = set()
        self._intervals = {state: _Intervals() for state in STATES}
        self._drawn = dict.fromkeys(STATES, 0)
        self._open: dict[tuple[str, _Lane, int], float] = {}
        self._limits: list[tuple[float, int]] = []
        self._rss: dict[Process, _Curve] = defaultdict(_Curve)
        self._counts = dict.fromkeys(COUNTS, 0)
        self._covers: dict[str, np.ndarray] = {}

    # Events

    def add(self, events: Iterable[Event]) -> None:
        """Take events, in any order that keeps each process's own."""
        for event in events:
            if self._start_ns is None:
                self._start_ns = event.t_ns
            self._now = max(self._now, self._seconds(event))
            handle = getattr(self, f"_{event.event}", None)
            if handle is not None:
                handle(event)

    def _seconds(self, event: Event) -> float:
        return (event.t_ns - self._start_ns) * NS

    def _run(self, event: Event) -> None:
        self._start_ns = event.t_ns
        for card in (event.info or {}).get("models", ()):
            self._lane((None, card["step"], card["model"]))
            if card.get("hint"):
                self._hints.add(card["hint"])

    def _lane(self, lane: _Lane) -> int:
        """The number of a lane; the first process to load a model takes the lane that waits."""
        if lane not in self._lanes:
            waiting = (None, *lane[1:])
            if waiting in self._lanes and lane[0] is not None:
                self._lanes[lane] = self._lanes.pop(waiting)
            else:
                self._lanes[lane] = max(self._lanes.values(), default=-1) + 1
                self._covers.clear()
        return self._lanes[lane]

    def _key(self, event: Event) -> _Lane:
        own = (event.process, event.step, event.model)
        if own in self._lanes:
            return own
        holder = (lane for lane in self._lanes if lane[1:] == own[1:] and lane[0] is not None)
        return next(holder, own) if event.event.startswith("use") else own

    def _begin(self, state: str, event: Event) -> None:
        lane = self._key(event)
        self._lane(lane)
        self._open[state, lane, self._mark(state, event)] = self._seconds(event)

    def _end_of(self, state: str, event: Event) -> bool:
        lane = self._key(event)
        begin = self._open.pop((state, lane, self._mark(state, event)), None)
        if begin is None:
            return False
        self._intervals[state].add(self._lane(lane), begin, self._seconds(event))
        return True

    @staticmethod
    def _mark(state: str, event: Event) -> int:
        return event.tid if state == "used" else event.generation or 1

    def _load_begin(self, event: Event) -> None:
        self._begin("loading", event)
        self._memory(event)

    def _load_end(self, event: Event) -> None:
        self._end_of("loading", event)
        self._begin("resident", event)
        self._counts["loads"] += 1
        self._counts["reloads"] += (event.generation or 1) > 1
        self._memory(event)

    def _load_fail(self, event: Event) -> None:
        self._end_of("loading", event)

    def _use_begin(self, event: Event) -> None:
        self._begin("used", event)
        self._counts["uses"] += 1
        self._counts["elements"] += event.n or 0

    def _use_end(self, event: Event) -> None:
        self._end_of("used", event)

    def _evict(self, event: Event) -> None:
        if self._end_of("resident", event):
            self._begin("leaving", event)
        now = self._seconds(event)
        self._intervals["evicted"].add(self._lane(self._key(event)), now, now)
        self._counts["evictions"] += 1
        self._memory(event)

    def _refresh(self, event: Event) -> None:
        now = self._seconds(event)
        self._intervals["refreshed"].add(self._lane(self._key(event)), now, now)
        self._counts["refreshes"] += 1

    def _free(self, event: Event) -> None:
        _ = self._end_of("leaving", event) or self._end_of("resident", event)

    def _limit(self, event: Event) -> None:
        if event.limit is not None:
            self._limits.append((self._seconds(event), event.limit))

    def _memory(self, event: Event) -> None:
        if event.rss is not None:
            self._rss[event.process].add(self._seconds(event), event.rss)

    # Frames

    def line(self) -> str:
        """The run in one line of text, for a terminal."""
        c, resident = self._counts, sum(1 for state, *_ in self._open if state == "resident")
        parts = [
            f"{self._now:5.1f} s",
            plural(c["elements"], "element"),
            plural(c["loads"], "load"),
            plural(c["evictions"], "eviction"),
            f"{resident} resident",
            f"RSS {self._rss_now():,.0f} MB",
        ]
        return " · ".join(parts)

    def image(self) -> Image.Image:
        """The frame, 950 pixels wide."""
        while self._now > self._span:
            self._span *= 1.5
            self._covers.clear()
            for curve in self._rss.values():
                curve.rescale()
        shown = sorted(self._lanes.items(), key=lambda item: item[1])[:MOST_LANES]
        covers = self._covered()
        lanes_height = max(len(shown), 1) * LANE
        height = HEAD + lanes_height + GAP + RESIDENCY + GAP + MEMORY + FOOT
        image = Image.new("RGB", (WIDTH, height), theme.PAPER)
        draw = ImageDraw.Draw(image)
        self._paint_header(draw)
        bottom = height - FOOT
        self._paint_axis(draw, HEAD, bottom)
        colours = theme.model_palette.colours(model for (_, _, model), _ in shown)
        for row, ((_, _, model), number) in enumerate(shown):
            top = HEAD + row * LANE + (LANE - BAR) // 2
            lane = {state: covers[state][number] for state in STATES}
            _paint_lane(image, top, lane, colours[model])
            _paint_marks(draw, top, lane["evicted"])
            _paint_refreshes(draw, top + BAR // 2, lane["refreshed"])
            draw.text((LEFT - 8, top + BAR / 2), _short(model), theme.INK, _font(12, True), "rm")
        top = HEAD + lanes_height + GAP
        self._paint_residency(draw, top, covers)
        self._paint_memory(draw, top + RESIDENCY + GAP)
        return image

    @property
    def _columns(self) -> int:
        return WIDTH - LEFT - RIGHT

    def _column(self, seconds: float) -> int:
        return min(int(seconds / self._span * self._columns), self._columns - 1)

    def _covered(self) -> dict[str, np.ndarray]:
        """Per state: which pixels of which lane it covers, shape (lanes, columns)."""
        shape = (max(self._lanes.values(), default=-1) + 1, self._columns + 1)
        if not self._covers:
            self._covers = {state: np.zeros(shape, np.int32) for state in STATES}
            self._drawn = dict.fromkeys(STATES, 0)
        for state, intervals in self._intervals.items():
            since = self._drawn[state]
            self._cover(self._covers[state], intervals, since)
            self._drawn[state] = len(intervals.lane)
        now = {state: _Intervals() for state in STATES}
        for (state, lane, _), begin in self._open.items():
            now[state].add(self._lanes[lane], begin, self._now)
        covered = {}
        for state in STATES:
            changes = self._covers[state]
            if now[state].lane:
                changes = changes.copy()
                self._cover(changes, now[state], 0)
            covered[state] = np.cumsum(changes[:, :-1], axis=1) > 0
        return covered

    def _cover(self, changes: np.ndarray, intervals: _Intervals, since: int) -> None:
        if since == len(intervals.lane):
            return
        lane = np.array(intervals.lane[since:])
        scale = self._columns / self._span
        begin = (np.array(intervals.begin[since:]) * scale).astype(np.int32)
        end = (np.array(intervals.end[since:]) * scale).astype(np.int32) + 1
        last = self._columns - 1
        np.add.at(changes, (lane, np.minimum(begin, last)), 1)
        np.add.at(changes, (lane, np.minimum(end, last + 1)), -1)

    def _paint_header(self, draw: ImageDraw.ImageDraw) -> None:
        c = self._counts
        parts = [
            "nothing has happened yet" if self._start_ns is None else f"running, {self._now:.1f} s",
            f"{plural(c['loads'], 'load')} ({plural(c['reloads'], 'reload')})",
            plural(c["evictions"], "eviction"),
            *([plural(c["refreshes"], "refresh", "refreshes")] if c["refreshes"] else []),
            f"{plural(c['elements'], 'element')} in {plural(c['uses'], 'batch', 'batches')}",
        ]
        draw.text((12, 8), _short(self._title, 70), theme.INK, _font(17, True))
        draw.text((12, 34), "   ·   ".join(parts), theme.INK, _font(13))

    def _paint_axis(self, draw: ImageDraw.ImageDraw, top: int, bottom: int) -> None:
        step = _nice(self._span / 6)
        for i in range(int(self._span / step) + 1):
            x = LEFT + i * step / self._span * self._columns
            draw.line([(x, top), (x, bottom)], theme.GRID)
            draw.text((x, bottom + 4), f"{i * step:g}", theme.INK, _font(12), "mt")
        middle = LEFT + self._columns / 2
        draw.text((middle, bottom + 22), "seconds", theme.INK, _font(12), "mt")

    def _paint_residency(
        self, draw: ImageDraw.ImageDraw, top: int, covers: dict[str, np.ndarray]
    ) -> None:
        held = (covers["resident"] | covers["leaving"]).sum(axis=0)
        limit = self._limits[-1][1] if self._limits else None
        hint = next(iter(self._hints)) if len(self._hints) == 1 else None
        most = max(int(held.max(initial=1)), limit or 1, hint or 1)
        bottom, unit = top + RESIDENCY, RESIDENCY / (most + 0.7)
        for column in np.flatnonzero(held):
            x = LEFT + int(column)
            draw.line([(x, bottom), (x, bottom - held[column] * unit)], theme.FILL)
        draw.line([(LEFT, bottom), (LEFT + self._columns, bottom)], theme.MUTED)
        for level in sorted({0, most}):
            y = bottom - level * unit
            draw.text((LEFT - 8, y), str(level), theme.INK, _font(12), "rm")
        draw.text((12, top + RESIDENCY / 2), "models\nresident", theme.INK, _font(12), "lm")
        if hint is not None and hint != limit:
            self._paint_level(draw, bottom - hint * unit, f"hint {hint}", theme.MUTED, 1)
        if limit is not None:
            text = f"hint = limit {limit}" if hint == limit else f"limit {limit}"
            self._paint_level(draw, bottom - limit * unit, text, theme.ALERT, 2)

    def _paint_level(
        self, draw: ImageDraw.ImageDraw, y: float, text: str, colour: str, width: int
    ) -> None:
        end = LEFT + self._columns
        draw.line([(LEFT, y), (end, y)], colour, width)
        draw.text((end + 6, y), text, theme.INK, _font(12), "lm")

    def _paint_memory(self, draw: ImageDraw.ImageDraw, top: int) -> None:
        bottom, end = top + MEMORY, LEFT + self._columns
        highest = max((curve.highest for curve in self._rss.values()), default=1)
        draw.line([(LEFT, bottom), (end, bottom)], theme.MUTED)
        for curve in self._rss.values():
            points = curve.points(self._columns, self._span)
            line = [(LEFT + x, bottom - rss / highest * (MEMORY - 14)) for x, rss in points]
            if len(line) > 1:
                draw.line(line, theme.INK, 2)
        draw.text((12, top + MEMORY / 2), "memory\nMB", theme.INK, _font(12), "lm")
        draw.text((LEFT - 8, bottom), "0", theme.INK, _font(12), "rm")
        if self._rss:
            draw.text((LEFT - 8, top + 14), f"{highest / 1e6:,.0f}", theme.INK, _font(12), "rm")
            now = f"RSS {self._rss_now():,.0f}"
            draw.text((end + 6, top + 14), now, theme.INK, _font(12), "lm")

    def _rss_now(self) -> float:
        """Megabytes, summed over the processes."""
        return sum(curve.last for curve in self._rss.values()) / 1e6


def png(image: Image.Image) -> bytes:
    """A frame as PNG, packed quickly rather than tightly."""
    buffer = io.BytesIO()
    image.save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


def _paint_marks(draw: ImageDraw.ImageDraw, top: int, evicted: np.ndarray) -> None:
    for column in np.unique(np.flatnonzero(evicted) // 6 * 6 + 3):
        x = LEFT + int(column)
        draw.polygon([(x - 4, top - 7), (x + 4, top - 7), (x, top - 1)], theme.INK)


def _paint_refreshes(draw: ImageDraw.ImageDraw, y: int, refreshed: np.ndarray) -> None:
    for column in np.unique(np.flatnonzero(refreshed) // 6 * 6 + 3):
        x = LEFT + int(column)
        diamond = [(x - 4, y), (x, y - 4), (x + 4, y), (x, y + 4)]
        draw.polygon(diamond, theme.PAPER, theme.INK)


def _paint_lane(
    image: Image.Image, top: int, covers: Mapping[str, np.ndarray], colour: str
) -> None:
    """Paint one lane: hatched while loading, pale resident, outlined leaving, full in use."""
    loading, resident, leaving, used = (
        covers[state] for state in ("loading", "resident", "leaving", "used")
    )
    columns = np.flatnonzero(loading | resident | leaving | used)
    if not len(columns):
        return
    first, last = columns[0], columns[-1] + 1
    y, x = np.mgrid[0 : BAR + 4, first:last]
    inside = (y >= 2) & (y < BAR + 2)
    edge = inside & ((y == 2) | (y == BAR + 1))
    box = (LEFT + int(first), top - 2)
    strip = np.array(image.crop((*box, LEFT + int(last), top + BAR + 2)))
    rgb = np.array(ImageColor.getrgb(colour))
    for cover, where, paint in (
        (leaving, edge & (x % 3 != 0), theme.INK),
        (resident, inside, theme.tint(colour, 0.3)),
        (resident, edge, colour),
        (loading, inside, theme.PAPER),
    ):
        strip[where & cover[first:last]] = ImageColor.getrgb(paint)
    strip[inside & (((x + y) % 6 < 2) | edge) & loading[first:last]] = rgb
    strip[used[first:last][None, :].repeat(BAR + 4, axis=0)] = ImageColor.getrgb(
        theme.shade(colour, 0.55)
    )
    image.paste(Image.fromarray(strip), box)


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    weight = "bold" if bold else "normal"
    path = font_manager.findfont(font_manager.FontProperties(theme.fonts(), weight=weight))
    return ImageFont.truetype(path, size)


def _nice(step: float) -> float:
    """The next of 1, 2 and 5 times a power of ten.

    >>> _nice(0.3), _nice(7)
    (0.5, 10.0)
    """
    power = 10.0 ** np.floor(np.log10(step))
    return float(next(n * power for n in (1, 2, 5, 10) if n * power >= step))


def _short(name: str, most: int = 15) -> str:
    name = "".join(c if c.isprintable() else "?" for c in name)
    return name if len(name) <= most else f"{name[: most - 6]}…{name[-5:]}"
