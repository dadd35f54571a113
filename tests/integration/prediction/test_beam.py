"""Predictions equal what real, watched Beam runs do: loads and evictions, exactly."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import apache_beam as beam
import pytest
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions

import mmlab
from mmlab import WatchRunner
from mmlab.prediction.workload import _sprayed
from tests import without_torch
from tests.handlers import AnsweringModels, keyed, run_keyed
from tests.lanes import size

pytestmark = [pytest.mark.runs, pytest.mark.usefixtures("without_torch")]


def random_case(seed):
    rng = random.Random(seed)
    names = iter(f"K{i}" for i in range(100))
    cohorts = [[next(names) for _ in range(rng.randint(1, 3))] for _ in range(rng.randint(1, 8))]
    every_key = [key for cohort in cohorts for key in cohort]
    weights = [rng.random() ** 3 + 0.01 for _ in every_key]
    keys = rng.choices(every_key, weights, k=rng.randint(1, 80))
    return cohorts, keys, rng.randint(1, 9), rng.randint(1, len(cohorts))


def watched_counts(runner):
    summary = runner.trace.summary()
    return summary.loads, summary.evictions, summary.uses


@pytest.mark.part("predictions", suite=True)
@pytest.mark.parametrize("seed", range(size("predictions", suite=16, full=600)))
def test_a_run_with_fixed_batches_does_what_was_predicted(seed):
    cohorts, keys, batch_size, hint = random_case(seed)
    handler = keyed(cohorts, hint, batch_size)
    prediction = mmlab.predict(keys, handler)
    assert prediction.batch_size == batch_size  # from the handler
    row = prediction.at(hint)
    runner = WatchRunner()
    run_keyed(runner, handler, keys)
    assert watched_counts(runner) == (row["loads"], row["evictions"], prediction.visits)

    replayed = mmlab.predict(runner.trace)
    assert replayed.at(hint)["loads"] == row["loads"]
    assert (replayed.loads == prediction.loads).all()
    assert replayed.measured.hint == replayed.measured.limit == hint


@pytest.mark.part("predictions", suite=True)
@pytest.mark.parametrize("seed", range(1000, 1000 + size("predictions", suite=6, full=100)))
def test_a_run_after_group_by_key_does_what_was_predicted(seed):
    cohorts, keys, batch_size, hint = random_case(seed)
    handler = keyed(cohorts, hint, batch_size)
    prediction = mmlab.predict(keys, handler)
    runner = WatchRunner()
    with beam.Pipeline(runner) as pipeline:
        _ = (
            pipeline
            | beam.Create([(key, i) for i, key in enumerate(keys)], reshuffle=False)
            | beam.GroupByKey()
            | beam.FlatMap(lambda group: [(group[0], each) for each in group[1]])
            | RunInference(handler)
        )
    assert runner.trace.summary().loads == prediction.at(hint)["after GroupByKey"]


def test_a_run_grouped_per_model_loads_each_model_once():
    cohorts, keys, _, _ = random_case(7)
    model_of = {key: i for i, cohort in enumerate(cohorts) for key in cohort}
    runner = WatchRunner()
    with beam.Pipeline(runner) as pipeline:
        _ = (
            pipeline
            | beam.Create([(model_of[key], (key, i)) for i, key in enumerate(keys)])
            | beam.GroupByKey()
            | beam.FlatMap(lambda group: group[1])
            | RunInference(keyed(cohorts, 1, 3))
        )
    prediction = mmlab.predict(keys, keyed(cohorts))
    assert runner.trace.summary().loads == prediction.grouped_by_model


@pytest.mark.parametrize("mode", ["multi_threading", "multi_processing"])
def test_copies_are_fitted_from_a_run_of_two_workers(mode):
    """Two threads, or two worker processes, share one manager: its limit is twice the hint."""
    cohorts, keys, batch_size, _ = random_case(3)
    options = PipelineOptions([f"--direct_running_mode={mode}", "--direct_num_workers=2"])
    runner = WatchRunner()
    with beam.Pipeline(runner, options=options) as pipeline:
        _ = (
            pipeline
            | beam.Create([(key, i) for i, key in enumerate(keys * 2)])
            | beam.Reshuffle()
            | RunInference(keyed(cohorts, 2, batch_size, AnsweringModels))
        )
    prediction = mmlab.predict(runner.trace)
    summary = runner.trace.summary()
    assert prediction.copies == summary.limit // 2
    assert len(prediction.managers.loads) == 1
    assert prediction.visits == summary.uses
    loads = prediction.at(2)["loads"]
    assert loads <= summary.loads if prediction.notes else loads == summary.loads


WORKER = """
import json, sys
from mmlab import WatchRunner
from tests.handlers import AnsweringModels, Model, NamedModels, keyed, run_keyed
case = json.load(sys.stdin)
runner = WatchRunner("FnApiRunner")
run_keyed(runner, keyed(case["cohorts"], case["hint"], case["batch_size"]), case["keys"])
summary = runner.trace.summary()
print(json.dumps([summary.loads, summary.evictions]))
"""


def test_two_processes_with_models_of_their_own_do_what_was_predicted(tmp_path):
    """As on two machines: each has a temporary folder of its own, through which Beam shares."""
    cohorts, keys, batch_size, _ = random_case(11)
    keys, hint = keys * 3, 2
    prediction = mmlab.predict(keys, keyed(cohorts), batch_size=batch_size, workers=2, seed=5)
    where = _sprayed(0, len(keys), 2, seed=5)
    counts = []
    for worker in range(2):
        folder = tmp_path / str(worker)
        folder.mkdir()
        own = [key for key, at in zip(keys, where, strict=True) if at == worker]
        case = {"cohorts": cohorts, "hint": hint, "batch_size": batch_size, "keys": own}
        done = subprocess.run(
            [sys.executable, "-c", WORKER],
            input=json.dumps(case),
            capture_output=True,
            text=True,
            env={"PATH": "", "TMPDIR": str(folder), "PYTHONPATH": without_torch.path(*sys.path)},
        )
        assert done.returncode == 0, done.stderr
        counts.append(json.loads(done.stdout))
    workers = prediction.per_worker(hint)
    assert workers[["loads", "evictions"]].to_numpy().tolist() == counts
