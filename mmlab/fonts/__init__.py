"""The fonts of our pictures: where they are, how wide their text is, and what they cannot draw."""

from __future__ import annotations

import json
import unicodedata
from bisect import bisect_right
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
FAMILY = "mmlab Sans"
WIDE_FAMILY = "mmlab Sans CJK"
WIDE_FILE = HERE / "mmlab-sans-cjk.otf"
OURS = ("mmlab-sans.ttf", "mmlab-sans-bold.ttf", WIDE_FILE.name)
SVG_FAMILIES = (
    "Arial, Liberation Sans, Helvetica, Arimo, Noto Sans CJK KR, Apple SD Gothic Neo, "
    "Malgun Gothic, Hiragino Sans, Yu Gothic, PingFang SC, Microsoft YaHei, Noto Sans, sans-serif"
)
"""For a browser: Arial or its match, then families of Linux, macOS and Windows for Hangul, Kana and
Han. All of these have Greek and Cyrillic."""
_SHAPED = {"R", "AL", "AN"}
"""Bidirectional classes of scripts that run from right to left, whose letters must be joined."""


def files() -> list[str]:
    """Our fonts, in the order in which they are asked for a character."""
    found = find_spec("matplotlib")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("fonts of diagrams come with matplotlib", name="matplotlib")
    theirs = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"
    ours = (HERE / name for name in OURS)
    return [str(path) for path in (*ours, theirs / "DejaVuSans.ttf") if path.is_file()]


def drawable(text: str) -> str:
    """`text` with a readable escape for each character that our pictures cannot show.

    These are characters that are not in our fonts (emoji), that need shaping (Arabic, Devanagari),
    or that are invisible (a zero width space).

    >>> drawable("한글 ΔЖ 漢字"), drawable("T-🦖"), drawable("a\\u200b")
    ('한글 ΔЖ 漢字', 'T-<U+1F996>', 'a<U+200B>')
    """
    if text.isascii() and text.isprintable():
        return text
    text = unicodedata.normalize("NFC", text)
    return "".join(c if c == " " or _has(c) else f"<U+{ord(c):04X}>" for c in text)


@lru_cache(maxsize=4096)
def _has(character: str) -> bool:
    if unicodedata.category(character)[0] == "C":
        return False
    if unicodedata.bidirectional(character) in _SHAPED:
        return False
    return _advance(character, "dejavu") is not None or _advance(character, "wide") is not None


def is_latin(text: str) -> bool:
    """Whether DejaVu Sans has all of it, which has Greek and Cyrillic as well.

    >>> is_latin("Ж → é"), is_latin("한글 A")
    (True, False)
    """
    return text.isascii() or all(_advance(c, "dejavu") is not None for c in text if c.isprintable())


def width(text: str, size: float, *, bold: bool = False) -> float:
    """How wide `text` is in a diagram, in the unit of `size`.

    >>> width("iiii", 10), width("한", 10)
    (8.92, 9.2)
    """
    order = ("bold" if bold else "regular", "wide", "dejavu")
    total = 0
    for character in text:
        found = (_advance(character, font) for font in order)
        total += next((advance for advance in found if advance is not None), 600)
    return total * size / 1000


@lru_cache(maxsize=1 << 16)
def _advance(character: str, font: str) -> int | None:
    """In thousandths of an em; None where the font has no such character."""
    firsts, runs = _widths()[font]
    place = bisect_right(firsts, ord(character)) - 1
    if place < 0:
        return None
    first, count, advance = runs[place]
    return advance if ord(character) < first + count else None


@cache
def _widths() -> dict[str, tuple[list[int], list[list[int]]]]:
    kept = json.loads((HERE / "widths.json").read_text("ascii"))
    return {font: ([run[0] for run in runs], runs) for font, runs in kept.items()}
