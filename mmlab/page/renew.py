"""Makes the page without a run anew: `python -m mmlab.page.renew`."""

from __future__ import annotations

import json

from mmlab.page.build import HERE, page

LESSON = HERE / "lesson.json"
"""A run of notebook 04, which `tests.fixtures.lesson_replay` records: the page is never empty."""
FILE = HERE / "replay.html"


def empty_page() -> str:
    """The page that opens what is dropped on it."""
    return page({**json.loads(LESSON.read_text("utf-8")), "opens": True})


if __name__ == "__main__":
    FILE.write_text(empty_page(), encoding="utf-8")
