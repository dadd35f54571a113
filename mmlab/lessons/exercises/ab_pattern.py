"""Exercises of the lesson `ab_pattern`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
import cloudpickle
import numpy as np
import pyarrow.parquet as pq
import torch
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference

from mmlab.lessons import ab
from mmlab.lessons.ab.tables import elements_of
from mmlab.lessons.exercises.exercise import Exercise, WrongError, require_function
from mmlab.lessons.exercises.running import run

_MADE_UP_IDS = tuple(f"sheet {n // 7:x}/{'abcdefg'[n % 7]}" for n in range(3000))
_MOST_FOR_B = 160
"""Most digits for model B, a third of all."""
_LEAST_RIGHT = 431
"""Digits that B alone reads right."""

_ELSEWHERE = """
import os, sys, cloudpickle
answers = os.fdopen(os.dup(1), 'wb')
os.dup2(2, 1)  # what the function prints
side, digits = cloudpickle.load(sys.stdin.buffer)
answers.write(cloudpickle.dumps([side(digit, 2) for digit in digits]))
answers.close()
"""


def _judge_split(side: Callable[[tuple[str, torch.Tensor], int], int]) -> str:
    require_function(side, "side")
    digits = list(_digits().items())[:60]
    sides = [side(digit, 2) for digit in digits]
    _check_sides(digits, sides)
    _check_only_the_id_decides(side, digits, sides)
    _check_share([side((name, digits[0][1]), 2) for name in _MADE_UP_IDS])
    _check_another_process(side, digits, sides)

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        read = pipeline | beam.Create(list(_digits().items()), reshuffle=False)
        parts = read | beam.Partition(side, 2)  # type: ignore[arg-type]  # a function will do
        return {
            name: part | name >> RunInference(KeyedModelHandler(ab.handler(name)))
            for name, part in zip("AB", parts, strict=True)
        }

    counts = {name: len(answers) for name, answers in run(build).outputs.items()}
    return (
        f"A answers {counts['A']} digits and B {counts['B']}; the same id goes to the same side, "
        "in another process too."
    )


def _check_sides(digits: Sequence[tuple[str, Any]], sides: Sequence[Any]) -> None:
    for (name, _), chosen in zip(digits, sides, strict=True):
        if isinstance(chosen, float) or chosen not in (0, 1):
            raise WrongError(f"For {name} it must return 0 for A or 1 for B, got {chosen!r}.")


def _check_only_the_id_decides(
    side: Callable[..., int], digits: Sequence[tuple[str, torch.Tensor]], sides: Sequence[int]
) -> None:
    for (name, pixels), chosen in zip(reversed(digits), reversed(sides), strict=True):
        again = side((name, pixels), 2)
        if again != chosen:
            raise WrongError(f"Asked twice for {name}, it said {chosen} and then {again}.")
    for (name, pixels), chosen in zip(digits, sides, strict=True):
        other = side((name, 1 - pixels), 2)
        if other != chosen:
            raise WrongError(
                f"{name} goes to side {chosen}, and with another picture to side {other}: only "
                "the id may decide."
            )


def _check_share(sides: Sequence[int]) -> None:
    per_cent = 100 * sum(sides) / len(sides)
    if not 17 <= per_cent <= 23:
        raise WrongError(
            f"Of {len(sides)} other ids, such as {_MADE_UP_IDS[9]!r}, {per_cent:.0f} in 100 go to "
            "B: expected 20.",
            hint=2,
        )


def _check_another_process(
    side: Callable[..., int], digits: Sequence[tuple[str, Any]], sides: Sequence[int]
) -> None:
    """Raise if sides differ in another process: Python salts `hash()` of text per process."""
    plain = [(name, np.zeros(64, dtype=np.float32)) for name, _ in digits]
    for salt in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", _ELSEWHERE],
            input=cloudpickle.dumps((side, plain)),
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            timeout=60,
        )
        if done.returncode:
            last = (done.stderr.decode(errors="replace").strip().splitlines() or ["?"])[-1]
            raise WrongError(f"In another process it stopped with {last[:200]}")
        if not done.stdout:
            raise WrongError("In another process it left without an answer.")
        there = cloudpickle.loads(done.stdout)
        moved = [name for (name, _), x, y in zip(digits, sides, there, strict=True) if x != y]
        if moved:
            raise WrongError(
                f"Another process sends {len(moved)} of {len(digits)} digits to the other side, "
                f"{moved[0]} for one.",
                hint=2,
            )


def _judge_cascade(build: Callable[[beam.Pipeline], Any]) -> str:
    ran = run(build)
    answers = ran.output
    labels = _labels()
    for answer in answers[:1]:
        if not (isinstance(answer, tuple) and len(answer) == 2 and answer[0] in labels):
            raise WrongError(f"The first element is {str(answer)[:80]}: expected (id, digit).")
    _check_each_once([name for name, _ in answers], labels)
    try:
        right = sum(int(digit) == labels[name] for name, digit in answers)
    except (TypeError, ValueError):
        kind = type(answers[0][1]).__name__
        raise WrongError(f"The answers are {kind}: expected digits, 0 to 9.") from None
    by_a, by_b = (elements_of(ran.trace, side) for side in "AB")
    if by_a != len(labels):
        raise WrongError(f"A answered {by_a} of {len(labels)} digits: expected every one, once.")
    if by_b > _MOST_FOR_B:
        raise WrongError(
            f"B answered {by_b} digits: expected at most {_MOST_FOR_B}, those that A is unsure of."
        )
    if right < _LEAST_RIGHT:
        raise WrongError(
            f"{right} of {len(labels)} digits are right, and B answered {by_b}: expected "
            f"{_LEAST_RIGHT} right at least.",
            hint=2,
        )
    return f"{right} of {len(labels)} digits are right, and B answered only {by_b} of them."


def _check_each_once(names: Sequence[str], labels: dict[str, int]) -> None:
    times = Counter(names)
    twice = [name for name, count in times.items() if count > 1]
    if twice:
        raise WrongError(
            f"{len(twice)} digits came out more than once, {min(twice)} for one: expected one "
            "answer for each."
        )
    lost = labels.keys() - times.keys()
    if lost:
        raise WrongError(f"{len(lost)} digits have no answer, {min(lost)} for one.")


def _rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(ab.digits_file()).to_pylist()
    return rows


def _digits() -> dict[str, torch.Tensor]:
    return {row["id"]: torch.tensor(row["pixels"]) for row in _rows()}


def _labels() -> dict[str, int]:
    return {row["id"]: row["label"] for row in _rows()}


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        "ab_pattern.split",
        _judge_split,
        (
            "Make a number from the id alone, one that looks random but is the same each time. Its "
            "remainder by 100 tells the side. Chance, counters and pixels will not do.",
            "Python salts hash() of text in each process. zlib.crc32(id.encode()) is the same "
            "everywhere; 20 of its 100 remainders go to B.",
        ),
    ),
    Exercise(
        "ab_pattern.cascade",
        _judge_cascade,
        (
            "Divide the answers of A, not the digits: beam.Partition by the highest probability. "
            "The unsure ones go on to B, and beam.Flatten brings both streams together.",
            "An answer is a pair of id and result. A is unsure where "
            "torch.softmax(result.inference, dim=0).max() is below 0.7; result.example is the "
            "tensor that B wants.",
        ),
    ),
)
