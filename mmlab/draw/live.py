"""A picture of a run that goes on: drawn in milliseconds, however much has happened.

The full-quality timeline is matplotlib's work and takes a third of a second. This one is drawn five
times a second beside a running pipeline, which waits for Python's lock meanwhile. So it keeps, for
each lane, which pixels are loading, resident, in use or evicted, and adds new events to them; it
paints numbers of colours, a byte a pixel, a lane at a time; and it draws each word only once.
"""

from __future__ import annotations

import io
from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageColor, ImageDraw, ImageFont

from mmlab import fonts
from mmlab._text import columns, head, named, plural
from mmlab.draw import theme
from mmlab.events import Event, Process

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
        self._work: dict[int, int] = defaultdict(int)

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
        for model in event.info.models:
            self._lane((None, model.step, model.model))
            if isinstance(model.hint, int):
                self._hints.add(model.hint)

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
        self._work[self._lane(self._key(event))] += 1
        self._begin("resident", event)
        self._counts["loads"] += 1
        self._counts["reloads"] += (event.generation or 1) > 1
        self._memory(event)

    def _load_fail(self, event: Event) -> None:
        self._end_of("loading", event)

    def _use_begin(self, event: Event) -> None:
        self._begin("used", event)
        self._work[self._lane(self._key(event))] += 1
        self._counts["uses"] += 1
        self._counts["elements"] += event.n

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
        if isinstance(event.limit, int):
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
        """The frame, 950 pixels wide, in the colours of a palette."""
        while self._now > self._span:
            self._span *= 1.5
            self._covers.clear()
            for curve in self._rss.values():
                curve.rescale()
        shown, others = self._busiest()
        covers = self._covered()
        lanes_height = max(len(shown) + bool(others), 1) * LANE
        residency = HEAD + lanes_height + GAP
        memory = residency + RESIDENCY + GAP
        canvas = np.full((memory + MEMORY + FOOT, WIDTH), _number(theme.PAPER), np.uint8)
        ticks = self._ticks()
        canvas[HEAD : memory + MEMORY, list(ticks)] = _number(theme.GRID)
        colours = theme.model_palette.colours(model for (_, _, model), _ in shown)
        for row, ((_, _, model), number) in enumerate(shown):
            lane = {state: covers[state][number] for state in STATES}
            _paint_lane(canvas, _bar_top(row), lane, colours[model])
        if others:
            lane = {state: covers[state][others].any(axis=0) for state in STATES}
            _paint_lane(canvas, _bar_top(len(shown)), lane, theme.OTHERS)
        held = covers["resident"] | covers["leaving"]
        held, both = held.sum(axis=0), (held | _inner(covers["loading"])).sum(axis=0)
        self._paint_residency(canvas, residency, held, both)
        pen = _Pen(canvas)
        self._write_header(pen)
        for row, ((_, _, model), _) in enumerate(shown):
            pen.write((LEFT - 8, _bar_top(row) + BAR / 2), _label(model), 12, "rm", bold=True)
        if others:
            at = (LEFT - 8, _bar_top(len(shown)) + BAR / 2)
            pen.write(at, plural(len(others), "other"), 12, "rm")
        self._write_residency(pen, residency, both)
        self._draw_memory(pen, memory)
        for x, text in ticks.items():
            pen.write((x, memory + MEMORY + 4), text, 12, "mt")
        middle = LEFT + self._columns / 2
        pen.write((middle, memory + MEMORY + 22), "seconds", 12, "mt")
        return pen.finished()

    def _busiest(self) -> tuple[list[tuple[_Lane, int]], list[int]]:
        """The lanes that are drawn, and the numbers of those that share one below them."""
        lanes = sorted(self._lanes.items(), key=lambda item: item[1])
        if len(lanes) <= MOST_LANES:
            return lanes, []
        busy = sorted(lanes, key=lambda item: -self._work[item[1]])[:MOST_LANES]
        drawn = {number for _, number in busy}
        others = [number for _, number in lanes if number not in drawn]
        return [item for item in lanes if item[1] in drawn], others

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

    def _ticks(self) -> dict[int, str]:
        """Column of the picture to what is written below it."""
        step = _nice(self._span / 6)
        times = [i * step for i in range(int(self._span / step) + 1)]
        return {LEFT + int(time / self._span * self._columns): f"{time:g}" for time in times}

    def _write_header(self, pen: _Pen) -> None:
        c = self._counts
        parts = [
            "nothing has happened yet" if self._start_ns is None else f"running, {self._now:.1f} s",
            f"{plural(c['loads'], 'load')} ({plural(c['reloads'], 'reload')})",
            plural(c["evictions"], "eviction"),
            *([plural(c["refreshes"], "refresh", "refreshes")] if c["refreshes"] else []),
            f"{plural(c['elements'], 'element')} in {plural(c['uses'], 'batch', 'batches')}",
        ]
        pen.write((12, 8), _short(self._title, 70), 17, "la", bold=True)
        x = 12
        for word in " \xa0·\xa0 ".join(parts).split(" "):  # one by one: most stay for many frames
            x += pen.write((x, 34), word, 13, "la") + 4

    def _levels(self, both: np.ndarray) -> tuple[int | None, int | None, int]:
        """Hint and limit, if there are any, and the most that the axis of residency shows."""
        limit = self._limits[-1][1] if self._limits else None
        hint = next(iter(self._hints)) if len(self._hints) == 1 else None
        return hint, limit, max(int(both.max(initial=1)), limit or 1, hint or 1)

    def _paint_residency(
        self, canvas: np.ndarray, top: int, held: np.ndarray, both: np.ndarray
    ) -> None:
        """Paint the models resident, and those that are loading, hatched, on top of them."""
        hint, limit, most = self._levels(both)
        unit, right = RESIDENCY / (most + 0.7), LEFT + self._columns
        area = canvas[top : top + RESIDENCY + 1, LEFT:right]
        above = np.arange(RESIDENCY, -1, -1)[:, None]
        height, reach = ((counts * unit).astype(np.int32) for counts in (held, both))
        hatched = np.arange(RESIDENCY + 1)[:, None] + np.arange(self._columns) % _PHASES
        loading = (above > height) & (above <= reach)
        area[loading & ((hatched % _PHASES < 2) | (above == reach))] = _number(theme.MUTED)
        area[(above <= height) & (height > 0)] = _number(theme.FILL)
        area[-1] = _number(theme.MUTED)
        if hint is not None and hint != limit:
            area[RESIDENCY - int(hint * unit)] = _number(theme.MUTED)
        if limit is not None:
            y = RESIDENCY - int(limit * unit)
            area[y : y + 2] = _number(theme.ALERT)

    def _write_residency(self, pen: _Pen, top: int, both: np.ndarray) -> None:
        hint, limit, most = self._levels(both)
        bottom, unit = top + RESIDENCY, RESIDENCY / (most + 0.7)
        for level in sorted({0, most}):
            pen.write((LEFT - 8, bottom - level * unit), str(level), 12, "rm")
        pen.write((12, top + RESIDENCY / 2), "models\nresident", 12, "lm")
        right = LEFT + self._columns + 6
        if hint is not None and hint != limit:
            pen.write((right, bottom - hint * unit), f"hint {hint}", 12, "lm")
        if limit is not None:
            text = f"hint = limit {limit}" if hint == limit else f"limit {limit}"
            pen.write((right, bottom - limit * unit), text, 12, "lm")

    def _draw_memory(self, pen: _Pen, top: int) -> None:
        bottom, right = top + MEMORY, LEFT + self._columns
        highest = max((curve.highest for curve in self._rss.values()), default=1)
        pen.line([(LEFT, bottom), (right, bottom)], theme.MUTED, 1)
        for curve in self._rss.values():
            points = curve.points(self._columns, self._span)
            line = [(LEFT + x, bottom - rss / highest * (MEMORY - 14)) for x, rss in points]
            if len(line) > 1:
                pen.line(line, theme.INK, 2)
        pen.write((12, top + MEMORY / 2), "memory\nMB", 12, "lm")
        pen.write((LEFT - 8, bottom), "0", 12, "rm")
        if self._rss:
            pen.write((LEFT - 8, top + 14), f"{highest / 1e6:,.0f}", 12, "rm")
            pen.write((right + 6, top + 14), f"RSS {self._rss_now():,.0f}", 12, "lm")

    def _rss_now(self) -> float:
        """Megabytes, summed over the processes."""
        return sum(curve.last for curve in self._rss.values()) / 1e6


