"""Where screenshots go, and how long a browser is waited for."""

from __future__ import annotations

from pathlib import Path

BUILD = Path(__file__).parents[3] / "build"
"""Where screenshots are kept, to be looked at."""


PATIENCE = 300_000
"""In milliseconds: a busy machine starts a kernel slowly."""
