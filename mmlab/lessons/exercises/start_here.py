"""Exercises of the lesson `start_here`."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference
from apache_beam.pvalue import PCollection

from mmlab._arguments import short
from mmlab.lessons.digits import true_digit
from mmlab.lessons.exercises.exercise import Exercise, WrongError
from mmlab.lessons.exercises.reading import scans_of
from mmlab.lessons.exercises.running import run
from mmlab.lessons.models import mapping

_KEYS = ("KEY_2", "KEY_3", "KEY_5")
_MISREAD = 2
"""Most wrong digits, of 16, that the models' own errors explain."""


def _judge_loads(answer: Any) -> str:
    answer = _counting(answer)
    counts = run(_classify_some).trace.per_model()
    loads = sum(count.loads for count in counts)
    used = [f"{count.model} for {' and '.join(count.keys)}" for count in counts if count.loads]
    if answer != loads:
        hint = 1 if answer > len(_KEYS) else 2
        raise WrongError(f"You say {answer}. We have run it, and counted something else.", hint)
    return f"We have run it: {loads} loads, {', '.join(used)}. The others are never asked for."


def _counting(answer: Any) -> int:
    try:
        if not isinstance(answer, bool):
            return operator.index(answer)
    except TypeError:
        pass
    raise WrongError(f"my_loads must be a number of loads, got {short(answer)}.")


def _classify_some(pipeline: beam.Pipeline) -> PCollection[Any]:
    handler = KeyedModelHandler(mapping())
    pairs: PCollection[Any] = pipeline | beam.Create(scans_of(_KEYS), reshuffle=False)
    results: PCollection[Any] = pairs | RunInference(handler)
    return results


def _judge_digits(build: Callable[..., Any]) -> str:
    scans = scans_of(("KEY_1", "KEY_4"))
    found = run(build, scans).output
    for element in found:
        _require_key_and_digit(element)
    keys = Counter(key for key, _ in found)
    if keys != Counter(key for key, _ in scans):
        raise WrongError(f"{len(scans)} scans went in; what came out is {dict(keys) or 'nothing'}.")
    shown = Counter((key, true_digit(pixels)) for key, pixels in scans)
    wrong = (shown - Counter((key, int(digit)) for key, digit in found)).total()
    if wrong > _MISREAD:
        raise WrongError(f"{wrong} of {len(scans)} digits are not those on the scans.", hint=2)
    return f"{len(scans)} pairs of key and digit, and {len(scans) - wrong} digits are right."


def _require_key_and_digit(element: Any) -> None:
    match element:
        case (str(), digit) if _is_digit(digit):
            return
        case (_, PredictionResult()):
            raise WrongError("The pipeline ends in PredictionResults, not in digits yet.")
        case PredictionResult():
            raise WrongError("The key is gone: an element is a PredictionResult without it.")
    raise WrongError(
        f"An element of the output must be a pair of key and digit, got {repr(element)[:60]}.",
        hint=2,
    )


def _is_digit(value: Any) -> bool:
    try:
        return not isinstance(value, PredictionResult) and int(value) in range(10)
    except (TypeError, ValueError, RuntimeError):
        return False


EXERCISES = (
    Exercise(
        "start_here.loads",
        _judge_loads,
        (
            "Look at the diagram: there are six keys and four models. A model is loaded when the "
            "first scan asks for it.",
            "Two of the three keys go to the same model, and a model is loaded once.",
        ),
    ),
    Exercise(
        "start_here.digits",
        _judge_digits,
        (
            "RunInference makes pairs of key and PredictionResult. Add a beam.Map after it that "
            "takes such a pair, and keep the key.",
            "lessons.predicted_digit(result) is the digit with the highest score. Return the pair "
            "of key and digit.",
        ),
    ),
)
