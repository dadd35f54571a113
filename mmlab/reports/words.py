"""Common wording of hints and loads for pictures, tables and sentences."""

from __future__ import annotations

from mmlab._text import plural


def hint_words(hint: int | None) -> str:
    """
    >>> hint_words(2), hint_words(None)
    ('hint 2', 'no hint')
    """
    return "no hint" if hint is None else f"hint {hint}"


def loads_words(loads: int, reloads: int) -> str:
    """
    >>> loads_words(4, 0), loads_words(24, 20)
    ('4 loads', '24 loads (20 reloads)')
    """
    return plural(loads, "load") + (f" ({plural(reloads, 'reload')})" if reloads else "")
