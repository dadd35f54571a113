"""DOT becomes SVG, PNG and PDF, and a `Diagram` that notebooks show."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import IO, Any

from mmlab._arguments import file_to_write
from mmlab.diagrams.dot import SMALLEST

_SECONDS = 60
_POINTS_TO_PIXELS = 96 / 72
_SMALLEST_PIXELS = SMALLEST * _POINTS_TO_PIXELS
_READABLE_PIXELS = 9
_NOTEBOOK_PIXELS = 900
_PNG_DPI = 120
_PNG_INCHES = 15
_in_process = threading.Lock()

NO_GRAPHVIZ = (
    "Graphviz is missing: run `pip install 'pygraphviz>=2'` (it brings Graphviz with it), or "
    "install Graphviz so that the program `dot` is on PATH."
)


class GraphvizError(RuntimeError):
    """Graphviz is not there, or could not draw."""


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
          GraphvizError: Graphviz is not there, or could not draw.
        """
        return _accessible(draw(self.dot, "svg").decode(), self.alt, self.outline)

    @cached_property
    def png(self) -> bytes:
        """The picture as PNG for a notebook: at most 1,800 pixels wide.

        Raises:
          GraphvizError: Graphviz is not there, or could not draw.
        """
        return draw(_with_size(self.dot, _PNG_DPI, _PNG_INCHES), "png")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture to `path`, whose ending says how: .svg, .png, .pdf or .dot.

        The file appears at once and complete, or not at all.

        Raises:
          ValueError: another ending.
          OSError: it cannot be written.
          GraphvizError: Graphviz is not there, or could not draw.
        """
        path = file_to_write(path)
        content = self._content(path.suffix.lower())
        scratch = path.with_name(f".{uuid.uuid4().hex}.part")
        try:
            scratch.write_bytes(content)
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
        return path

    def _content(self, ending: str) -> bytes:
        if ending == ".svg":
            return f'<?xml version="1.0" encoding="UTF-8"?>\n{self.svg}'.encode()
        if ending == ".png":
            return draw(_with_size(self.dot, _PNG_DPI), "png")
        if ending == ".pdf":
            return draw(self.dot, "pdf")
        if ending == ".dot":
            return self.dot.encode()
        raise ValueError(f"a diagram is saved as .svg, .png, .pdf or .dot, not as {ending!r}")

    @property
    def html(self) -> str:
        """The SVG for a page of HTML, in a box that scrolls before its text is too small to read.

        Tooltips work here. JupyterLab shows SVG as an image, where they do not; and in a saved
        notebook GitHub removes SVG from HTML. So this is for `IPython.display.HTML(...)`,
        `ipywidgets.HTML(...)` and pages of your own, and is not what a diagram shows by itself.
        """
        width = _svg_width(self.svg)
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
            if {"image/svg+xml", "image/png"} <= wanted:
                self._draw_both()
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

    def _draw_both(self) -> None:
        """SVG and PNG at the same time: Graphviz is another process, and we only wait."""
        with ThreadPoolExecutor(1) as pool:
            png = pool.submit(getattr, self, "png")
            _ = self.svg
            png.result()

    @property
    def _too_wide(self) -> bool:
        """Whether the small print gets unreadable when the picture is fitted to a notebook."""
        return _svg_width(self.svg) > _NOTEBOOK_PIXELS * _SMALLEST_PIXELS / _READABLE_PIXELS


_MIME = {
    "image/svg+xml": lambda diagram: diagram.svg,
    "image/png": lambda diagram: b64encode(diagram.png).decode(),
    "text/plain": lambda diagram: diagram.outline,
}


# SVG


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
    head, body = svg.split(">", 1)
    return (
        f'{head} role="img" aria-label="{escape(alt)}"><title>{escape(alt)}</title>'
        f"<desc>{escape(outline)}</desc>{body}"
    )


def _svg_width(svg: str) -> float:
    """In CSS pixels."""
    return float(re.search(r'<svg width="([\d.]+)pt"', svg)[1]) * _POINTS_TO_PIXELS


def _png_width(png: bytes) -> int:
    return int.from_bytes(png[16:20], "big")


# Graphviz


def draw(dot: str, form: str) -> bytes:
    """`dot` as Graphviz draws it: "svg", "png" or "pdf".

    Raises:
      GraphvizError: Graphviz is not there, could not draw, or took longer than a minute.
    """
    program = shutil.which("dot")
    return _draw_with_program(program, dot, form) if program else _draw_in_process(dot, form)


def _draw_with_program(program: str, dot: str, form: str) -> bytes:
    try:
        done = subprocess.run(
            [program, f"-T{form}"], input=dot.encode(), capture_output=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise GraphvizError(
            f"Graphviz drew for more than {_SECONDS} s and was stopped: draw less, with depth=1 or "
            "step='label of one composite'."
        ) from None
    if done.returncode or not done.stdout:
        raise GraphvizError(f"{program} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _draw_in_process(dot: str, form: str) -> bytes:
    try:
        import pygraphviz
    except ImportError:
        raise GraphvizError(NO_GRAPHVIZ) from None
    # Graphviz keeps global state: one drawing at a time.
    with _in_process, _standard_error_caught() as said:
        try:
            return pygraphviz.AGraph(string=dot).draw(format=form, prog="dot")
        except (OSError, ValueError) as error:
            raise GraphvizError(f"pygraphviz failed: {said() or error}") from error


@contextmanager
def _standard_error_caught() -> Iterator[Callable[[], str]]:
    """Keep what Graphviz and its fonts say to themselves; yields what tells of it.

    They are libraries in C and know nothing of `sys.stderr`. What others say meanwhile goes on.
    """
    with tempfile.TemporaryFile() as file:
        shown = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: _said_in(file)[0]
        finally:
            os.dup2(shown, 2)
            os.close(shown)
            os.write(2, _said_in(file)[1].encode())


def _said_in(file: IO[bytes]) -> tuple[str, str]:
    """What Graphviz said, and what others did."""
    file.seek(0)
    lines = file.read().decode(errors="replace").splitlines(keepends=True)
    own = [line for line in lines if line.startswith(("Error: ", "Warning: "))]
    others = [line for line in lines if line not in own and not line.startswith("Fontconfig ")]
    return "".join(own).strip(), "".join(others)


def _with_size(dot: str, dpi: int, inches: float | None = None) -> str:
    limit = f', size="{inches:g},200"' if inches else ""
    return dot.replace("{", f"{{\n  graph [dpi={dpi}{limit}];", 1)
