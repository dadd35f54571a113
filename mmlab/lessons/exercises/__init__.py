"""Checks of the lessons' exercises, by the behaviour of an answer, with hints."""

from __future__ import annotations

from typing import Any

from mmlab._text import say
from mmlab.lessons.exercises import (
    ab_pattern,
    key_mapping,
    memory_management,
    sequence_pattern,
    start_here,
)
from mmlab.lessons.exercises.exercise import Exercise, Verdict

_LESSONS = (start_here, ab_pattern, sequence_pattern, key_mapping, memory_management)
EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise for lesson in _LESSONS for exercise in lesson.EXERCISES
}
"""Name to exercise, in the order of the lessons."""


def check(name: str, answer: Any) -> Verdict:
    """Check an answer to an exercise by what it does, and return the verdict.

    Args:
      name: name of the exercise.
      answer: what the exercise asks for, usually a function that builds a pipeline.

    Raises:
      ValueError: there is no exercise of that name.
    """
    return _exercise(name).check(answer)


def hint(name: str, number: int = 1) -> None:
    """Print hint 1 or 2 of an exercise.

    Raises:
      ValueError: there is no exercise of that name, or `number` is not 1 or 2.
    """
    say(_exercise(name).hint(number))


def _exercise(name: str) -> Exercise:
    if name not in EXERCISES:
        raise ValueError(f"name must be one of {', '.join(EXERCISES)}, got {name!r}")
    return EXERCISES[name]


__all__ = ["EXERCISES", "Exercise", "Verdict", "check", "hint"]
