"""Every lesson has the same parts and is stored clean, and the solutions in it are right."""

from __future__ import annotations

import json
import re

import pytest

from mmlab.lessons.exercises import EXERCISES
from tests.integration.lessons import notebook

LESSONS = tuple(path for path in notebook.NOTEBOOKS if path.name < "05")
SOLVED = [(path, name) for path in LESSONS for name in notebook.stubs(path)]

QUESTION = re.compile(r"^\*\*(\d)\. .+?(?=^\*\*\d\. |\Z)", re.M | re.S)
CHOICE = re.compile(r"<details><summary>(.+?)</summary>\s*(.+?)\s*</details>", re.S)


def named(value):
    return getattr(value, "stem", value)


def code(path):
    return [cell for cell in notebook.cells(path) if cell.cell_type == "code"]


def text(path):
    return "\n\n".join(c.source for c in notebook.cells(path) if c.cell_type == "markdown")


@pytest.mark.parametrize("path", notebook.NOTEBOOKS, ids=named)
def test_it_begins_with_what_a_learner_wants_to_know(path):
    head = notebook.cells(path)[0].source
    assert re.match(r"# .+\n", head)
    for part in ("**You will be able to**", "**Time**", "minutes", "**You need**", "**Mirrors**"):
        assert part in head, part
    others = [other.name for other in notebook.NOTEBOOKS]
    here = others.index(path.name)
    for neighbour in others[max(here - 1, 0) : here] + others[here + 1 : here + 2]:
        assert f"]({neighbour})" in head, f"no link to {neighbour}"


@pytest.mark.parametrize("path", notebook.NOTEBOOKS, ids=named)
def test_it_begins_with_the_same_set_up_cell(path):
    here, there = (code(p)[0].source for p in (path, LESSONS[0]))
    assert here == there
    assert here.count("\n") < 6
    hidden = {"cellView": "form", "jupyter": {"source_hidden": True}}
    assert code(path)[0].metadata == hidden


@pytest.mark.parametrize("path", notebook.NOTEBOOKS, ids=named)
def test_it_is_stored_clean(path):
    stored = json.loads(path.read_text(encoding="utf-8"))
    whole = json.dumps(stored)
    for stain in ("/work/", "/root/", "/home/", "/tmp/", "Warning:", "WARNING", "Traceback"):
        assert stain not in whole, stain
    assert set(stored["metadata"]) == {"kernelspec", "language_info"}
    setup = next(cell for cell in stored["cells"] if cell["cell_type"] == "code")
    for cell in stored["cells"]:
        known = {"tags", "jupyter"} | ({"cellView"} if cell is setup else set())
        assert set(cell["metadata"]) <= known, cell["metadata"]
        for output in cell.get("outputs", ()):
            assert output.get("name") != "stderr", output
            assert output["output_type"] != "error"
    counts = [c["execution_count"] for c in stored["cells"] if c["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1)), "run it from top to bottom"
    assert len(stored["cells"]) <= 42


@pytest.mark.parametrize("path", notebook.NOTEBOOKS, ids=named)
def test_what_answers_a_guess_is_folded_until_it_runs(path):
    answers = {cell.id: cell for cell in code(path) if "guess" in cell.metadata.get("tags", ())}
    assert answers
    for cell in code(path):
        folded = cell.metadata.get("jupyter", {}).get("outputs_hidden", False)
        assert folded == (cell.id in answers), cell.source
        assert cell.outputs or not folded
        assert folded or not cell.outputs or "my_guess" not in cell.source, cell.source


@pytest.mark.parametrize("path", LESSONS, ids=named)
def test_it_ends_with_take_aways_and_a_quiz_that_explains_every_choice(path):
    words = text(path)
    assert "## Take-aways" in words
    quiz = words.split("## Quiz\n")[1]
    questions = [match[0] for match in QUESTION.finditer(quiz)]
    assert len(questions) == 3
    for question in questions:
        explanations = [explanation for _, explanation in CHOICE.findall(question)]
        assert len(explanations) >= 3
        assert all(len(explanation) > 20 for explanation in explanations)
        assert sum(explanation.startswith("**Yes.**") for explanation in explanations) == 1
        assert sum(explanation.startswith("**No.**") for explanation in explanations) >= 2


@pytest.mark.parametrize("path", LESSONS, ids=named)
def test_it_has_two_exercises_or_more(path):
    stubs, solutions = notebook.stubs(path), notebook.solutions(path)
    assert len(stubs) >= 2
    assert list(stubs) == list(solutions)
    assert list(stubs) == [name for name in EXERCISES if name.startswith(path.stem[3:] + ".")]


@pytest.mark.parametrize(("path", "name"), SOLVED, ids=named)
def test_the_untouched_stub_is_not_attempted(path, name):
    assert notebook.verdict(path, notebook.stubs(path)[name]).outcome == "not attempted"


@pytest.mark.parametrize(("path", "name"), SOLVED, ids=named)
@pytest.mark.runs
def test_the_folded_solution_is_correct(path, name):
    check = notebook.stubs(path)[name].strip().split("\n")[-1]
    verdict = notebook.verdict(path, f"{notebook.solutions(path)[name].rstrip()}\n{check}")
    assert verdict.outcome == "correct", verdict
