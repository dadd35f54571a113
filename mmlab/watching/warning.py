"""The category of mmlab's warnings about watched pipelines."""

from __future__ import annotations


class WatchWarning(UserWarning):
    """A problem of a watched pipeline that its author should know about."""