def png(image: Image.Image) -> bytes:
    """A frame as PNG, packed quickly rather than tightly."""
    buffer = io.BytesIO()
    image.save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


# Painting: a canvas is an array of numbers of colours, shape (height, width).

_GREYS = 32
"""From paper to ink: the edges of letters."""
_CLEAR = 255
"""The number of no colour, where a stamp leaves the canvas as it is."""


@cache
def _colours() -> tuple[str, ...]:
    """All colours that a frame may have; the number of a colour is its place."""
    paper, ink = (np.array(ImageColor.getrgb(colour)) for colour in (theme.PAPER, theme.INK))
    shares = np.linspace(0, 1, _GREYS)[:, None]
    greys = np.rint(paper * (1 - shares) + ink * shares).astype(int)
    of_models = (paint for colour in (*theme.PALETTE, theme.OTHERS) for paint in _paints(colour))
    others = dict.fromkeys((theme.GRID, theme.MUTED, theme.FILL, theme.ALERT, *of_models))
    return (*("#{:02X}{:02X}{:02X}".format(*grey) for grey in greys), *others)


def _paints(colour: str) -> tuple[str, str, str]:
    """What a model's colour is when it is resident, loading and in use."""
    return theme.tint(colour, 0.3), colour, theme.shade(colour, 0.55)


