"""Elements per PCollection, counted by real runs."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping, RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.direct import DirectRunner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import mmlab
from mmlab.beam.counts import element_counts
from mmlab.diagrams.graph import pipeline_graph
from tests.unit.diagrams.pipelines import Scale, _Route

_ONE = ["--direct_num_workers=1"]
_THREE = ["--direct_num_workers=3", "--direct_running_mode=multi_threading"]


class _Counts:
    def __init__(self, counts):
        self.element_counts = counts
        self.dead_letters = {}

    def per_model(self):
        return []


def _drawn(pipeline, result):
    counts = element_counts(pipeline, result)
    graph = pipeline_graph(pipeline, trace=_Counts(counts))
    return {(e.source, e.target, e.tag, bool(e.side)): e.elements for e in graph.edges}


@pytest.mark.parametrize("flags", [_ONE, _THREE])
@pytest.mark.runs
def test_branches_tags_side_inputs_and_models(flags):
    p = beam.Pipeline(FnApiRunner(), PipelineOptions(flags))
    data = p | "Read" >> beam.Create([*range(-5, 20), 500])
    routed = data | "Route" >> beam.ParDo(_Route()).with_outputs("negative", "too large", main="m")
    predictions = routed.m | "Model" >> RunInference(Scale())
    small, large = predictions | "Split" >> beam.Partition(lambda r, n: int(r.example >= 12), 2)
    small | "Share" >> beam.Map(lambda r, bad: r, beam.pvalue.AsList(routed.negative))
    (small, large) | "Merge" >> beam.Flatten() | "Show" >> beam.Map(str)
    assert _drawn(p, p.run()) == {
        ("Read", "Route", "", False): 26,
        ("Route", "Model", "", False): 20,
        ("Route", "Share", "negative", True): 5,
        ("Route", None, "too large", False): 1,
        ("Model", "Split", "", False): 20,
        ("Split", "Share", "0", False): 12,
        ("Split", "Merge", "0", False): 12,
        ("Split", "Merge", "1", False): 8,
        ("Merge", "Show", "", False): 20,
    }


@pytest.mark.runs
def test_keyed_models_groups_and_dead_letters():
    p = beam.Pipeline(FnApiRunner())
    pairs = [(f"KEY_{n % 3}", n if n else -1) for n in range(30)]
    handler = KeyedModelHandler(
        [
            KeyModelMapping(["KEY_0"], Scale(2)),
            KeyModelMapping(["KEY_1", "KEY_2"], Scale(3)),
        ]
    )
    grouped = p | "Read" >> beam.Create(pairs) | beam.GroupByKey()
    flat = grouped | "Ungroup" >> beam.FlatMapTuple(lambda key, values: [(key, v) for v in values])
    results, failed = flat | "Model" >> RunInference(handler).with_exception_handling()
    results | "Show" >> beam.Map(str)
    failed.failed_inferences | "Report" >> beam.Map(str)
    assert _drawn(p, p.run()) == {
        ("Read", "GroupByKey", "", False): 30,
        ("GroupByKey", "Ungroup", "", False): 3,
        ("Ungroup", "Model", "", False): 30,
        ("Model", "Show", "", False): 29,
        ("Model", "Report", "failed_inferences", False): None,  # one batch, of no known elements
    }


@pytest.mark.runs
def test_every_edge_of_an_opened_pipeline_is_counted():
    p = beam.Pipeline(FnApiRunner())
    p | "Read" >> beam.Create(range(8)) | "Model" >> RunInference(Scale())
    counts = element_counts(p, p.run())
    graph = pipeline_graph(p, depth=None, trace=_Counts(counts))
    assert [e for e in graph.edges if e.elements is None] == []


def test_a_runner_that_does_not_count():
    p = beam.Pipeline(FnApiRunner())
    p | beam.Create([1])
    assert element_counts(p, object()) == {}


@pytest.mark.parametrize("runner", [FnApiRunner, DirectRunner])
@pytest.mark.runs
def test_a_run_does_not_change_the_picture(runner):
    p = beam.Pipeline(runner())
    data = p | "Read" >> beam.Create(range(4))
    data | "Model" >> RunInference(Scale()) | "Count" >> beam.combiners.Count.Globally()
    before = [mmlab.diagram(p, depth=depth).dot for depth in (1, 2, None)]
    result = p.run()
    result.wait_until_finish()
    assert [mmlab.diagram(p, depth=depth).dot for depth in (1, 2, None)] == before
    assert _drawn(p, result)["Read", "Model", "", False] == 4
