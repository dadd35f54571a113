"""Renews `replay.html`, the page for files of the user: `python -m mmlab.page.renew`."""

from __future__ import annotations

from mmlab.events import decode_lines
from mmlab.page.build import HERE, page
from mmlab.page.content import run_content
from mmlab.state import State

LESSON = HERE / "lesson.jsonl"
"""A run of notebook 04, shown until a file is opened: see `tests.fixtures.lesson_replay`."""
_FILE = HERE / "replay.html"


def _empty_page() -> str:
    """Return the page that opens files dropped on it."""
    run = State(decode_lines(LESSON.read_bytes()))
    return page({**run_content(run), "opens": True})


if __name__ == "__main__":
    _FILE.write_text(_empty_page(), encoding="utf-8")