@cache
def _number(colour: str) -> int:
    return _colours().index(colour)


def _inner(covers: np.ndarray) -> np.ndarray:
    """Without its first pixels, which also hold what came before: shape (lanes, columns)."""
    inner = covers.copy()
    inner[:, 1:] &= covers[:, :-1]
    return inner


def _bar_top(row: int) -> int:
    return HEAD + row * LANE + (LANE - BAR) // 2


def _paint_lane(canvas: np.ndarray, top: int, covers: dict[str, np.ndarray], colour: str) -> None:
    """Paint one lane: hatched while loading, pale resident, outlined leaving, full in use."""
    states = sum(covers[state].astype(np.uint8) << bit for bit, state in enumerate(_IN_BAR))
    columns = np.arange(LEFT, LEFT + len(states))
    strip = _bars(colour)[states, columns % _PHASES].T
    place = canvas[top - 2 : top + BAR + 2, LEFT : LEFT + len(states)]
    np.copyto(place, strip, where=strip != _CLEAR)
    _stamp(canvas, top - 7, covers["evicted"], _triangle())
    _stamp(canvas, top + BAR // 2 - 4, covers["refreshed"], _diamond())


_IN_BAR = ("loading", "resident", "leaving", "used")
_PHASES = 6
"""The hatching repeats after so many columns."""


@cache
def _bars(colour: str) -> np.ndarray:
    """How a column of a lane looks: shape (states, phases, pixels from top to bottom).

    A set of states is a number whose bits stand for `_IN_BAR`.
    """
    pale, full, deep = (_number(paint) for paint in _paints(colour))
    y, x = np.mgrid[0 : BAR + 4, 0:_PHASES]
    inside = (y >= 2) & (y < BAR + 2)
    edge = inside & ((y == 2) | (y == BAR + 1))
    bars = np.full((2 ** len(_IN_BAR), BAR + 4, _PHASES), _CLEAR, np.uint8)
    for states, bar in enumerate(bars):
        loading, resident, leaving, used = (states >> bit & 1 for bit in range(len(_IN_BAR)))
        if leaving:
            bar[edge & (x % 3 != 0)] = _number(theme.INK)
        if resident:
            bar[inside] = pale
            bar[edge] = full
        if loading:
            bar[inside] = _number(theme.PAPER)
            bar[inside & (((x + y) % _PHASES < 2) | edge)] = full
        if used:
            bar[:] = deep
    return bars.transpose(0, 2, 1)


def _stamp(canvas: np.ndarray, top: int, where: np.ndarray, stamp: np.ndarray) -> None:
    """Put a stamp into each sixth column that has something near it."""
    middles = LEFT + np.unique(np.flatnonzero(where) // 6 * 6 + 3)
    y, x = np.nonzero(stamp != _CLEAR)
    canvas[top + y, middles[:, None] + x - stamp.shape[1] // 2] = stamp[y, x]


@cache
def _triangle() -> np.ndarray:
    y, x = np.mgrid[0:7, -4:5]
    return np.where(abs(x) <= 4 - y * 2 / 3, _number(theme.INK), _CLEAR).astype(np.uint8)


@cache
def _diamond() -> np.ndarray:
    y, x = np.mgrid[-4:5, -4:5]
    away = abs(x) + abs(y)
    inside = np.where(away == 4, _number(theme.INK), _number(theme.PAPER))
    return np.where(away <= 4, inside, _CLEAR).astype(np.uint8)


class _Pen:
    """Draws lines and words on a canvas."""

    def __init__(self, canvas: np.ndarray):
        self._image = Image.fromarray(canvas)
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: list[tuple[float, float]], colour: str, width: int) -> None:
        self._draw.line(points, _number(colour), width)

    def write(
        self, at: tuple[float, float], text: str, size: int, anchor: str, bold: bool = False
    ) -> int:
        """Write in ink; returns how many pixels wide that is."""
        word, mask, (left, top) = _word(text, size, anchor, bold)
        self._image.paste(word, (round(at[0]) + left, round(at[1]) + top), mask)
        return word.width

    def finished(self) -> Image.Image:
        """The picture, in the colours that the numbers stand for."""
        self._image.putpalette([part for c in _colours() for part in ImageColor.getrgb(c)])
        return self._image


@lru_cache(maxsize=1024)
def _word(
    text: str, size: int, anchor: str, bold: bool
) -> tuple[Image.Image, Image.Image, tuple[int, int]]:
    """A word in numbers of colours, where it covers the canvas, and where its corner lies."""
    font = _font(size, bold, fonts.is_latin(text))
    box = ImageDraw.Draw(Image.new("L", (1, 1))).textbbox((0, 0), text, font, anchor)
    left, top, right, bottom = (int(np.floor(box[0])), int(np.floor(box[1])), *map(_up, box[2:]))
    word = Image.new("L", (max(right - left, 1), max(bottom - top, 1)), _number(theme.PAPER))
    # Paper is 0 and ink the last grey, so that what Pillow mixes at the edges are greys again.
    ImageDraw.Draw(word).text((-left, -top), text, _number(theme.INK), font, anchor)
    return word, word.point(lambda grey: 255 * (grey > 0)).convert("1"), (left, top)


def _up(number: float) -> int:
    return int(np.ceil(number))


@cache
def _font(size: int, bold: bool = False, latin: bool = True) -> ImageFont.FreeTypeFont:
    """The house's font; Pillow takes no second one for what the first does not have."""
    if not latin:
        return ImageFont.truetype(str(fonts.WIDE_FILE), size)
    weight = "bold" if bold else "normal"
    wanted = font_manager.FontProperties(family=theme.font_families()[0], weight=weight)
    return ImageFont.truetype(font_manager.findfont(wanted), size)


def _nice(step: float) -> float:
    """The next of 1, 2 and 5 times a power of ten.

    >>> _nice(0.3), _nice(7)
    (0.5, 10.0)
    """
    power = 10.0 ** np.floor(np.log10(step))
    return float(next(n * power for n in (1, 2, 5, 10) if n * power >= step))


@lru_cache(maxsize=1024)
def _label(model: str) -> str:
    """A name that fits beside its lane."""
    for most in range(15, 7, -1):
        name = _short(model, most)
        if _font(12, True, fonts.is_latin(name)).getlength(name) < LEFT - 10:
            return name
    return "…"


def _short(name: str, most: int = 15) -> str:
    name = fonts.drawable(named(name))
    if columns(name) <= most:
        return name
    return f"{head(name, most - 6)}…{head(name[::-1], 5)[::-1]}"
