"""Numbers of a prediction in words."""

from __future__ import annotations

from mmlab._text import plural

ROUTING_WORDS = {
    "spray": "sprayed",
    "by_key": "routed by key",
    "by_model": "routed by model",
    "recorded": "as recorded",
}


def seconds_words(seconds: float) -> str:
    """
    >>> seconds_words(0.25), seconds_words(900), seconds_words(9000)
    ('0.2 s', '15 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:,.1f} s" if seconds < 10 else f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def fleet_words(
    workers: int, processes: int, routing: str, batch_size: int | None, copies: int
) -> str:
    """Who does the work, and how elements get there."""
    batches = {1: "batches of 1", None: "batches as recorded"}.get(
        batch_size, f"batches of {batch_size}"
    )
    managers = workers * processes
    if managers == 1:
        who = "one process"
    elif processes == 1:
        who = f"{plural(workers, 'machine')}, {ROUTING_WORDS[routing]}"
    else:
        who = (
            f"{plural(workers, 'machine')} × {plural(processes, 'process')}, "
            f"{ROUTING_WORDS[routing]}"
        )
    copies = f", limit = hint × {copies}" if copies > 1 else ""
    return f"{who}, {batches}{copies}"
