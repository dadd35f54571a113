"""Delay interrupts during work that must be completed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupts_held(every: bool = False) -> Iterator[None]:
    """Delay an interrupt to the end of the block; a second one is raised at once.

    Does nothing outside the main thread, which alone receives interrupts.

    Args:
      every: delay all further interrupts, too, and raise one at the end.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    held: list[Any] = []

    def hold(number: int, frame: Any) -> None:
        if held and not every:
            before(number, frame)
        held.append(frame)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            before(signal.SIGINT, held[0])
