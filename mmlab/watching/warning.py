"""What the author of a watched pipeline should know."""

from __future__ import annotations


class WatchWarning(UserWarning):
    """Something about the watched pipeline that its author should know."""
