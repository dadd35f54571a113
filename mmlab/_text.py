"""Counts in words, and words that fit."""

from __future__ import annotations

import unicodedata


def plural(n: int, one: str, many: str | None = None) -> str:
    """`n` things, in words.

    >>> plural(1, "load"), plural(1200, "load"), plural(2, "batch"), plural(0, "process")
    ('1 load', '1,200 loads', '2 batches', '0 processes')
    """
    return f"{n:,} {one}" if n == 1 else f"{n:,} {many or one + ('es' if one[-1] in 'sh' else 's')}"


def columns(text: str) -> int:
    """Width in terminal columns: Hangul and emoji take two.

    >>> columns("abc"), columns("한글")
    (3, 4)
    """
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def head(text: str, width: int) -> str:
    """The beginning of `text`, at most `width` columns.

    >>> head("한글 키", 5)
    '한글 '
    """
    used = 0
    for place, character in enumerate(text):
        used += columns(character)
        if used > width:
            return text[:place]
    return text


def named(name: str) -> str:
    """A key or model as a picture shows it: an invisible one is described.

    >>> named("KEY_1"), named(""), named("  ")
    ('KEY_1', '(empty)', '(blank)')
    """
    return name if name.strip() else "(blank)" if name else "(empty)"


def in_bytes(n: float) -> str:
    """
    >>> in_bytes(64_100_000), in_bytes(3_210_000_000), in_bytes(80)
    ('64 MB', '3.21 GB', '80 bytes')
    """
    if n >= 1e9:
        return f"{n / 1e9:,.2f} GB"
    return f"{n / 1e6:,.0f} MB" if n >= 1e6 else f"{n:,.0f} bytes"


def or_none(value: object) -> str:
    """A number as sentences write it, where there may be none.

    >>> or_none(2), or_none(None)
    ('2', 'none')
    """
    return "none" if value is None else str(value)
