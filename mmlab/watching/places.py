"""Where this process runs, as far as its pictures are concerned."""

from __future__ import annotations

import sys


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def shows_by_itself() -> bool:
    """Whether a run is shown without being asked for: in notebooks and terminals."""
    return in_notebook() or (sys.stderr is not None and sys.stderr.isatty())
