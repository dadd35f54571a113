"""Suppress log messages of Beam's import about optional parts that are not used."""

from __future__ import annotations

import logging

_REMARKS = {
    "apache_beam.io.filesystems": "Failed to import GCSFileSystem",
    "apache_beam.runners.interactive.interactive_environment": "Dependencies required for",
    "root": "apitools not found",
}


def hold_back_remarks() -> None:
    """Suppress those messages of Beam and its parts, and no others."""
    for name in _REMARKS:
        logger = logging.getLogger(None if name == "root" else name)
        if _is_news not in logger.filters:
            logger.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_REMARKS[record.name])
