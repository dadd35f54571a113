"""Numbers of a prediction in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmlab._text import plural

if TYPE_CHECKING:
    from mmlab.prediction.result import Prediction

ROUTING_WORDS = {
    "spray": "sprayed",
    "by_key": "routed by key",
    "by_model": "routed by model",
    "recorded": "as recorded",
}


def bytes_words(n: float) -> str:
    """
    >>> bytes_words(64_100_000), bytes_words(3_210_000_000), bytes_words(80)
    ('64 MB', '3.21 GB', '80 bytes')
    """
    if n >= 1e9:
        return f"{n / 1e9:,.2f} GB"
    return f"{n / 1e6:,.0f} MB" if n >= 1e6 else f"{n:,.0f} bytes"


def seconds_words(seconds: float) -> str:
    """
    >>> seconds_words(0.25), seconds_words(900), seconds_words(9000)
    ('0.2 s', '15 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:,.1f} s" if seconds < 10 else f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def fleet_words(p: Prediction) -> str:
    """Who does the work, and how elements get there."""
    batches = {1: "batches of 1", None: "batches as recorded"}.get(
        p.batch_size, f"batches of {p.batch_size}"
    )
    managers = p.workers * p.processes
    if managers == 1:
        who = "one process"
    elif p.processes == 1:
        who = f"{plural(p.workers, 'machine')}, {ROUTING_WORDS[p.routing]}"
    else:
        who = (
            f"{plural(p.workers, 'machine')} × {plural(p.processes, 'process')}, "
            f"{ROUTING_WORDS[p.routing]}"
        )
    copies = f", limit = hint × {p.copies}" if p.copies > 1 else ""
    return f"{who}, {batches}{copies}"
