"""Keeps remarks of Beam about parts that nobody asked for off the first cell."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

REMARKS = {
    "apache_beam.io.filesystems": "Failed to import GCSFileSystem",
    "apache_beam.runners.interactive.interactive_environment": "Dependencies required for",
    "root": "apitools not found",
}


@contextmanager
def without_import_noise() -> Iterator[None]:
    """Hold back those remarks, and only those, while Beam or a part of it is imported."""

    def is_news(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(REMARKS[record.name])

    loggers = [logging.getLogger(None if name == "root" else name) for name in REMARKS]
    for logger in loggers:
        logger.addFilter(is_news)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_news)
