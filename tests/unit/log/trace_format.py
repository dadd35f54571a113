"""Writes the table of docs/trace-format.md: `python -m tests.unit.log.trace_format`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from mmlab.events import KINDS, Event

PAGE = Path(__file__).parents[3] / "docs" / "trace-format.md"
BEGIN, END = "<!-- begin: generated -->\n", "<!-- end: generated -->\n"


def table() -> str:
    """One row per kind of event: its name, what it means, its members."""
    rows = ["| `event` | meaning | members |", "| --- | --- | --- |"]
    for name, kind in KINDS.items():
        meaning = inspect.getdoc(kind).splitlines()[0].rstrip(".")
        members = ", ".join(f"`{field}`" for field in own_fields(kind)) or "–"
        rows.append(f"| `{name}` | {meaning} | {members} |")
    return "\n".join(rows) + "\n"


def own_fields(kind: type[Event]) -> list[str]:
    return [field for field in kind.__struct_fields__ if field not in Event.__struct_fields__]


def renewed(page: str) -> str:
    """The page with the table of this version."""
    pattern = re.escape(BEGIN) + ".*" + re.escape(END)
    return re.sub(pattern, lambda _: BEGIN + table() + END, page, flags=re.S)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text("utf-8")), "utf-8")
