"""What mmlab reads from results and pipelines stays as it was, for the author and for Beam."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import mmlab
from mmlab import WatchRunner
from mmlab.beam.counts import element_counts
from mmlab.beam.guards import BeamChangedError
from tests.handlers import NamedModels

pytestmark = pytest.mark.runs


class Count(beam.DoFn):
    def process(self, element):
        Metrics.counter("author", "groups").inc()
        yield from element[1]


def in_two_bundles(runner):
    """A pipeline whose last stage runs in two bundles, as after `GroupIntoBatches`."""
    pipeline = beam.Pipeline(runner)
    _ = (
        pipeline
        | beam.Create([("a", i) for i in range(10)], reshuffle=False)
        | beam.GroupIntoBatches(3)
        | beam.ParDo(Count())
        | "Score" >> RunInference(NamedModels(min_batch_size=2, max_batch_size=2))
    )
    return pipeline


def counters(result):
    found = result.metrics().query()["counters"]
    return {counter.key.metric.name: counter.committed for counter in found}


def test_a_watched_run_keeps_its_metrics():
    unwatched = counters(in_two_bundles(FnApiRunner()).run())
    assert unwatched["groups"] == 4
    assert unwatched["num_inferences"] == 10
    result = in_two_bundles(WatchRunner(live=False)).run()
    assert counters(result) == unwatched
    names = {counter.key.metric.name for counter in result.monitoring_metrics().query()["counters"]}
    assert "num_inferences" in names


def test_a_result_has_all_that_the_wrapped_runners_result_has():
    unwatched = in_two_bundles(FnApiRunner()).run()
    watched = in_two_bundles(WatchRunner(live=False)).run()
    assert set(dir(unwatched)) <= set(dir(watched))
    assert watched.aggregated_values("any") == unwatched.aggregated_values("any")


SCORED = "Score/BeamML_RunInference"


def test_counts_and_metrics_can_be_read_again_in_any_order():
    pipeline = in_two_bundles(FnApiRunner())
    result = pipeline.run()
    counted = element_counts(pipeline, result)
    assert counted[SCORED] == 10
    assert counters(result)["groups"] == 4
    assert len(list(result.monitoring_infos())) == len(list(result.monitoring_infos())) > 0
    assert element_counts(pipeline, result) == counted


def test_what_the_author_has_used_up_is_unknown_and_not_0():
    pipeline = in_two_bundles(FnApiRunner())
    result = pipeline.run()
    assert counters(result)["groups"] == 4
    assert SCORED not in element_counts(pipeline, result)
    assert counters(result)["groups"] == 4


def refused(pipeline, elements, label="Mended"):
    """What a cell leaves that fails while it applies a `RunInference`."""

    class Refuses(NamedModels):
        def batch_elements_kwargs(self):
            raise ValueError("not yet")

    with pytest.raises(ValueError, match="not yet"):
        _ = elements | "Unfinished" >> RunInference(Refuses())
    return elements | label >> RunInference(NamedModels("mended"))


def test_a_step_that_failed_while_it_was_applied_is_drawn_as_unfinished():
    runner = WatchRunner(live=False)
    pipeline = beam.Pipeline(runner)
    _ = refused(pipeline, pipeline | beam.Create([1, 2], reshuffle=False))
    drawn = mmlab.diagram(pipeline)
    assert "Unfinished [unfinished RunInference]" in str(drawn)
    assert "Mended [RunInference]" in str(drawn)
    assert "unfinished RunInference" in drawn.dot
    assert mmlab.preflight(pipeline) == []
    result = pipeline.run()
    assert result.trace.notes == []
    assert {event.step for event in result.trace.of_kind("use_begin")} == {"Mended"}
    assert "Mended" in str(mmlab.diagram(result))


def test_an_unfinished_step_inside_a_composite():
    class Both(beam.PTransform):
        def expand(self, elements):
            return refused(elements.pipeline, elements)

    pipeline = beam.Pipeline(WatchRunner(live=False))
    _ = pipeline | beam.Create([1, 2], reshuffle=False) | "Both" >> Both()
    assert "unfinished" in str(mmlab.diagram(pipeline))
    assert mmlab.preflight(pipeline) == []
    assert pipeline.run().trace.summary().uses >= 1


def test_a_name_that_is_really_gone_is_still_beams_change(monkeypatch):
    pipeline = in_two_bundles(WatchRunner(live=False))
    monkeypatch.delattr("apache_beam.ml.inference.base._RunInferenceDoFn")
    monkeypatch.setattr("mmlab.beam.pipelines._asks_a_model", lambda dofn: False)
    with pytest.raises(BeamChangedError, match="has no _RunInferenceDoFn"):
        mmlab.preflight(pipeline)
