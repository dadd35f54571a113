"""Every statement of the documentation page is shown by a cell of a notebook."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.lessons import notebook

ROW = re.compile(r"^\| (S\d+) \| .* \| ([\w, ]+) \|$", re.M)
STATEMENTS = ROW.findall(Path(__file__).with_name("page.md").read_text(encoding="utf-8"))
ONLY_LINKS = {"S23"}


def test_the_list_is_whole():
    assert [number for number, _ in STATEMENTS] == [f"S{i}" for i in range(1, 24)]


@pytest.mark.parametrize(("number", "notebooks"), STATEMENTS, ids=[s for s, _ in STATEMENTS])
def test_a_cell_shows_it(number, notebooks):
    for name in notebooks.split(", "):
        tagged = [
            cell
            for cell in notebook.cells(notebook.FOLDER / f"{name}.ipynb")
            if number in cell.metadata.get("tags", ())
        ]
        kind = "markdown" if number in ONLY_LINKS else "code"
        assert any(cell.cell_type == kind for cell in tagged), f"{number} is not shown in {name}"
        assert all(cell.outputs for cell in tagged if cell.cell_type == "code")


def test_no_tag_names_a_statement_that_is_not_there():
    known = {number for number, _ in STATEMENTS}
    for path in notebook.NOTEBOOKS:
        tags = {tag for cell in notebook.cells(path) for tag in cell.metadata.get("tags", ())}
        assert {tag for tag in tags if re.fullmatch(r"S\d+", tag)} <= known
