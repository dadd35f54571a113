"""Wrong answers to the exercises of `00_start_here`, and the hints that they get."""

from __future__ import annotations

import re

import pytest

from mmlab import lessons
from tests.integration.lessons import notebook

PATH = notebook.FOLDER / "00_start_here.ipynb"


@pytest.mark.parametrize(
    ("answer", "seen", "hint"),
    [(3, "You say 3", 2), (6, "You say 6", 1), ("two", "a number of loads", 1)],
)
@pytest.mark.runs
def test_loads(answer, seen, hint):
    verdict = lessons.check("start_here.loads", answer)
    notebook.assert_incorrect(verdict, seen, hint)


BUILD = """
def answer(pipeline, scans):
    handler = KeyedModelHandler(lessons.mapping())
    predictions = pipeline | beam.Create(scans) | RunInference(handler)
    return predictions | beam.MapTuple(lambda key, result: {result})
"""


@pytest.mark.parametrize(
    ("result", "seen", "hint"),
    [
        ("(key, result)", "ends in PredictionResults", 1),
        ("lessons.predicted_digit(result)", "must be a pair of key and digit", 2),
        ("(key, int(result.inference.argmin()))", "digits are not those on the scans", 2),
        ("(key, result.inference)", "must be a pair of key and digit", 2),
        ("('KEY_1', lessons.predicted_digit(result))", "16 scans went in", 1),
    ],
)
@pytest.mark.runs
def test_digits(result, seen, hint):
    source = BUILD.replace("{result}", result)
    verdict = notebook.verdict(
        PATH, f"{source.rstrip()}\nlessons.check('start_here.digits', answer)"
    )
    notebook.assert_incorrect(verdict, seen, hint)


ROW = re.compile(r"^\| \[.+?\]\((\w+\.ipynb)\) \| (\d+) \|", re.M)


def test_the_table_of_lessons_says_the_minutes_that_they_say():
    table = "\n".join(cell.source for cell in notebook.cells(PATH))
    minutes = dict(ROW.findall(table))
    for path in notebook.NOTEBOOKS:
        if path != PATH:
            says = re.search(r"\*\*Time\*\* (\d+) minutes", notebook.cells(path)[0].source)
            assert minutes[path.name] == says[1], path.name
