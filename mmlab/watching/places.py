"""Find out where this process can show pictures."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def shows_by_itself() -> bool:
    """Whether a run is shown by default: in notebooks and terminals.

    False if the packages for drawing are not installed.
    """
    somewhere = in_notebook() or (sys.stderr is not None and sys.stderr.isatty())
    return somewhere and find_spec("matplotlib") is not None
