"""Exercises of the lesson `key_mapping`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch

from mmlab.lessons.digits import MAPPING, SCANNERS
from mmlab.lessons.exercises.exercise import Exercise, WrongError
from mmlab.lessons.exercises.reading import EACH, require_read, scans_of
from mmlab.lessons.exercises.running import run

_NEW, _WORKS_LIKE = "KEY_7", "KEY_4"
_KNOWN, _UNKNOWN = ("KEY_1", "KEY_2", "KEY_3"), ("KEY_9", "key_1")


def _judge_new_scanner(build: Callable[..., Any]) -> str:
    keys = [*SCANNERS, _NEW]
    ran = run(build, scans_of(keys, like={_NEW: _WORKS_LIKE}))
    require_read(ran.output, keys)
    loads = ran.trace.summary().loads
    if loads > len(MAPPING):
        twice = [count.model for count in ran.trace.per_model() if _NEW in count.keys]
        raise WrongError(
            f"Every scan is read right, but with {loads} loads, where {len(MAPPING)} models are "
            f"enough: {_NEW} was read by {', '.join(twice)}, which takes room of its own.",
            hint=2,
        )
    return (
        f"{len(keys)} keys, {loads} loads: {_NEW} shares the model of {_WORKS_LIKE}, and every "
        "scanner is read by the model that was trained for it."
    )


def _judge_unknown_keys(build: Callable[..., Any]) -> str:
    unknown = scans_of(_UNKNOWN, like=dict.fromkeys(_UNKNOWN, "KEY_1"))
    ran = run(build, scans_of(_KNOWN) + unknown)
    if set(ran.outputs) != {"read", "unknown"}:
        names = ", ".join(ran.outputs) or "one PCollection"
        raise WrongError(f"build returned {names}: return a dict with 'read' and 'unknown'.")
    _require_no_guess(ran.outputs["read"])
    require_read(ran.outputs["read"], _KNOWN)
    _require_as_they_were(ran.outputs["unknown"], unknown)
    return (
        f"{EACH * len(_KNOWN)} scans are read by the right models. The {len(unknown)} scans of "
        f"{' and '.join(_UNKNOWN)} are kept as they were, and nothing has failed."
    )


def _require_no_guess(read: Iterable[Any]) -> None:
    guessed = sorted({key for key, _ in read} & set(_UNKNOWN)) if _are_pairs(read) else []
    if guessed:
        raise WrongError(
            f"{guessed[0]} came out of 'read': a model read its scans that nobody chose for them.",
            hint=2,
        )


def _require_as_they_were(kept: list[Any], unknown: list[tuple[str, Any]]) -> None:
    if not _are_pairs(kept):
        raise WrongError(
            "'unknown' does not hold pairs of key and tensor, as they came in.", hint=2
        )
    known = sorted({key for key, _ in kept} - set(_UNKNOWN))
    if known:
        raise WrongError(f"'unknown' holds {', '.join(known)}, which the mapping names.")
    if _content(kept) != _content(unknown):
        raise WrongError(
            f"{len(unknown)} scans have a key that no mapping names; {len(kept)} came out of "
            "'unknown', or they are not what came in.",
            hint=2,
        )


def _are_pairs(elements: Iterable[Any]) -> bool:
    return all(isinstance(element, tuple) and len(element) == 2 for element in elements)


def _content(pairs: Iterable[tuple[str, Any]]) -> Counter[tuple[str, str]]:
    return Counter((key, repr(_plain(scan))) for key, scan in pairs)


def _plain(scan: Any) -> Any:
    return scan.tolist() if isinstance(scan, torch.Tensor) else scan


EXERCISES = (
    Exercise(
        "key_mapping.new_scanner",
        _judge_new_scanner,
        (
            "Every key of the data stands in exactly one KeyModelMapping, with the model that was "
            "trained for such scans. Which scanner mirrors, and which model reads it?",
            "One KeyModelMapping is one model in memory, whatever its handler is. Put KEY_7 into "
            "the list that KEY_4 stands in.",
        ),
    ),
    Exercise(
        "key_mapping.unknown_keys",
        _judge_unknown_keys,
        (
            "Whether a key is known is a question to the mapping, not to how the key is written: "
            "collect the keys of lessons.MAPPING in a set, and ask whether the key is in it.",
            "beam.Partition sends each pair to one of two branches. One goes through RunInference; "
            "the other is returned as it is.",
        ),
    ),
)
