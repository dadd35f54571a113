"""SVG and PNG from DOT text, and the `Diagram` that notebooks show."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from html import escape, unescape
from pathlib import Path
from typing import Any

from mmlab import fonts
from mmlab._arguments import file_to_write
from mmlab._files import write_whole
from mmlab._text import shown_everywhere
from mmlab.diagrams import engine
from mmlab.diagrams.dot import FONT, SMALLEST
from mmlab.diagrams.engine import GraphvizError
from mmlab.draw.theme import PAPER, SHINES_THROUGH

__all__ = ["Diagram", "GraphvizError"]

_POINTS_TO_PIXELS = 96 / 72
_SMALLEST_PIXELS = SMALLEST * _POINTS_TO_PIXELS
_READABLE_PIXELS = 9
_NOTEBOOK_PIXELS = 900
_PNG_DPI = 120
_PNG_INCHES = 15
_MOST_PIXELS = 20_000
"""Maximum side of a PNG: larger ones need gigabytes to draw, and programs refuse them."""


@shown_everywhere
@dataclass(frozen=True)
class Diagram:
    """A picture in a notebook, and text everywhere else.

    Attributes:
      dot: DOT text; equal subjects give equal bytes in every process.
      outline: the complete content of the picture as plain text.
      alt: one or two sentences for readers who do not see the picture.
    """

    dot: str = field(repr=False)
    outline: str = field(repr=False)
    alt: str

    @cached_property
    def svg(self) -> str:
        """The picture as an SVG document without scripts, links or references to other files.

        Raises:
          GraphvizError: the engine is missing or failed.
        """
        return _accessible(engine.svg(self.dot), self.alt, self.outline)

    @cached_property
    def png(self) -> bytes:
        """The picture as PNG for a notebook: at most 1,800 pixels wide.

        Raises:
          GraphvizError: the engine is missing or failed.
        """
        return self._png(_PNG_INCHES * _PNG_DPI)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture atomically, in the format of the extension: .svg, .png or .dot.

        Raises:
          ValueError: the extension is not one of these.
          OSError: the file cannot be written.
          GraphvizError: the engine is missing or failed.
        """
        path = file_to_write(path)
        write_whole(path, self._content(path.suffix.lower()))
        return path

    def _content(self, ending: str) -> bytes:
        if ending == ".svg":
            return f'<?xml version="1.0" encoding="UTF-8"?>\n{self.svg}'.encode()
        if ending == ".png":
            return self._png(_MOST_PIXELS)
        if ending == ".dot":
            return self.dot.encode()
        raise ValueError(f"a diagram is saved as .svg, .png or .dot, not as {ending!r}")

    def _png(self, most: int) -> bytes:
        """PNG with `_PNG_DPI` dots per inch, or fewer so that it is at most `most` pixels wide."""
        width, height = (side * _PNG_DPI / 72 for side in _svg_size(self.svg))
        scale = min(1, most / width, _MOST_PIXELS / height)
        svg = self.svg.replace(fonts.SVG_FAMILIES, fonts.FAMILY, 1)
        return engine.png(svg, max(1, round(width * scale)))

    @property
    def html(self) -> str:
        """SVG for an HTML page, in a box that scrolls before its text becomes too small to read.

        Use it in `IPython.display.HTML(...)`, `ipywidgets.HTML(...)` and your own pages, where
        tooltips work. A diagram does not display itself like this, because GitHub removes SVG from
        the HTML of saved notebooks. JupyterLab shows plain SVG as an image, without tooltips.
        """
        width = _svg_size(self.svg)[0] * _POINTS_TO_PIXELS
        least = width * min(1, _READABLE_PIXELS / _SMALLEST_PIXELS)
        style = f"width:100%;min-width:{least:.0f}px;max-width:{width:.0f}px;height:auto"
        # The title of the document would be a tooltip of the whole picture.
        svg = re.sub(r"<title>.*?</title>", "", self.svg, count=1, flags=re.S)
        svg = re.sub(r'<svg width="[^"]*" height="[^"]*"', f'<svg style="{style}"', svg, count=1)
        return f'<div class="mmlab-diagram" style="overflow-x:auto">{svg}</div>'

    def __str__(self) -> str:
        return self.outline

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        """Data for Jupyter: SVG, PNG and text, never HTML (see `html`)."""
        wanted = set(include or _MIME) - set(exclude or ())
        try:
            data = {mime: make(self) for mime, make in _MIME.items() if mime in wanted}
        except GraphvizError as error:
            return {"text/plain": f"{self.outline}\n\n{error}"}
        metadata: dict[str, Any] = {mime: {"alt": self.alt} for mime in data if "image" in mime}
        if "image/svg+xml" in data:
            # JupyterLab then keeps the size and scrolls, instead of shrinking the picture.
            metadata["image/svg+xml"]["unconfined"] = self._too_wide
        if "image/png" in data:
            metadata["image/png"]["width"] = _png_width(self.png) * 96 // _PNG_DPI
        return data, metadata

    @property
    def _too_wide(self) -> bool:
        """Whether the smallest text is illegible if the picture is scaled to a notebook's width."""
        width = _svg_size(self.svg)[0] * _POINTS_TO_PIXELS
        return width > _NOTEBOOK_PIXELS * _SMALLEST_PIXELS / _READABLE_PIXELS


