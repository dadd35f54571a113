"""Exercises of the lesson `memory_management`."""

from __future__ import annotations

import operator
from typing import Any

import apache_beam as beam
import torch
from apache_beam.ml.inference.base import RunInference
from apache_beam.pvalue import PCollection

from mmlab._arguments import short
from mmlab._text import or_none
from mmlab.lessons.digits import MAPPING, distorted, pictures
from mmlab.lessons.exercises.exercise import Exercise, WrongError
from mmlab.lessons.exercises.running import Ran, run
from mmlab.lessons.models import mapping, predicted_digit
from mmlab.transforms import FixedBatches

_MORNING = ["KEY_1", "KEY_2", "KEY_4", "KEY_1", "KEY_3", "KEY_4"]
_AFTERNOON = ["KEY_2", "KEY_4", "KEY_5", "KEY_3", "KEY_4", "KEY_6"]
_DAY = _MORNING + _AFTERNOON
"""Keys of the exercise `smallest_hint`, in order: three models take turns, then three again, of
which two are the same."""

_ROUNDS = ["KEY_3", "KEY_6", "KEY_1", "KEY_4", "KEY_5", "KEY_2"] * 2
"""Keys of the exercise `load_once`, in order: the two keys of one model are far apart."""

_Pair = tuple[str, torch.Tensor]


def _scans(keys: list[str]) -> tuple[list[_Pair], dict[bytes, int]]:
    """Pairs of key and pixels for `keys`, and a dict from pixels to the digit shown."""
    upright, labels = pictures("test")
    pixels = [
        torch.from_numpy(distorted(upright[i : i + 1], key).reshape(64))
        for i, key in enumerate(keys)
    ]
    truth = {tensor.numpy().tobytes(): int(labels[i]) for i, tensor in enumerate(pixels)}
    return list(zip(keys, pixels, strict=True)), truth


def _classify(pipeline: beam.Pipeline, hint: int) -> PCollection[Any]:
    pairs, _ = _scans(_DAY)
    handler = FixedBatches(mapping(), max_models_per_worker_hint=hint)
    read: PCollection[Any] = pipeline | beam.Create(pairs, reshuffle=False)
    results: PCollection[Any] = read | RunInference(handler)
    return results


def _judge_hint(answer: Any) -> str:
    hint = _counting(answer)
    loads, reloads = _loads(run(_classify, hint))
    if reloads:
        raise WrongError(
            f"With hint {hint} there are {loads} loads, {reloads} of them of models that had been "
            "there before."
        )
    if hint > 1:
        loads_below, reloads_below = _loads(run(_classify, hint - 1))
        if not reloads_below:
            raise WrongError(
                f"With hint {hint} each model is loaded once. But so it is with hint {hint - 1}.",
                hint=2,
            )
        below = f" With {hint - 1} there would be {loads_below}."
    else:
        below = ""
    return f"Hint {hint}: {loads} loads, none of them again.{below}"


def _counting(answer: Any) -> int:
    try:
        hint = operator.index(answer)
    except TypeError:
        hint = 0
    if isinstance(answer, bool) or hint < 1:
        raise WrongError(f"The hint must be an integer of at least 1, got {short(answer)}.")
    return hint


def _loads(ran: Ran) -> tuple[int, int]:
    summary = ran.trace.summary()
    return summary.loads, summary.reloads


def _judge_load_once(build: Any) -> str:
    pairs, truth = _scans(_ROUNDS)
    ran = run(build, pairs)
    summary = ran.trace.summary()
    _check_limit(summary.limit)
    _check_results(ran.output, pairs, truth)
    if summary.loads > len(MAPPING):
        # With elements grouped by key there is at most one load per key.
        by_key = summary.loads <= len(set(_ROUNDS))
        raise WrongError(
            f"All results are right, and the models were loaded {summary.loads} times: "
            f"{len(MAPPING)} would do.",
            hint=2 if by_key else 1,
        )
    return (
        f"{len(pairs)} digits, {summary.loads} loads of {len(MAPPING)} models, and never more than "
        f"{summary.most_resident} in memory."
    )


def _check_limit(limit: Any) -> None:
    if limit != 1:
        raise WrongError(
            f"The effective limit was {or_none(limit)}: there is room for one model only. Leave "
            "the hint at 1, and change the order."
        )


def _check_results(output: list[Any], pairs: list[_Pair], truth: dict[bytes, int]) -> None:
    """Raise unless each pair has one result, with its own key, and most digits are right."""
    if len(output) != len(pairs):
        raise WrongError(f"{len(pairs)} scans went in, and {len(output)} results came out.", hint=2)
    keys = {tensor.numpy().tobytes(): key for key, tensor in pairs}
    seen = set()
    right = 0
    for key, result in output:
        pixels = result.example.numpy().tobytes()
        if keys.get(pixels) != key:
            raise WrongError("A result has another key than its scan.", hint=2)
        seen.add(pixels)
        right += predicted_digit(result) == truth[pixels]
    if len(seen) != len(pairs):
        raise WrongError("Some scans were classified twice, others not at all.", hint=2)
    if right < 0.8 * len(pairs):
        raise WrongError(f"Only {right} of {len(pairs)} digits are right: which model got which?")


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        "memory_management.smallest_hint",
        _judge_hint,
        (
            "Write the model under each key. How many different models lie between one use of a "
            "model and its next use?",
            "Four models are used in the whole day, but never four in turn. In the morning, and in "
            "the afternoon, three take turns.",
        ),
    ),
    Exercise(
        "memory_management.load_once",
        _judge_load_once,
        (
            "Elements of one model have to come one after the other. A step before RunInference "
            "can see to that.",
            "GroupByKey groups by key, gives lists, and two keys share a model. "
            "mmlab.GroupByModel(keyed_model_handler) groups by model and gives back the pairs.",
        ),
    ),
)
