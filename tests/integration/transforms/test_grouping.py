"""Grouping by model: what it gives back, and the loads that it saves."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from mmlab import GroupByModel
from mmlab.fresh.process import run_fresh
from tests.handlers import NamedModels, keyed
from tests.integration import pipelines

TWO_THREADS = ["--direct_running_mode=multi_threading", "--direct_num_workers=2"]


@pytest.mark.parametrize("options", [None, TWO_THREADS], ids=["in memory", "two threads"])
@pytest.mark.runs
def test_each_model_is_loaded_once_even_with_hint_1(nothing_left, options):
    run = (pipelines.models_in_turn, 1, 60, NamedModels)
    by_model = run_fresh(*run, "model", options=options)
    assert by_model.trace.summary().loads == len(pipelines.COHORTS), by_model.problem
    assert by_model.trace.summary().elements == 60
    alone = run_fresh(*run, None, options=options)
    assert alone.trace.summary().loads == 40


@pytest.mark.runs
def test_grouping_by_key_loads_a_model_again_for_its_second_key(nothing_left):
    def apart(pipeline, group):
        handler = keyed([["a", "c"], ["b", "d"]], 1)
        pairs = pipeline | beam.Create([(k, i) for i in range(5) for k in "abcd"], reshuffle=False)
        if group == "key":
            pairs = pairs | beam.GroupByKey() | beam.FlatMap(lambda kv: [(kv[0], v) for v in kv[1]])
        else:
            pairs = pairs | GroupByModel(handler)
        _ = pairs | "Score" >> beam.ml.inference.base.RunInference(handler)

    assert run_fresh(apart, "key").trace.summary().loads == 4
    assert run_fresh(apart, "model").trace.summary().loads == 2


@pytest.mark.parametrize("lanes", [1, 2, 9])
@pytest.mark.runs
def test_pairs_come_back_as_they_were(lanes):
    data = [(key, {"n": i}) for i in range(4) for key in ("a", "b", 3, ("x", 1))]
    mappings = [
        KeyModelMapping(["a", 3], NamedModels("one")),
        KeyModelMapping(["b", ("x", 1)], NamedModels("two")),
    ]
    with beam.Pipeline(FnApiRunner()) as pipeline:
        pairs = pipeline | beam.Create(data) | GroupByModel(mappings, lanes=lanes)
        assert_that(pairs, equal_to(data))


@pytest.mark.runs
def test_windows_stay():
    with beam.Pipeline(FnApiRunner()) as pipeline:
        counts = (
            pipeline
            | beam.Create([("a", t) for t in range(20)])
            | beam.Map(lambda kv: beam.window.TimestampedValue(kv, kv[1]))
            | beam.WindowInto(beam.window.FixedWindows(10))
            | GroupByModel(keyed([["a"], ["b"]]))
            | beam.combiners.Count.PerKey()
        )
        assert_that(counts, equal_to([("a", 10), ("a", 10)]))


@pytest.mark.runs
def test_a_key_without_a_model_is_passed_on():
    with beam.Pipeline(FnApiRunner()) as pipeline:
        pairs = pipeline | beam.Create([("Z", 1)]) | GroupByModel(keyed([["a"]]))
        assert_that(pairs, equal_to([("Z", 1)]))


def test_bad_input():
    for wrong in ([], "handler", [NamedModels()], None):
        with pytest.raises(TypeError, match="handler_or_mapping must be"):
            GroupByModel(wrong)
    for single in (NamedModels(), KeyedModelHandler(NamedModels())):
        with pytest.raises(ValueError, match="nothing to group"):
            GroupByModel(single)
    for lanes in (0, True, 1.5, "2"):
        with pytest.raises(
            (TypeError, ValueError), match="lanes must be a whole number, 1 or more, got "
        ):
            GroupByModel(keyed([["a"]]), lanes=lanes)
    with pytest.raises(ValueError, match="maps to multiple model handlers"):
        GroupByModel([KeyModelMapping(["a", "a"], NamedModels())])
