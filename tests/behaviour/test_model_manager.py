"""Models that Beam's `ModelManager` keeps in processes of their own are watched there."""

from __future__ import annotations

import os

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from mmlab import WatchRunner, beam_internals
from tests.handlers import Answers

NOTE = (
    "Score: Beam's ModelManager keeps each load of a model in a process of its own: a batch is "
    "shown at the latest of several loads, and what it evicts is shown as freed."
)


COLLECTED: list[tuple[str, int]] = []


def collect(answer):
    COLLECTED.append(answer)


def run(runner):
    pipeline = beam.Pipeline(runner)
    handler = Answers(min_batch_size=2, max_batch_size=2)
    _ = (
        pipeline
        | beam.Create(range(6), reshuffle=False)
        | "Score" >> RunInference(handler, use_model_manager=True)
        | beam.Map(collect)
    )
    assert beam_internals.inference_steps(pipeline)[0].uses_model_manager
    COLLECTED.clear()
    pipeline.run().wait_until_finish()
    return list(COLLECTED)


def test_loads_and_uses_are_in_the_trace_and_answers_are_the_same():
    runner = WatchRunner()
    assert run(runner) == run(FnApiRunner()) == [("model", i) for i in range(6)]
    trace = runner.trace
    summary = trace.summary()
    assert (summary.loads, summary.uses, summary.elements) == (1, 3, 6)
    [residence] = trace.residences
    assert residence.process.pid != os.getpid()
    assert len(residence.uses) == 3
    assert summary.peak_rss_bytes > 0
    assert trace.notes == [NOTE]
