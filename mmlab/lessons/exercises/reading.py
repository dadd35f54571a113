"""Scans for the answers to classify, and checks of the predictions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from apache_beam.ml.inference.base import PredictionResult

from mmlab.lessons.digits import scan, true_digit
from mmlab.lessons.exercises.exercise import WrongError
from mmlab.lessons.models import predicted_digit

EACH = 8
"""Scans of each key: the first test digits, none of which looks the same when mirrored."""
_ENOUGH = 6
"""Least scans of `EACH` that a model reads right from its own scanners, not from others."""


def scans_of(keys: Iterable[str], *, like: dict[str, str] | None = None) -> list[tuple[str, Any]]:
    """`EACH` pairs of key and tensor for each of `keys`, with the keys taking turns.

    Args:
      keys: keys of the pairs.
      like: key to the scanner that distorts its scans, for keys that are not in the lessons.
    """
    scanner = like or {}
    keys = list(keys)
    return [(key, scan(scanner.get(key, key), i)) for i in range(EACH) for key in keys]


def require_read(predictions: Sequence[Any], keys: Iterable[str]) -> None:
    """Raise if scans have no prediction, or if another model than the trained one read them.

    Args:
      predictions: outputs of `RunInference` for `scans_of(keys)`.
      keys: keys of the scans.

    Raises:
      WrongError: the message says what was observed.
    """
    came = Counter(key for key, _ in map(_pair, predictions))
    right: dict[str, int] = defaultdict(int)
    for key, result in map(_pair, predictions):
        right[key] += predicted_digit(result) == true_digit(result.example)
    for key in keys:
        if came[key] != EACH:
            raise WrongError(f"Of {key}, {EACH} scans went in and {came[key]} came out.")
    for key in keys:
        if right[key] < _ENOUGH:
            raise WrongError(
                f"Of {key}, {right[key]} of {EACH} scans were read right. The model that was "
                f"trained for them reads {_ENOUGH} or more: another one got them."
            )


def _pair(prediction: Any) -> tuple[str, PredictionResult]:
    match prediction:
        case (str() as key, PredictionResult() as result):
            return key, result
    raise WrongError(
        f"An element of the output is {_shortly(prediction)}: return what RunInference makes, "
        "pairs of a key and a PredictionResult."
    )


def _shortly(value: Any) -> str:
    if isinstance(value, PredictionResult | torch.Tensor):
        return f"a {type(value).__name__}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_shortly, value))})"
    return repr(value)[:60]
