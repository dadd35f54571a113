"""The replay page as one document with script, style, texts and data; it loads no other files."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlab._arguments import file_to_write
from mmlab._files import write_whole
from mmlab._text import plural, shown_everywhere

if TYPE_CHECKING:
    from mmlab.draw.picture import Picture

HERE = Path(__file__).parent
_MODULES = (
    "engine", "texts", "data", "view", "stack", "timeline", "quiz", "controls", "open", "frame",
    "main",
)  # fmt: skip
"""Modules of the script, each after its imports."""
_HEIGHT = 780
"""Height of the frame in a notebook, in CSS pixels."""
_IMPORT = re.compile(r"^import \{[^}]*\} from \"[^\"]*\";\n", re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)


@cache
def _script() -> str:
    """Join the modules to one script with its own scope."""
    parts = [(HERE / f"{name}.mjs").read_text("utf-8") for name in _MODULES]
    joined = "\n".join(_EXPORT.sub("", _IMPORT.sub("", part)) for part in parts)
    return f'(() => {{\n"use strict";\n{joined}\n}})();'


def page(content: Mapping[str, Any]) -> str:
    """Return the HTML of the page that shows `content`."""
    parts = {
        "/*STYLE*/": (HERE / "style.css").read_text("utf-8"),
        "/*DATA*/": _embedded(content),
        "/*SCRIPT*/": _script(),
    }
    template = (HERE / "template.html").read_text("utf-8")
    return re.sub(r"/\*(STYLE|DATA|SCRIPT)\*/", lambda place: parts[place[0]], template)


def _embedded(content: Mapping[str, Any]) -> str:
    """Encode JSON for a script element: nothing in it closes the element or looks like a URL.

    >>> _embedded({"name": "</script>"})
    '{"name":"\\\\u003c\\\\/script\\\\u003e"}'
    """
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.replace("/", "\\/")


@shown_everywhere
class ReplayPage:
    """A page to step through a run, access by access; a notebook shows it.

    Args:
      content: content of the page; see `run_content`.
      still: function that draws the picture shown where scripts do not run.
    """

    def __init__(self, content: Mapping[str, Any], still: Callable[[], Picture] | None = None):
        self._content = content
        self._still = still

    @property
    def html(self) -> str:
        """The page as a self-contained HTML document."""
        return page(self._content)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page atomically to one file, which any browser opens offline. Returns its path.

        Raises:
          OSError: the file cannot be written.
        """
        path = file_to_write(path)
        write_whole(path, self.html.encode("utf-8"))
        return path

    def __repr__(self) -> str:
        managers = self._content["managers"]
        if not managers:
            return "Replay of a run in which nothing reached a model"
        lines = [_in_words(manager) for manager in managers]
        more = self._content["managers_in_all"] - len(managers)
        return "\n".join([*lines, *([f"and {plural(more, 'more model manager')}"] if more else [])])

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        data: dict[str, Any] = {"text/plain": repr(self)}
        metadata: dict[str, Any] = {}
        if self._still is not None:
            pictures, about = self._still()._repr_mimebundle_()
            data["image/png"], metadata["image/png"] = pictures["image/png"], about["image/png"]
        data["text/html"] = self._framed(data.get("image/png"), metadata.get("image/png", {}))
        return data, metadata

    def _framed(self, png: bytes | None, about: Mapping[str, Any]) -> str:
        """The page in a frame, and the still picture until the page's script starts."""
        picture = ""
        if png is not None:
            picture = (
                f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" '
                f'width="{about["width"]}" alt="{html.escape(about["alt"])}">'
            )
        frame = (
            f'<iframe title="Replay" data-replay="{_HEIGHT}" allow="fullscreen" '
            'style="width: 100%; height: 1px; border: 0" '
            f'srcdoc="{html.escape(self.html)}"></iframe>'
        )
        return f'<div class="mmlab-replay">{picture}{frame}</div>'


def _in_words(manager: Mapping[str, Any]) -> str:
    first, length, total = manager["first"], manager["length"], manager["total"]
    accesses = plural(total, "access")
    if length < total:
        accesses = f"accesses {first:,} to {first + length - 1:,} of {total:,}"
    models = plural(len(manager["models"]), "model")
    if "limit" not in manager:
        return f"Replay of {accesses} of {models}, not run"
    limit = "no limit" if manager["limit"] is None else f"limit {manager['limit']}"
    how = "recorded" if manager["recorded"] else "as the events say"
    return f"Replay of {accesses} of {models} of {manager['step']}, {limit}, {how}"
