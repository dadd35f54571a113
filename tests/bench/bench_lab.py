"""What fresh processes cost, and what grouping saves: medians of real runs.

Prints seconds from the request to the first event, cold and with a warm template, and loads
after grouping against the optimum, one load per model. Run it with `make bench`.
"""

from __future__ import annotations

import logging
import statistics
import sys
from collections.abc import Callable
from typing import Any

logging.disable(logging.WARNING)

import apache_beam as beam  # noqa: E402
import torch  # noqa: E402
from apache_beam.ml.inference.base import RunInference  # noqa: E402

from mmlab import GroupByModel, lessons  # noqa: E402
from mmlab.fresh import launch  # noqa: E402
from mmlab.fresh.process import run_fresh  # noqa: E402

ROUNDS = 7
COLD_ROUNDS = 3
ELEMENTS = 60
GROUPED_ROUNDS = {1: 5, 2: 2}
"""Repeats by number of worker processes; Beam's calls between processes take some 0.3 s each."""


def build(pipeline: beam.Pipeline, hint: int | None, elements: int, group: str | None) -> None:
    """The lessons' models, with keys that take turns so that both keys of a model lie apart."""
    handler = lessons.FixedBatches(lessons.mapping(), hint, batch_size=4)
    keys = ("KEY_2", "KEY_5", "KEY_1", "KEY_3", "KEY_6", "KEY_4")
    pairs = [(keys[i % len(keys)], torch.zeros(64)) for i in range(elements)]
    found: Any = pipeline | beam.Create(pairs, reshuffle=False)
    if group == "key":
        found = found | beam.GroupByKey() | beam.FlatMap(lambda kv: [(kv[0], v) for v in kv[1]])
    if group == "model":
        found = found | GroupByModel(handler)
    _ = found | RunInference(handler)


def first_event() -> float:
    return run_fresh(build, None, 1, None).raise_if_failed().first_event_seconds


def median_of(rounds: int, measure: Callable[[], float], before: Callable[[], None]) -> list[float]:
    seconds = []
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds}", file=sys.stderr)
        before()
        seconds.append(measure())
    return sorted(seconds)


def starts() -> None:
    for name, rounds, before in (
        ("cold: the template has to start", COLD_ROUNDS, launch._stop_server),
        ("warm: the template is there", ROUNDS, lambda: None),
    ):
        found = median_of(rounds, first_event, before)
        print(f"Run to first event, {name}: {statistics.median(found):.2f} s "
              f"({found[0]:.2f} to {found[-1]:.2f}, {rounds} runs)")  # fmt: skip


def loads() -> None:
    models = len(lessons.MAPPING)
    print(f"{models} models, {ELEMENTS} elements in turns, hint 1; loads against {models} needed")
    for workers, rounds in GROUPED_ROUNDS.items():
        options = ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
        for group in ("key", "model"):
            seen = []
            for _ in range(rounds):
                outcome = run_fresh(
                    build, 1, ELEMENTS, group, options=options if workers > 1 else None
                )
                seen.append(outcome.raise_if_failed().trace.summary().loads)
            ratio = statistics.median(seen) / models
            print(f"  {workers} worker process{'es' * (workers > 1):<3} grouped by {group:<6}"
                  f"{seen} loads  × {ratio:.2f}")  # fmt: skip


if __name__ == "__main__":
    starts()
    loads()