_MIME: dict[str, Callable[[Diagram], str]] = {
    "image/svg+xml": lambda diagram: _soft(diagram.svg),
    "image/png": lambda diagram: b64encode(diagram.png).decode(),
    "text/plain": lambda diagram: diagram.outline,
}


# SVG


def _soft(svg: str) -> str:
    """Make the paper slightly transparent, for notebooks.

    Boxes in the colour of paper get no fill: two layers would be brighter than one.
    """
    paper = f'fill="{PAPER.lower()}"'
    before, found, after = svg.partition(paper)
    opacity = f'{found} fill-opacity="{1 - SHINES_THROUGH}"' if found else ""
    return before + opacity + after.replace(paper, 'fill="none"')


def _accessible(svg: str, alt: str, outline: str) -> str:
    """Add a name, a description, and tooltips for every browser to Graphviz's SVG."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.S)
    svg = re.sub(
        r'<g id="[^"]*" class="([a-z]+)"([^>]*)>\s*<title>[^<]*</title>', r'<g class="\1"\2>', svg
    )
    svg = re.sub(r'<g id="[^"]*" class="', '<g class="', svg)
    # All browsers show <title>, but few show the xlink:title of a link without a target.
    svg = re.sub(r'<g id="[^"]*"><a xlink:title="([^"]*)">', r"<g><title>\1</title>", svg)
    svg = re.sub(r"</a>\s*</g>", "</g>", svg).replace("<title> </title>", "")
    svg = re.sub(r' xmlns:xlink="[^"]*"', "", svg)
    head, body = _with_widths(svg).split(">", 1)
    return (
        f'{head} font-family="{fonts.SVG_FAMILIES}" role="img" aria-label="{escape(alt)}">'
        f"<title>{escape(alt)}</title><desc>{escape(outline)}</desc>{body}"
    )


def _with_widths(svg: str) -> str:
    """Set the width of each text, measured in mmlab's font, to which browsers fit other fonts."""
    group = shape = ""

    def change(part: re.Match[str]) -> str:
        nonlocal group, shape
        if part["group"]:
            group, shape = part["group"], ""
        elif part["shape"]:
            shape = shape or part["shape"]
        else:
            centred = group == "edge" or (group == "node" and shape == "path")
            return _fitted(part["attributes"], part["words"], centred)
        return part[0]

    return _PARTS.sub(change, svg)


_PARTS = re.compile(
    r'<g class="(?P<group>\w+)"'
    r"|<(?P<shape>path|polygon|ellipse)\b"
    r"|<text (?P<attributes>[^>]*)>(?P<words>[^<]*)</text>"
)


def _fitted(attributes: str, words: str, centred: bool) -> str:
    attributes = attributes.replace(f' font-family="{FONT}"', "")
    size = float(_found(r'font-size="([\d.]+)"', attributes)[1])
    bold = 'font-weight="bold"' in attributes
    guessed = _guess(unescape(words), size, bold)
    words = words.replace("\u200b", "")  # added by `dot._escape` to avoid escape sequences
    if not words.strip("\xa0 "):
        return f"<text {attributes}>{words}</text>"
    width = fonts.width(unescape(words), size, bold=bold)
    x, y = (float(_found(rf' {name}="([-\d.]+)"', attributes)[1]) for name in "xy")
    x += (guessed - width) / 2 if centred and "start" in attributes else 0
    attributes = re.sub(r' (x|y)="[-\d.]+"', "", attributes)
    place = f'x="{x:.2f}" y="{y - _RISE * size:.2f}"'
    fit = f'textLength="{width:.2f}" lengthAdjust="spacingAndGlyphs"'
    return f"<text {place} {attributes} {fit}>{words}</text>"


def _guess(words: str, size: float, bold: bool) -> float:
    """Width of text as estimated by Graphviz: each byte beyond ASCII is as wide as a space."""
    spaces = sum(len(c.encode()) for c in words if not c.isascii())
    known = "".join(c for c in words if c.isascii())
    return fonts.width(known + " " * spaces, size, bold=bold)


_RISE = 0.07
"""Offset of Arial letters below the middle of a box in Graphviz, as a share of the font size."""


def _svg_size(svg: str) -> tuple[float, float]:
    """Width and height in points."""
    size = _found(r'<svg width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    return float(size[1]), float(size[2])


def _found(pattern: str, svg: str) -> re.Match[str]:
    match = re.search(pattern, svg)
    if match is None:
        raise GraphvizError(f"Graphviz wrote no {pattern}")
    return match


def _png_width(png: bytes) -> int:
    return int.from_bytes(png[16:20], "big")
