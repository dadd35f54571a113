"""Two models where Beam's `ModelManager` has room for one.

`python -m tests.integration.watching.room_for_one LOG` prints what came of the run, as JSON. The
manager of a process is made once, with the first arguments that it gets: so this one needs its own.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference

from mmlab import Trace, WatchRunner
from tests import remote  # noqa: F401  its scheme may be the log's, in the models' processes too
from tests.handlers import Answers
from tests.waiting import wait_for

ANSWERS: list[Any] = []


class AnswersFromAfar(Answers):
    """Comes with the file system of the log, wherever it is loaded."""


class RoomForOne:
    """Tells the manager that each process of a model takes all of a device."""

    def get_stats(self) -> tuple[float, float, float]:
        taken = float(len(multiprocessing.active_children()))
        return taken, max(taken, 1.0), 1.0

    def refresh(self) -> None:
        """Something was evicted: its process takes a moment to end."""
        with contextlib.suppress(AssertionError):  # what is left says more
            wait_for(lambda: not multiprocessing.active_children(), seconds=60)

    def start(self) -> None: ...

    stop = reset_peak = start


def ask(label: str, identifier: str) -> beam.PTransform:
    return label >> RunInference(
        AnswersFromAfar(label, min_batch_size=1, max_batch_size=1),
        use_model_manager=True,
        model_manager_args={
            "monitor": RoomForOne(), "slack_percentage": 0.0, "lock_timeout_seconds": 5.0,
        },
        model_identifier=identifier,
    )  # fmt: skip


def note(answer: tuple[str, int]) -> int:
    ANSWERS.append(answer)
    return answer[1]


def main(log: str) -> None:
    """Model a is asked, then b, then a again.

    The manager evicts a because it has yet to learn what b takes, and b because there is no room.
    """
    runner = WatchRunner("FnApiRunner", log=log)
    with beam.Pipeline(runner) as pipeline:
        numbers = pipeline | beam.Create([7])
        for label, identifier in (("A", "a"), ("B", "b"), ("A again", "a")):
            numbers = numbers | ask(label, identifier) | f"note {label}" >> beam.Map(note)
    trace: Trace = runner.trace
    loads = [
        {"model": r.step, "uses": len(r.uses), "freed": r.free_ns is not None, "pid": r.process.pid}
        for r in trace.residences
    ]
    counts = trace.summary().counts()
    outcome = {"answers": ANSWERS, "loads": loads, "notes": trace.notes, "counts": counts}
    print(json.dumps(outcome), flush=True)
    os._exit(0)


if __name__ == "__main__":
    # As a module that can be imported: what is pickled by value would collect into a copy.
    from tests.integration.watching import room_for_one

    room_for_one.main(sys.argv[1])
