"""Paints bars, marks and words as palette indices: an array of bytes, shape (height, width)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageColor, ImageDraw, ImageFont

from mmlab import fonts
from mmlab.draw import theme
from mmlab.draw.picture import PIXELS_PER_INCH, soft

Canvas = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

BAR = 22
"""Height of a resident model's bar, in pixels; the bar of a model in use is 4 pixels higher."""
_IN_BAR = ("loading", "resident", "leaving", "used")
_PHASES = 6
"""Period of the hatching, in columns."""
_GREYS, _REDS = 32, 8
"""Shades between paper and ink, and between paper and alert, for the edges of letters."""
_CLEAR = 255
"""Palette index of transparent pixels in a stamp."""


@cache
def _colours() -> tuple[str, ...]:
    """The palette: all colours of a frame, in the order of their indices."""
    of_models = (paint for colour in (*theme.PALETTE, theme.OTHERS) for paint in _paints(colour))
    named = (theme.GRID, theme.MUTED, theme.FILL, theme.ALERT, *of_models)
    return tuple(dict.fromkeys((*_ramp(theme.INK, _GREYS), *_ramp(theme.ALERT, _REDS), *named)))


def _ramp(colour: str, shades: int) -> list[str]:
    paper, full = (np.array(ImageColor.getrgb(each)) for each in (theme.PAPER, colour))
    shares = np.linspace(0, 1, shades)[:, None]
    mixed = np.rint(paper * (1 - shares) + full * shares).astype(int)
    return ["#{:02X}{:02X}{:02X}".format(*each) for each in mixed]


def _paints(colour: str) -> tuple[str, str, str]:
    """Colours of a model that is resident, loading and in use."""
    return theme.tint(colour, 0.3), colour, theme.shade(colour, 0.55)


@cache
def number(colour: str) -> int:
    """Palette index of a colour of `theme`."""
    return _colours().index(colour)


@cache
def _opaqueness() -> bytes:
    return soft(_flat_palette())


@cache
def _flat_palette() -> tuple[int, ...]:
    return tuple(part for colour in _colours() for part in ImageColor.getrgb(colour))


def canvas_of(figure: Figure, pixels_per_inch: float = PIXELS_PER_INCH) -> Canvas:
    """Render a matplotlib figure as palette indices."""
    figure.set_dpi(pixels_per_inch)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    image = Image.fromarray(pixels).convert("RGB")
    palette = Image.new("P", (1, 1))
    palette.putpalette(_flat_palette())
    numbers: Canvas = np.array(image.quantize(palette=palette, dither=Image.Dither.NONE))
    last: Canvas = np.minimum(numbers, np.uint8(len(_colours()) - 1))
    return last


def is_background(canvas: Canvas) -> Flags:
    """Flags of pixels that are paper or grid lines, and so may be painted over."""
    paper: Flags = (canvas == number(theme.PAPER)) | (canvas == number(theme.GRID))
    return paper


def png(image: Image.Image) -> bytes:
    """Encode a frame as PNG, favouring speed over size."""
    buffer = io.BytesIO()
    image.save(buffer, format="png", compress_level=1, transparency=_opaqueness())
    return buffer.getvalue()


# Lanes


def paint_lane(
    canvas: Canvas, middle: int, left: int, covers: Mapping[str, Flags], colour: str,
    bar: int = BAR,
) -> None:  # fmt: skip
    """Paint one lane: hatched while loading, pale resident, outlined leaving, full in use.

    Args:
      middle: canvas row of the middle of the lane.
      left: canvas column of the begin of the time axis.
      covers: flags of the columns that each state covers, shape (columns,).
      bar: height of a resident model's bar, in pixels.
    """
    states = np.zeros(len(covers[_IN_BAR[0]]), np.uint8)
    for bit, state in enumerate(_IN_BAR):
        states |= covers[state].astype(np.uint8) << np.uint8(bit)
    phases = np.arange(left, left + len(states)) % _PHASES
    strip = _bars(colour, bar).take(states * np.int64(_PHASES) + phases, axis=1)
    top = middle - bar // 2
    place = canvas[top - 2 : top + bar + 2, left : left + len(states)]
    np.copyto(place, strip, where=strip != _CLEAR)
    _stamp(canvas, top - 7, left, covers["evicted"], _triangle())
    _stamp(canvas, top + bar - 1, left, covers["freed"], _circle())
    _stamp(canvas, middle - 4, left, covers["batch failed"], _alert_cross())
    _stamp(canvas, middle - 4, left, covers["timed out"], _square())
    _stamp(canvas, middle - 4, left, covers["already"], _arrowhead())
    _stamp(canvas, middle - 4, left, covers["refreshed"], _diamond())
    _stamp(canvas, middle - 4, left, covers["failed"], _cross())


