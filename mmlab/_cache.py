"""The folder where the lessons keep data and models."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "MMLAB_CACHE"
_RECIPE = "v1"
"""Version of the recipes of data and models; a new one makes old files unused."""


def cache_folder() -> Path:
    """Return the folder for data and models: `$MMLAB_CACHE`, or the user's cache folder.

    Raises:
      OSError: the folder cannot be made; the message names the variable to set.
    """
    import platformdirs

    base = Path(os.environ.get(VARIABLE) or platformdirs.user_cache_path("mmlab"))
    folder = base.expanduser().absolute() / _RECIPE
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise type(problem)(
            problem.errno,
            f"the lessons cannot keep their models there ({problem.strerror}); set the "
            f"environment variable {VARIABLE} to a folder with 300 MB of room",
            str(folder),
        ) from problem
    return folder
