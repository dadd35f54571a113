"""Counts in words."""

from __future__ import annotations


def plural(n: int, one: str, many: str | None = None) -> str:
    """`n` things, in words.

    >>> plural(1, "load"), plural(1200, "load"), plural(2, "batch"), plural(0, "process")
    ('1 load', '1,200 loads', '2 batches', '0 processes')
    """
    return f"{n:,} {one}" if n == 1 else f"{n:,} {many or one + ('es' if one[-1] in 'sh' else 's')}"
