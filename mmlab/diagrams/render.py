"""DOT becomes SVG and PNG, and a `Diagram` that notebooks show."""

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
"""Of the side of a PNG: beyond that it takes gigabytes to draw, and programs refuse it."""


@shown_everywhere
@dataclass(frozen=True)
class Diagram:
    """A picture that shows itself in a notebook, and as text everywhere else.

    Attributes:
      dot: DOT text, the same bytes for the same subject in every process.
      outline: everything in the picture as plain text, nothing shortened.
      alt: one or two sentences for those who do not see the picture.
    """

    dot: str = field(repr=False)
    outline: str = field(repr=False)
    alt: str

    @cached_property
    def svg(self) -> str:
        """The picture as an SVG document without scripts, links or references to other files.

        Raises:
          GraphvizError: the engine is not there, or could not draw.
        """
        return _accessible(engine.svg(self.dot), self.alt, self.outline)

    @cached_property
    def png(self) -> bytes:
        """The picture as PNG for a notebook: at most 1,800 pixels wide.

        Raises:
          GraphvizError: the engine is not there, or could not draw.
        """
        return self._png(_PNG_INCHES * _PNG_DPI)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture to `path`, whose ending says how: .svg, .png or .dot.

        The file appears at once and complete, or not at all.

        Raises:
          ValueError: another ending.
          OSError: it cannot be written.
          GraphvizError: the engine is not there, or could not draw.
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
        """With `_PNG_DPI` points to the inch, unless that makes it wider than `most` pixels."""
        width, height = (side * _PNG_DPI / 72 for side in _svg_size(self.svg))
        scale = min(1, most / width, _MOST_PIXELS / height)
        svg = self.svg.replace(fonts.SVG_FAMILIES, fonts.FAMILY, 1)
        return engine.png(svg, max(1, round(width * scale)))

    @property
    def html(self) -> str:
        """The SVG for a page of HTML, in a box that scrolls before its text is too small to read.

        Tooltips work here. JupyterLab shows SVG as an image, where they do not; and in a saved
        notebook GitHub removes SVG from HTML. So this is for `IPython.display.HTML(...)`,
        `ipywidgets.HTML(...)` and pages of your own, and is not what a diagram shows by itself.
        """
        width = _svg_size(self.svg)[0] * _POINTS_TO_PIXELS
        least = width * min(1, _READABLE_PIXELS / _SMALLEST_PIXELS)
        style = f"width:100%;min-width:{least:.0f}px;max-width:{width:.0f}px;height:auto"
        # The whole picture would have a tooltip of its own.
        svg = re.sub(r"<title>.*?</title>", "", self.svg, count=1, flags=re.S)
        svg = re.sub(r'<svg width="[^"]*" height="[^"]*"', f'<svg style="{style}"', svg, count=1)
        return f'<div class="mmlab-diagram" style="overflow-x:auto">{svg}</div>'

    def __str__(self) -> str:
        return self.outline

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        """What Jupyter shows and saves: SVG, PNG and text, never HTML (see `html`)."""
        wanted = set(include or _MIME) - set(exclude or ())
        try:
            data = {mime: make(self) for mime, make in _MIME.items() if mime in wanted}
        except GraphvizError as error:
            return {"text/plain": f"{self.outline}\n\n{error}"}
        metadata: dict[str, Any] = {mime: {"alt": self.alt} for mime in data if "image" in mime}
        if "image/svg+xml" in data:
            # JupyterLab then keeps the size and scrolls, and does not squeeze the picture.
            metadata["image/svg+xml"]["unconfined"] = self._too_wide
        if "image/png" in data:
            metadata["image/png"]["width"] = _png_width(self.png) * 96 // _PNG_DPI
        return data, metadata

    @property
    def _too_wide(self) -> bool:
        """Whether the small print gets unreadable when the picture is fitted to a notebook."""
        width = _svg_size(self.svg)[0] * _POINTS_TO_PIXELS
        return width > _NOTEBOOK_PIXELS * _SMALLEST_PIXELS / _READABLE_PIXELS


_MIME: dict[str, Callable[[Diagram], str]] = {
    "image/svg+xml": lambda diagram: _soft(diagram.svg),
    "image/png": lambda diagram: b64encode(diagram.png).decode(),
    "text/plain": lambda diagram: diagram.outline,
}


# SVG


def _soft(svg: str) -> str:
    """The picture on paper that lets the page through, as notebooks show it.

    Boxes of the same colour are left out: twice the paper would be brighter than once.
    """
    paper = f'fill="{PAPER.lower()}"'
    before, found, after = svg.partition(paper)
    opacity = f'{found} fill-opacity="{1 - SHINES_THROUGH}"' if found else ""
    return before + opacity + after.replace(paper, 'fill="none"')


def _accessible(svg: str, alt: str, outline: str) -> str:
    """Graphviz's SVG with a name and a description, and with tooltips that every browser shows."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.S)
    svg = re.sub(
        r'<g id="[^"]*" class="([a-z]+)"([^>]*)>\s*<title>[^<]*</title>', r'<g class="\1"\2>', svg
    )
    svg = re.sub(r'<g id="[^"]*" class="', '<g class="', svg)
    # Browsers show <title>, few show the xlink:title of a link that leads nowhere.
    svg = re.sub(r'<g id="[^"]*"><a xlink:title="([^"]*)">', r"<g><title>\1</title>", svg)
    svg = re.sub(r"</a>\s*</g>", "</g>", svg).replace("<title> </title>", "")
    svg = re.sub(r' xmlns:xlink="[^"]*"', "", svg)
    head, body = _with_widths(svg).split(">", 1)
    return (
        f'{head} font-family="{fonts.SVG_FAMILIES}" role="img" aria-label="{escape(alt)}">'
        f"<title>{escape(alt)}</title><desc>{escape(outline)}</desc>{body}"
    )


def _with_widths(svg: str) -> str:
    """Each text with the width that it has in our font, into which any other font is fitted."""
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
    words = words.replace("\u200b", "")  # dot.escape puts it where Graphviz would see a command
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
    """How wide Graphviz takes text to be: each byte beyond ASCII as wide as a space."""
    spaces = sum(len(c.encode()) for c in words if not c.isascii())
    known = "".join(c for c in words if c.isascii())
    return fonts.width(known + " " * spaces, size, bold=bold)


_RISE = 0.07
"""Graphviz puts letters of Arial below the middle of a box, by so much of their size."""


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
