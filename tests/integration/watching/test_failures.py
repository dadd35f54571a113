"""Failed batches of real runs: dead letters, timeouts, and what the diagram says of them."""

from __future__ import annotations

import threading

import apache_beam as beam
import pytest
from apache_beam.ml.inference.base import RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import mmlab
from mmlab import WatchRunner
from tests.handlers import NamedModels, keyed

pytestmark = pytest.mark.runs

COHORTS = [["K0"], ["K1"]]
GATE = threading.Event()


class Moody(NamedModels):
    """Refuses "bad" elements, and does not come back from "slow" ones until the run is over."""

    def run_inference(self, batch, model, inference_args=None):
        if "bad" in batch:
            raise ValueError("bad is too bad")
        if "slow" in batch:
            GATE.wait(60)
        return super().run_inference(batch, model, inference_args)


GOOD, BAD = [], []


def note_good(answer):
    GOOD.append(answer)


def note_bad(failed):
    BAD.append(failed[0])


def pipeline_of(runner, elements, batch_size=1, **handling):
    for kept in (GOOD, BAD):
        kept.clear()
    pipeline = beam.Pipeline(runner)
    handler = keyed(COHORTS, 2, batch_size, handler=Moody)
    inference = RunInference(handler).with_exception_handling(**handling)
    created = pipeline | beam.Create(elements, reshuffle=False)
    good, bad = created | "Score" >> inference
    _ = good | "good" >> beam.Map(note_good)
    _ = bad.failed_inferences | "bad" >> beam.Map(note_bad)
    return pipeline


def outcome():
    return sorted(key for key, _ in GOOD), sorted(map(str, BAD))


def test_dead_letters_are_counted_and_drawn_as_what_they_are():
    elements = [("K0", "x"), ("K0", "bad"), ("K1", "x"), ("K1", "x"), ("K1", "bad"), ("K0", "x")]
    pipeline_of(FnApiRunner(), elements, batch_size=2).run().wait_until_finish()
    unwatched = outcome()
    pipeline = pipeline_of(WatchRunner(), elements, batch_size=2)
    pipeline.run().wait_until_finish()
    assert outcome() == unwatched
    assert (len(GOOD), len(BAD)) == (2, 2)
    trace = pipeline.runner.trace
    s = trace.summary()
    assert (s.uses, s.failed, s.timed_out, s.dead_letters, s.retried) == (3, 2, 0, 2, 0)
    assert [count.failed for count in trace.per_model()] == [1, 1]
    assert trace.dead_letters == {"Score": (2, 4)}
    assert "4 elements in 2 batches" in mmlab.diagram(pipeline, trace=trace).outline


def test_a_batch_that_times_out_is_no_failed_one():
    GATE.clear()
    elements = [("K0", "x"), ("K1", "slow"), ("K0", "x")]
    pipeline = pipeline_of(WatchRunner(), elements, timeout=6)
    pipeline.run().wait_until_finish()
    GATE.set()
    assert len(GOOD) == 2
    assert len(BAD) == 1
    s = pipeline.runner.trace.summary()
    assert (s.failed, s.timed_out, s.dead_letters, s.retried) == (0, 1, 1, 0)
    assert [count.timed_out for count in pipeline.runner.trace.per_model()] == [0, 1]
    labels = pipeline.runner.trace.timeline().figure.legends[0].get_texts()
    assert labels[-1].get_text() == "batch timed out"