@cache
def _bars(colour: str, height: int) -> Canvas:
    """Columns of pixels for every set of states: shape (height, sets of states × phases).

    A set of states is a bit field of `_IN_BAR`; there is a column for each phase of the hatching.
    """
    pale, full, deep = (number(paint) for paint in _paints(colour))
    y, x = np.mgrid[0 : height + 4, 0:_PHASES]
    inside = (y >= 2) & (y < height + 2)
    edge = inside & ((y == 2) | (y == height + 1))
    bars = np.full((2 ** len(_IN_BAR), height + 4, _PHASES), _CLEAR, np.uint8)
    for states, bar in enumerate(bars):
        loading, resident, leaving, used = (states >> bit & 1 for bit in range(len(_IN_BAR)))
        if leaving:
            bar[edge & (x % 3 != 0)] = number(theme.INK)
        if resident:
            bar[inside] = pale
            bar[edge] = full
        if loading:
            bar[inside] = number(theme.PAPER)
            bar[inside & (((x + y) % _PHASES < 2) | edge)] = full
        if used:
            bar[:] = deep
    return np.ascontiguousarray(bars.transpose(1, 0, 2).reshape(height + 4, -1))


def _stamp(canvas: Canvas, top: int, left: int, where: Flags, stamp: Canvas) -> None:
    """Stamp flagged positions, at most one in six columns."""
    if not where.any():
        return
    cells = np.zeros(-(-len(where) // 6) * 6, np.bool_)
    cells[: len(where)] = where
    middles = left + 3 + 6 * np.flatnonzero(cells.reshape(-1, 6).any(axis=1))
    y, x = np.nonzero(stamp != _CLEAR)
    canvas[top + y, middles[:, None] + x - stamp.shape[1] // 2] = stamp[y, x]


@cache
def _triangle() -> Canvas:
    y, x = np.mgrid[0:6, -4:5]
    return np.where(abs(x) <= 4 - y * 2 / 3, number(theme.INK), _CLEAR).astype(np.uint8)


@cache
def _arrowhead() -> Canvas:
    y, x = np.mgrid[-4:5, -3:6]
    over = 2 * abs(y) + x  # 5 on the slanted edges, whose tip is 5 pixels to the right
    inside = np.where((x == -3) | (over >= 4), number(theme.INK), number(theme.PAPER))
    return np.where(over <= 5, inside, _CLEAR).astype(np.uint8)


@cache
def _diamond() -> Canvas:
    y, x = np.mgrid[-4:5, -4:5]
    away = abs(x) + abs(y)
    inside = np.where(away == 4, number(theme.INK), number(theme.PAPER))
    return np.where(away <= 4, inside, _CLEAR).astype(np.uint8)


@cache
def _circle() -> Canvas:
    y, x = np.mgrid[-3:4, -3:4]
    away = x * x + y * y
    inside = np.where(away > 4, number(theme.INK), number(theme.PAPER))
    return np.where(away <= 10, inside, _CLEAR).astype(np.uint8)


@cache
def _alert_cross() -> Canvas:
    return np.where(_cross() == number(theme.INK), number(theme.ALERT), _CLEAR).astype(np.uint8)


@cache
def _square() -> Canvas:
    y, x = np.mgrid[-4:5, -4:5]
    edge = np.maximum(abs(x), abs(y)) >= 3
    return np.where(edge, number(theme.ALERT), number(theme.PAPER)).astype(np.uint8)


@cache
def _cross() -> Canvas:
    y, x = np.mgrid[-4:5, -4:5]
    return np.where(abs(abs(x) - abs(y)) <= 1, number(theme.INK), _CLEAR).astype(np.uint8)


# Curves


def paint_counts(
    area: Canvas, free: Flags, held: npt.NDArray[np.int64], both: npt.NDArray[np.int64]
) -> None:
    """Paint models held, and on top of them, hatched, models that are loading.

    Args:
      area: part of the canvas from the top of the axis to its foot, shape (height, columns).
      free: pixels that may be painted.
      held, both: pixels above the foot, shape (columns,).
    """
    height, width = area.shape
    held, both = (
        held.astype(np.int16),
        both.astype(np.int16),
    )  # a quarter of the bytes of int64
    above = np.arange(height, 0, -1, dtype=np.int16)[:, None]
    if (both > held).any():
        loading = (above > held) & (above <= both) & free
        area[loading & (_hatching(height, width) | (above == both))] = number(theme.MUTED)
    area[(above <= held) & free] = number(theme.FILL)


@cache
def _hatching(height: int, width: int) -> Flags:
    hatched: Flags = (np.arange(height)[:, None] + np.arange(width)) % _PHASES < 2
    return hatched


def paint_area(area: Canvas, free: Flags, heights: npt.NDArray[np.int64]) -> None:
    """Fill the area below a curve: see `paint_counts`."""
    above = np.arange(area.shape[0], 0, -1, dtype=np.int16)[:, None]
    area[(above <= heights.astype(np.int16)) & free] = number(theme.FILL)


def paint_outline(area: Canvas, free: Flags, heights: npt.NDArray[np.int64]) -> None:
    """Draw the line of a curve, in ink: see `paint_counts`."""
    above = np.arange(area.shape[0], 0, -1)[:, None]
    before = np.concatenate([heights[:1], heights[:-1]])
    low, high = np.minimum(before, heights), np.maximum(before, heights)
    area[(above >= low) & (above <= high) & (high > 0) & free] = number(theme.INK)


class Pen:
    """Draws lines and words on a canvas."""

    def __init__(self, canvas: Canvas, pixels_per_inch: float = PIXELS_PER_INCH):
        self._pixels_per_point = pixels_per_inch / 72
        self._image = Image.fromarray(canvas)
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: list[tuple[float, float]], *, width: int, dashed: bool = False) -> None:
        """Draw a line in ink; dashes and gaps are four pixels long."""
        if not dashed:
            self._draw.line(points, number(theme.INK), width)
            return
        for begin, end in zip(points, points[1:], strict=False):
            if begin[0] // 4 % 2 == 0:
                self._draw.line([begin, end], number(theme.INK), width)

    def clear(self, box: tuple[float, float, float, float]) -> None:
        """Fill a rectangle (left, top, right, bottom) with paper."""
        self._draw.rectangle(box, number(theme.PAPER))

    def write(
        self, at: tuple[float, float], text: str, points: float, anchor: str, *,
        bold: bool = False, muted: bool = False,
    ) -> int:  # fmt: skip
        """Write in ink. Returns the width in pixels."""
        size = points * self._pixels_per_point
        word, mask, (left, top) = _word(text, size, anchor, bold, muted)
        self._image.paste(word, (round(at[0]) + left, round(at[1]) + top), mask)
        return word.width

    def finished(self) -> Image.Image:
        """Return the picture as a palette image."""
        self._image.putpalette(_flat_palette())
        return self._image


@lru_cache(maxsize=1024)
def _word(
    text: str, size: float, anchor: str, bold: bool, muted: bool
) -> tuple[Image.Image, Image.Image, tuple[int, int]]:
    """Return a word as palette indices, its mask, and the offset of its corner."""
    font = _font(size, bold, fonts.is_latin(text))
    box = ImageDraw.Draw(Image.new("L", (1, 1))).textbbox((0, 0), text, font, anchor)
    left, top, right, bottom = (int(np.floor(box[0])), int(np.floor(box[1])), *map(_up, box[2:]))
    word = Image.new("L", (max(right - left, 1), max(bottom - top, 1)), number(theme.PAPER))
    # Paper is 0 and ink is the last grey, so that Pillow's mixtures at the edges are greys too.
    ink = _GREYS * 2 // 3 if muted else number(theme.INK)
    ImageDraw.Draw(word).text((-left, -top), text, ink, font, anchor)
    return word, word.point(lambda grey: 255 * (grey > 0)).convert("1"), (left, top)


def _up(number: float) -> int:
    return int(np.ceil(number))


@cache
def _font(size: float, bold: bool = False, latin: bool = True) -> ImageFont.FreeTypeFont:
    """One of mmlab's fonts, `size` pixels large. Pillow has no fallback for missing characters."""
    if not latin:
        return ImageFont.truetype(str(fonts.WIDE_FILE), size)
    weight = "bold" if bold else "normal"
    wanted = font_manager.FontProperties(family=theme.font_families()[0], weight=weight)
    return ImageFont.truetype(font_manager.findfont(wanted), size)
