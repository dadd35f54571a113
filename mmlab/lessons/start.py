"""The first line of every lesson: is everything there?"""

from __future__ import annotations

from mmlab.lessons.digits import MAPPING, SCANNERS, scans_file
from mmlab.lessons.models import prepare, weights_file


def start() -> None:
    """Make what the lessons need, with a line per model the first time, and say that it is there.

    Raises:
      OSError: the cache folder cannot be written; the message says which variable moves it.
    """
    prepare(print)
    scans_file()
    megabytes = sum(weights_file(name).stat().st_size for name in MAPPING) / len(MAPPING) / 1e6
    print(
        f"Ready: {len(MAPPING)} models of {megabytes:.0f} MB, digits from {len(SCANNERS)} scanners."
    )
