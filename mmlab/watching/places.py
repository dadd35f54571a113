"""Where this process runs, as far as its pictures are concerned."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def shows_by_itself() -> bool:
    """Whether a run is shown without being asked for: in notebooks and terminals.

    Not where what draws is not installed.
    """
    somewhere = in_notebook() or (sys.stderr is not None and sys.stderr.isatty())
    return somewhere and find_spec("matplotlib") is not None
