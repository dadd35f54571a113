"""One colour per model, the same in every picture of a notebook, and legible without colour."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any
from zlib import crc32

import matplotlib
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from mmlab import fonts

# Okabe and Ito, "Color Universal Design" (2008), then three of Paul Tol's "muted":
# distinguishable with every common form of colour blindness.
PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#882255",
    "#999933",
    "#332288",
)
INK = "#1F2430"
MUTED = "#667085"
PAPER = "#FFFFFF"
SHINES_THROUGH = 0.13
"""Transparency of paper in a notebook, from 0 to 1: paper looks grey on a dark page."""
GRID = "#E4E7EC"
FILL = "#C5CBD5"
ALERT = "#B42318"
OTHERS = "#8C94A3"
"""Colour of models without a lane of their own."""


Style = dict[str, Any]
"""Arguments of matplotlib that several drawings share."""


@cache
def font_families() -> list[str]:
    """Matplotlib's own font, then mmlab's: no others, so that pictures are the same everywhere."""
    known = font_manager.fontManager
    known.addfont(fonts.WIDE_FILE)
    # The font has one weight; matplotlib would log a warning when bold is requested.
    known.ttflist.append(replace(known.ttflist[-1], weight="bold"))
    return ["DejaVu Sans", fonts.WIDE_FAMILY]


@contextmanager
def style() -> Iterator[None]:
    """Draw in mmlab's fonts, and treat model names as plain text, never as mathtext."""
    with matplotlib.rc_context({"font.family": font_families(), "text.parse_math": False}):
        yield


@lru_cache(maxsize=4096)
def text_inches(text: str, points: float, *, bold: bool = False) -> float:
    """Width of a line of text in mmlab's fonts."""
    properties = FontProperties(
        family=font_families(), weight="bold" if bold else "normal", size=points
    )
    return _paths.get_text_width_height_descent(text, properties, ismath=False)[0] / 72


_paths = TextToPath()


class Palette:
    """Assigns colours to model names and remembers them.

    A name that ends in a number prefers the colour with that number, any other name a colour by
    its hash, so that a model mostly has the same colour in all notebooks.

    >>> palette = Palette()
    >>> palette.colours(["CONFIG_1", "CONFIG_2"])
    {'CONFIG_1': '#0072B2', 'CONFIG_2': '#E69F00'}
    >>> palette.colours(["CONFIG_2"])
    {'CONFIG_2': '#E69F00'}
    """

    def __init__(self) -> None:
        self._index: dict[str, int] = {}

    def colours(self, names: Iterable[str]) -> dict[str, str]:
        """A colour `#RRGGBB` for each of `names`; colours repeat only when all are taken."""
        return {name: PALETTE[self._place(name)] for name in names}

    def _place(self, name: str) -> int:
        if name not in self._index:
            self._index[name] = self._free(_preferred(name))
        return self._index[name]

    def _free(self, preferred: int) -> int:
        taken = set(self._index.values())
        order = [(preferred + i) % len(PALETTE) for i in range(len(PALETTE))]
        return next((place for place in order if place not in taken), preferred)


def _preferred(name: str) -> int:
    number = re.search(r"(\d+)\D*$", name)
    if number:
        return (int(number[1]) - 1) % len(PALETTE)
    return crc32(name.encode("utf-8", "surrogatepass")) % len(PALETTE)


model_palette = Palette()
"""The palette that all pictures of this process share."""


def readable_on(colour: str) -> str:
    """Black or white, whichever reads better on `colour` (WCAG relative luminance).

    >>> readable_on("#0072B2"), readable_on("#E69F00")
    ('#FFFFFF', '#000000')
    """
    r, g, b = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (r, g, b)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#FFFFFF" if luminance < 0.25 else "#000000"


def tint(colour: str, share: float) -> str:
    """`colour` mixed with white; `share` 1 is the colour itself, 0 is white.

    >>> tint("#000000", 0.5)
    '#808080'
    """
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 - (255 - part) * share):02X}" for part in parts)


def shade(colour: str, share: float) -> str:
    """`colour` mixed with black; `share` 1 is the colour itself, 0 is black.

    >>> shade("#FFFFFF", 0.5)
    '#808080'
    """
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part * share):02X}" for part in parts)
