"""Wait for what must happen, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

HUNG_SECONDS = 500
"""Longer than anything takes on a busy machine: only a test that hangs comes to its end."""


def wait_for(condition: Callable[[], Any], seconds: float = HUNG_SECONDS) -> None:
    """Return as soon as `condition` is true; fail when it never is."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.01)
