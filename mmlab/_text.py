"""Text for output: numbers in words, wrapped and shortened lines."""

from __future__ import annotations

import functools
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

_Class = TypeVar("_Class", bound=type)

_WIDTH = 92
"""Columns of text that fit in the output of a notebook cell, on a laptop and on a projector."""

_PLAIN = {"→": "->", "×": "x", "·": "|", "…": "...", "–": "-", "−": "-", "✓": "+", "✗": "x"}
"""ASCII replacements for mmlab's own characters, for outputs that cannot show them."""


def shown(text: str, stream: Any = None) -> str:
    """Return `text` as a stream (None: standard output) can show it; other characters are escaped.

    >>> import io
    >>> ascii = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    >>> shown("hint → limit", ascii), shown("café", ascii)
    ('hint -> limit', 'caf\\\\xe9')
    """
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    if text.isascii() or _fits(text, encoding):
        return text
    return "".join(c if _fits(c, encoding) else _PLAIN.get(c) or _escaped(c) for c in text)


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    except (LookupError, TypeError):  # no encoding, or unknown to Python
        return True
    return True


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode()


def shown_everywhere(cls: _Class) -> _Class:
    """Make `str` and `repr` of a class return text that standard output can show; see `shown`."""
    for name in ("__str__", "__repr__"):
        if name in vars(cls):
            setattr(cls, name, _shown_text(vars(cls)[name]))
    return cls


def _shown_text(method: Callable[[Any], str]) -> Callable[[Any], str]:
    @functools.wraps(method)
    def text(self: Any) -> str:
        return shown(method(self))

    text.fits_every_output = True  # type: ignore[attr-defined]  # a mark for tests
    return text


def say(text: str, *, at_once: bool = False, to: Any = None) -> None:
    """Print `text` on any output.

    Args:
      at_once: flush the output, as for the progress of long work.
      to: a stream; None is standard output.
    """
    print(shown(text, to), flush=at_once, file=to)


def wrapped(text: str, *, indent: str = "", hanging: str = "") -> str:
    """Wrap text between words at `_WIDTH` columns, because a notebook breaks inside words.

    Args:
      indent: prefix of the first output line of each line of `text`.
      hanging: prefix of its further output lines.

    >>> wrapped("one line\\nand another", indent="- ")
    '- one line\\n- and another'
    """
    wrap = functools.partial(
        textwrap.fill, width=_WIDTH, initial_indent=indent, subsequent_indent=hanging,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return "\n".join(wrap(line) if line.strip() else line for line in text.split("\n"))


def plural(n: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun.

    >>> plural(1, "load"), plural(1200, "load"), plural(2, "batch"), plural(0, "process")
    ('1 load', '1,200 loads', '2 batches', '0 processes')
    """
    return f"{n:,} {one}" if n == 1 else f"{n:,} {many or one + ('es' if one[-1] in 'sh' else 's')}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """List names in a sentence, at most `most` of them.

    >>> listed(["a", "b", "c"], most=2)
    'a, b, … (3 in all)'
    """
    if len(names) <= most:
        return ", ".join(map(str, names))
    return f"{', '.join(map(str, names[:most]))}, … ({len(names)} in all)"


def some(names: Sequence[str], most: int) -> str:
    """List the first `most` names and the number of the others.

    >>> some(["A", "B"], most=2), some(["A", "B", "C", "D"], most=2)
    ('A, B', 'A, B and 2 more')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def joined(names: Iterable[str]) -> str:
    """List all names in a sentence.

    >>> joined(["A"]), joined(["A", "B", "C"]), joined([])
    ('A', 'A, B and C', '')
    """
    *first, last = list(names) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def columns(text: str) -> int:
    """Return the width in terminal columns: two for Hangul and emoji.

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
    """Return the beginning of `text`, at most `width` columns.

    >>> head("한글 키", 5)
    '한글 '
    """
    used = 0
    for place, character in enumerate(text):
        used += columns(character)
        if used > width:
            return text[:place]
    return text


def without_middle(text: str, width: int, last: int | None = None) -> str:
    """Shorten `text` to at most `width` columns by leaving out its middle.

    Args:
      last: columns to keep at the end; None for half of them.

    >>> without_middle("gs://bucket/models/classifier_v1.pt", 20)
    'gs://buck…fier_v1.pt'
    >>> without_middle("a model with a long name", 16, last=8), without_middle("short", 5)
    ('a model…ong name', 'short')
    """
    if columns(text) <= width:
        return text
    first = head(text, (width - 1) // 2 if last is None else width - 1 - last)
    end = head(text[::-1], width - 1 - columns(first) if last is None else last)[::-1]
    return f"{first}…{end}"


def named(name: str) -> str:
    """Return the name of a key or model for a picture; an invisible one is described.

    >>> named("KEY_1"), named(""), named("  ")
    ('KEY_1', '(empty)', '(blank)')
    """
    return name if name.strip() else "(blank)" if name else "(empty)"


def in_bytes(n: float, decimals: int = 2) -> str:
    """
    >>> in_bytes(64_100_000), in_bytes(3_210_000_000), in_bytes(80), in_bytes(3.21e9, decimals=1)
    ('64 MB', '3.21 GB', '80 bytes', '3.2 GB')
    """
    if n >= 1e9:
        return f"{n / 1e9:,.{decimals}f} GB"
    return in_megabytes(n) if n >= 1e6 else f"{n:,.0f} bytes"


def in_megabytes(n: float) -> str:
    """Format bytes in megabytes, for figures that share a unit.

    >>> in_megabytes(64_100_000), in_megabytes(3_210_000_000)
    ('64 MB', '3,210 MB')
    """
    return f"{n / 1e6:,.0f} MB"


def megabytes(n: object) -> int | None:
    """Round bytes to whole megabytes; None if not known.

    >>> megabytes(64_100_000), megabytes(None)
    (64, None)
    """
    return round(n / 1e6) if isinstance(n, int) else None


def or_none(value: object) -> str:
    """Return a value as text, with "none" for None.

    >>> or_none(2), or_none(None)
    ('2', 'none')
    """
    return "none" if value is None else str(value)
