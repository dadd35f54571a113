"""Keeps remarks of Beam about parts that nobody asked for off the first cell."""

from __future__ import annotations

import logging

_REMARKS = {
    "apache_beam.io.filesystems": "Failed to import GCSFileSystem",
    "apache_beam.runners.interactive.interactive_environment": "Dependencies required for",
    "root": "apitools not found",
}


def hold_back_remarks() -> None:
    """Hold back those remarks, and only those, which Beam and its parts make when imported."""
    for name in _REMARKS:
        logger = logging.getLogger(None if name == "root" else name)
        if _is_news not in logger.filters:
            logger.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_REMARKS[record.name])
