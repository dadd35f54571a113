"""Exercises of the lesson `sequence_pattern`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam
import torch
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference

from mmlab._text import some
from mmlab.lessons.exercises.exercise import Exercise, WrongError, require_function
from mmlab.lessons.exercises.running import run
from mmlab.lessons.models import handler, predicted_digit
from mmlab.lessons.sequence.models import PIXELS, restorer, sureness
from mmlab.lessons.sequence.scans import first_scans, label_of

_SCANS = 48
_ENOUGH = 40
"""Least digits read right of 48; without restoring the scans, 36 are."""
_BATCH: dict[str, Any] = {"min_batch_size": _SCANS, "max_batch_size": _SCANS}

_PAGES = 24
_TORN = ("scan-007", "scan-016")
_SURE = 0.9
_BORDER = 1e-3
"""Tolerance around `_SURE`: rounding depends on the size of the batch."""
_OUTPUTS = ("digits", "doubtful", "failed")


def _judge_post_processing(some_post_processing: Callable[[Any], Any]) -> str:
    require_function(some_post_processing, "some_post_processing")
    names = [name for name, _ in first_scans(_SCANS)]
    between = run(_up_to_post_processing, some_post_processing).output
    for element in between:
        _require_name_and_pixels(element)
    if Counter(name for name, _ in between) != Counter(names):
        raise WrongError("The names that come out are not those of the scans that went in.")
    if _are_unrestored(between):
        raise WrongError("These are the scans as they were before model A: result.example.")
    read = run(_read_by_config_2, between).output
    right = sum(label_of(name) == predicted_digit(result) for name, result in read)
    if right < _ENOUGH:
        raise WrongError(f"CONFIG_2 reads {right} of {_SCANS} digits right.", hint=2)
    return f"All names are kept, and CONFIG_2 reads {right} of {_SCANS} digits right."


def _up_to_post_processing(pipeline: beam.Pipeline, function: Callable[[Any], Any]) -> Any:
    return (
        pipeline
        | "Scans" >> beam.Create(_tensors(first_scans(_SCANS)), reshuffle=False)
        | "Model A" >> RunInference(KeyedModelHandler(restorer(**_BATCH)))
        | "Post-process" >> beam.Map(function)
    )


def _read_by_config_2(pipeline: beam.Pipeline, pairs: list[tuple[str, torch.Tensor]]) -> Any:
    model: KeyedModelHandler[Any, Any, Any, Any] = KeyedModelHandler(handler("CONFIG_2", **_BATCH))
    scans = pipeline | "Restored" >> beam.Create(pairs, reshuffle=False)
    return scans | "Model B" >> RunInference(model)


def _require_name_and_pixels(element: Any) -> None:
    match element:
        case PredictionResult() | torch.Tensor():
            raise WrongError("The name is gone: return a pair of the scan's name and its pixels.")
        case (_, PredictionResult()):
            raise WrongError("Model B would get a PredictionResult in the place of a tensor.")
        case (str(), torch.Tensor() as pixels) if pixels.shape == (PIXELS,):
            return
    raise WrongError(
        f"It returns {repr(element)[:60]}: return a pair of the scan's name and a tensor of "
        f"{PIXELS} pixels."
    )


def _are_unrestored(between: list[tuple[str, torch.Tensor]]) -> bool:
    before = dict(_tensors(first_scans(_SCANS)))
    return all(
        torch.allclose(pixels, before[name]) or torch.allclose(pixels, 1 - before[name])
        for name, pixels in between
    )


def _judge_nothing_lost(build: Callable[..., Any]) -> str:
    scans = _some_torn()
    outputs = run(build, scans).outputs
    if sorted(outputs) != sorted(_OUTPUTS):
        raise WrongError(f"build returns {_listed(outputs)}; it should be {_listed(_OUTPUTS)}.")
    digits, doubtful, failed = (outputs[name] for name in _OUTPUTS)
    _require_digits(digits)
    _require_names("doubtful", doubtful)
    _require_names("failed", failed)
    _require_each_once([name for name, _ in digits], doubtful, failed, scans)
    _require_only_torn(failed)
    _require_sure({name for name, _ in digits}, set(doubtful))
    right = sum(label_of(name) == digit for name, digit in digits)
    return (
        f"{len(scans)} scans went in and {len(scans)} came out: {len(digits)} digits ({right} of "
        f"them right), {len(doubtful)} doubtful, {len(failed)} failed."
    )


def _some_torn() -> list[tuple[str, torch.Tensor]]:
    scans = dict(_tensors(first_scans(_PAGES)))
    return [(name, pixels[:40] if name in _TORN else pixels) for name, pixels in scans.items()]


def _require_digits(elements: list[Any]) -> None:
    for element in elements:
        match element:
            case (str(), int()):
                continue
        raise WrongError(f"digits holds {repr(element)[:60]}: make pairs of name and digit (int).")


def _require_names(output: str, elements: list[Any]) -> None:
    for element in elements:
        if not isinstance(element, str):
            raise WrongError(f"{output} holds {repr(element)[:60]}: make it names of scans.")


def _require_each_once(
    digits: list[str], doubtful: list[str], failed: list[str], scans: list[tuple[str, Any]]
) -> None:
    counts = Counter([*digits, *doubtful, *failed])
    lost = [name for name, _ in scans if not counts[name]]
    if lost:
        raise WrongError(f"{len(lost)} of {len(scans)} scans are in no output: {_some(lost)}.")
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise WrongError(f"{_some(twice)} came out more than once.")


def _require_only_torn(failed: list[str]) -> None:
    others = sorted(set(failed) - set(_TORN))
    if others:
        raise WrongError(f"{_some(others)} failed with a torn neighbour of its batch.", hint=2)


def _require_sure(sure: set[str], doubtful: set[str]) -> None:
    for name, result in run(_read_by_both).output:
        probability = sureness(result)
        if abs(probability - _SURE) < _BORDER:
            continue
        if name in (doubtful if probability > _SURE else sure):
            where = "doubtful" if name in doubtful else "digits"
            raise WrongError(
                f"{name} is among the {where}: model B gives its digit {probability:.2f}.", hint=2
            )


def _read_by_both(pipeline: beam.Pipeline) -> Any:
    whole = [(name, pixels) for name, pixels in _some_torn() if name not in _TORN]
    return (
        pipeline
        | "Scans" >> beam.Create(whole, reshuffle=False)
        | "Model A" >> RunInference(KeyedModelHandler(restorer(**_BATCH)))
        | "Post-process" >> beam.MapTuple(lambda name, result: (name, result.inference))
        | "Model B" >> RunInference(KeyedModelHandler(handler("CONFIG_1", **_BATCH)))
    )


def _tensors(scans: Iterable[tuple[str, Any]]) -> list[tuple[str, torch.Tensor]]:
    return [(name, torch.from_numpy(pixels)) for name, pixels in scans]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(name or "one PCollection" for name in names))


def _some(names: list[str]) -> str:
    return some(sorted(names), most=3)


EXERCISES = (
    Exercise(
        "sequence_pattern.post_processing",
        _judge_post_processing,
        (
            "What comes in is a pair of name and PredictionResult. Keep the name; what model A "
            "made is result.inference.",
            "CONFIG_2 learned from light ink on dark paper. Ink is 1 and paper is 0: "
            "1 - result.inference turns one into the other.",
        ),
    ),
    Exercise(
        "sequence_pattern.nothing_lost",
        _judge_nothing_lost,
        (
            "RunInference(...).with_exception_handling() returns two things: the results, and an "
            "object whose failed_inferences holds pairs of batch and error. Every scan goes to one "
            "of the three outputs.",
            "Give both handlers min_batch_size=1 and max_batch_size=1, and divide what model B "
            "says with beam.Partition by sequence.sureness(result) < 0.9.",
        ),
    ),
)
