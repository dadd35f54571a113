"""Models that Beam's `ModelManager` keeps in processes of their own are watched there."""

from __future__ import annotations

import os
import re
from types import SimpleNamespace

import apache_beam as beam
import pytest
from apache_beam.ml.inference.base import RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from mmlab import Trace, WatchRunner
from mmlab.beam.pipelines import inference_steps
from tests import remote, without_torch
from tests.handlers import Answers
from tests.integration.watching.programs import outcome_of, started

pytestmark = pytest.mark.runs

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
    assert inference_steps(pipeline)[0].uses_model_manager
    COLLECTED.clear()
    pipeline.run().wait_until_finish()
    return list(COLLECTED)


def test_loads_and_uses_are_in_the_trace_and_answers_are_the_same(monkeypatch):
    without_torch.hide(monkeypatch, stub=True)
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


@pytest.fixture(scope="module")
def evicting(tmp_path_factory):
    """Runs with room for one model, side by side: one log is local, the other is sent afar."""
    folder = tmp_path_factory.mktemp("evicting")
    logs = {"near": str(folder / "near"), "far": remote.uri(folder / "far")}
    runs = {
        name: started("room_for_one", log, folder=folder / f"tmp {name}", stub_torch=True)
        for name, log in logs.items()
    }
    return SimpleNamespace(logs=logs, **{name: outcome_of(run) for name, run in runs.items()})


ANSWERS = [["A", 7], ["B", 7], ["A again", 7]]


def test_what_it_evicts_is_freed_and_loaded_again(evicting):
    run = evicting.near
    assert run["answers"] == ANSWERS
    assert [(load["model"], load["uses"], load["freed"]) for load in run["loads"]] == [
        ("A", 1, True),  # to make room for a model that it does not know
        ("B", 1, True),  # to make room for the next
        ("A again", 1, False),
    ]
    assert len({load["pid"] for load in run["loads"]}) == 3
    assert (run["counts"]["loads"], run["counts"]["most_resident"]) == (3, 1)
    assert all("keeps each load of a model in a process of its own" in n for n in run["notes"])
    assert len(run["notes"]) == 3
    assert Trace.load(evicting.logs["near"]).summary().counts() == run["counts"]


def test_what_an_evicted_process_had_not_yet_sent_afar_is_said_to_be_missing(evicting):
    """Beam ends it at once, with what it was about to write."""
    run = evicting.far
    assert run["answers"] == ANSWERS
    assert run["counts"]["uses"] == 3  # noted by the process that asks
    assert "A again" in [load["model"] for load in run["loads"]]
    lost = [
        note
        for note in run["notes"]
        if re.search(r"events after second [\d.]+ may be missing", note)
    ]
    whole = [load for load in run["loads"] if load["model"] == "A again" or load["freed"]]
    assert len(whole) + len(lost) == 3
