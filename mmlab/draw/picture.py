"""A matplotlib figure with a text version for terminals."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mmlab._arguments import file_to_write
from mmlab._files import write_whole
from mmlab._text import shown_everywhere
from mmlab.draw.theme import PAPER, SHINES_THROUGH

DPI = 200
PIXELS_PER_INCH = 100
WIDTH_INCHES = 9.5
"""Width of a picture of runs: 950 CSS pixels in a notebook."""


def new_figure(height: float, width: float = WIDTH_INCHES) -> Figure:
    """Create a figure, in inches, without pyplot: no global state changes, no figure stays open."""
    figure = Figure(figsize=(width, height), facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


@shown_everywhere
class Picture:
    """A figure and its description: notebooks show the figure, terminals the description.

    Attributes:
      figure: the matplotlib figure, to change or embed.
    """

    def __init__(self, figure: Figure, text: str, *, pixels_per_inch: float = PIXELS_PER_INCH):
        self.figure = figure
        self._text = text
        self._pixels_per_inch = pixels_per_inch

    def save(self, path: str | os.PathLike[str], *, dpi: int = DPI) -> Path:
        """Write the picture atomically, in the format of the extension (png, svg, pdf, …).

        Raises:
          ValueError: matplotlib cannot write this format.
          OSError: the file cannot be written.
        """
        path = file_to_write(path)
        drawn = io.BytesIO()
        self.figure.savefig(drawn, format=_format(self.figure, path), dpi=dpi)
        write_whole(path, drawn.getvalue())
        return path

    def __repr__(self) -> str:
        return self._text

    def _png(self) -> bytes:
        """PNG with 256 colours, enough for these pictures: a third of the size in a notebook."""
        drawn, small = io.BytesIO(), io.BytesIO()
        self.figure.savefig(drawn, format="png", dpi=DPI)
        image = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        image.save(small, format="png", optimize=True, transparency=soft(image.getpalette() or []))
        return small.getvalue()

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        width, height = (round(i * self._pixels_per_inch) for i in self.figure.get_size_inches())
        data = {"image/png": self._png(), "text/plain": self._text}
        alt = self._text.partition("\n")[0]
        return data, {"image/png": {"width": width, "height": height, "alt": alt}}


def soft(palette: Sequence[int]) -> bytes:
    """Opacity of each colour of a palette, from 0 to 255.

    Pale colours are slightly transparent, so that paper is grey on a dark page.

    Args:
      palette: red, green and blue of each colour in turn.

    >>> list(soft([255, 255, 255, 0, 0, 0]))
    [222, 255]
    """
    return bytes(
        round(255 - SHINES_THROUGH * min(palette[i : i + 3])) for i in range(0, len(palette), 3)
    )


def _format(figure: Figure, path: Path) -> str:
    """Return the format of a file name extension, if matplotlib supports it."""
    known = figure.canvas.get_supported_filetypes()
    ending = path.suffix.lower().removeprefix(".")
    if ending not in known:
        raise ValueError(f"a picture is saved as .{', .'.join(known)}, not as {path.suffix!r}")
    return ending
