"""What any exercise does with any answer."""

from __future__ import annotations

import apache_beam as beam
import pytest

from mmlab import lessons
from mmlab.lessons.exercises.exercise import Exercise, UntouchedError, WrongError
from mmlab.lessons.exercises.running import run


def judge(answer):
    if answer == "untouched":
        raise UntouchedError
    if answer == "wrong":
        raise WrongError("Seen <b>this</b>.", hint=2)
    if answer == "broken":
        raise KeyError("Z")
    return "Well done."


EXERCISE = Exercise("test.exercise", judge, ("look again", "write 4"))


def test_three_outcomes():
    assert repr(EXERCISE.check("right")) == "Correct. Well done."
    assert repr(EXERCISE.check("wrong")) == "Incorrect. Seen <b>this</b>.\nHint 2: write 4"
    assert EXERCISE.check("untouched").outcome == "not attempted"
    broken = EXERCISE.check("broken")
    assert repr(broken) == "Incorrect. It stopped with KeyError: 'Z'\nHint 1: look again"


def test_html_is_escaped():
    html = EXERCISE.check("wrong")._repr_html_()
    assert "&lt;b&gt;this&lt;/b&gt;" in html and "Hint 2: write 4" in html


def nothing(pipeline):
    """Only words."""


def half(pipeline):
    return pipeline | ...


def inner(pipeline):
    return list(map(lambda x: ..., [pipeline]))


@pytest.mark.parametrize("answer", [None, ..., {"a": ...}, [1, None], nothing, half, inner])
def test_what_still_holds_dots_is_not_attempted(answer):
    assert EXERCISE.check(answer).outcome == "not attempted"


def something(pipeline):
    return pipeline


@pytest.mark.parametrize("answer", [0, "", {"a": 1}, [], something])
def test_what_does_something_is_judged(answer):
    assert EXERCISE.check(answer).outcome == "correct"


def test_unknown_names_and_hints_say_what_there_is():
    with pytest.raises(ValueError, match="name must be one of .*, got 'x.y'"):
        lessons.check("x.y", 1)
    with pytest.raises(ValueError, match="number must be 1 or 2, got 3"):
        EXERCISE.hint(3)


def two(pipeline):
    numbers = pipeline | beam.Create([1, 2, 3], reshuffle=False)
    return {"all": numbers, "doubled": numbers | beam.Map(lambda n: 2 * n)}


@pytest.mark.runs
def test_outputs_are_kept_by_name():
    assert run(two).outputs == {"all": [1, 2, 3], "doubled": [2, 4, 6]}
    assert run(lambda pipeline: two(pipeline)["all"]).output == [1, 2, 3]


def test_a_build_that_adds_or_returns_nothing():
    with pytest.raises(UntouchedError):
        run(lambda pipeline: 3)
    with pytest.raises(WrongError, match="build returned int"):
        run(lambda pipeline: len([pipeline | beam.Create([1])]))
