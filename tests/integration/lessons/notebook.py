"""Reads the lessons' notebooks: their cells, and the answers that stand folded in them."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import nbformat

FOLDER = Path(__file__).parents[3] / "notebooks"
NOTEBOOKS = tuple(sorted(FOLDER.glob("[0-9]*.ipynb")))

CHECK = re.compile(r"lessons\.check\(\s*['\"]([\w.]+)['\"]\s*,\s*(\w+)\s*\)\s*$")
SOLUTION = re.compile(r"<details>\s*<summary>Solution</summary>\s*```python\n(.*?)```", re.S)
SHELL = re.compile(r"^(\s*)[!%].*$", re.M)


@functools.cache
def cells(path: Path) -> list[Any]:
    return nbformat.read(path, as_version=4).cells


def stubs(path: Path) -> dict[str, str]:
    """Exercise to the source of its stub: the cell that ends in `lessons.check('name', answer)`."""
    found = {}
    for cell in cells(path):
        match = CHECK.search(cell.source.strip()) if cell.cell_type == "code" else None
        if match:
            found[match[1]] = cell.source
    return found


def solutions(path: Path) -> dict[str, str]:
    """Exercise to its folded solution, which stands in the first solution cell after the stub."""
    found: dict[str, str] = {}
    waiting = None
    for cell in cells(path):
        if cell.cell_type == "code" and (match := CHECK.search(cell.source.strip())):
            waiting = match[1]
        elif waiting and (match := SOLUTION.search(cell.source)):
            found[waiting] = match[1]
            waiting = None
    return found


def verdict(path: Path, source: str) -> Any:
    """What `lessons.check` says to an answer, given after the set-up cell and nothing else.

    Args:
      path: the notebook.
      source: a stub, a solution or a wrong answer; `lessons.check` is its last line.
    """
    setup = next(cell for cell in cells(path) if cell.cell_type == "code")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(SHELL.sub(r"\1pass", setup.source), f"{path.stem}: set-up", "exec"), namespace)
    *answer, check = source.strip().split("\n")
    exec(compile("\n".join(answer), f"{path.stem}: answer", "exec"), namespace)
    return eval(check, namespace)


def assert_incorrect(verdict: Any, seen: str, hint: int) -> None:
    """A wrong answer is told what was seen, and given the hint that helps on from there."""
    assert verdict.outcome == "incorrect", verdict
    assert seen in verdict.message, verdict
    assert verdict.hint.startswith(f"Hint {hint}:"), verdict
