"""Logs of the first edition load, and every report can be made of them: see tests/fixtures."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import NamedTuple

import pytest

from mmlab import Trace
from mmlab.draw.lanes import lanes_of

FIXTURES = Path(__file__).parents[2] / "fixtures"


class Run(NamedTuple):
    """What is known of a run from its pipeline, whatever an engine says."""

    state: str
    loads: int
    evictions: int
    uses: int
    elements: int
    lanes: int
    processes: int = 1


RUNS = {
    "keyed_handler/1": Run("DONE", 9, 7, 16, 16, 3),
    "single_handler/1": Run("DONE", 1, 0, 4, 8, 1),
    "threads/1": Run("DONE", 3, 0, 32, 32, 3),
    "processes/1": Run("DONE", 3, 0, 32, 32, 3, processes=3),
    "steps/1": Run("DONE", 17, 15, 25, 32, 4),
    "dead_letters/1": Run("DONE", 2, 0, 6, 6, 2),
    "failed/1": Run("FAILED", 2, 0, 3, 3, 2),
    "refresh/1": Run("DONE", 2, 0, 5, 5, 1),
    "out_of_memory/1": Run("FAILED", 2, 0, 3, 3, 4),
    "killed_worker/1": Run("UNKNOWN", 2, 0, 21, 21, 2, processes=2),
    "rerun/1": Run("DONE", 9, 7, 16, 16, 3),
    "rerun/2": Run("DONE", 0, 0, 16, 16, 3),  # the models are in memory since the first run
    "segments/1": Run("DONE", 9, 7, 16, 16, 3),
}
NOTES = {"killed_worker/1": ["The end of the run was not seen."]}
FAILED_LOADS = {"out_of_memory/1": 1}
UNDECIDED = {"rerun/2"}
"""Runs whose uses have no load: what a later edition says of them is open."""


@pytest.fixture(params=RUNS)
def name(request):
    return request.param


@pytest.fixture
def trace(name):
    folder = FIXTURES / name
    saved = folder / "saved.jsonl"
    return Trace.load(saved if saved.exists() else folder)


def test_every_recorded_run_is_tested():
    assert {str(p.relative_to(FIXTURES)) for p in FIXTURES.glob("*/[0-9]")} == set(RUNS)


def test_the_counts_are_those_of_the_pipeline(name, trace):
    run, summary = RUNS[name], trace.summary()
    assert (trace.state, summary.loads, summary.evictions) == run[:3]
    assert (summary.uses, summary.elements) == (run.uses, run.elements)
    assert sum(model.loads for model in trace.per_model()) == run.loads
    assert len({event.pid for event in trace.events}) == run.processes
    assert (trace.torn, trace.dropped) == (0, 0)
    assert "loads" in str(summary)


def test_the_notes_say_what_is_missing(name, trace):
    if name not in UNDECIDED:
        assert trace.notes == trace.incomplete == NOTES.get(name, [])


def test_there_is_a_lane_for_each_model(name, trace):
    assert len(lanes_of(trace)) == RUNS[name].lanes
    picture = trace.timeline()
    assert all(model.model in repr(picture) for model in trace.models)
    assert picture.figure.axes


def test_each_load_and_use_is_a_slice_of_the_perfetto_export(name, trace, tmp_path):
    exported = json.loads(Path(trace.to_perfetto(tmp_path / "trace.json")).read_text())
    begun = [event["name"] for event in exported["traceEvents"] if event["ph"] == "b"]
    assert begun.count("loading") == RUNS[name].loads + FAILED_LOADS.get(name, 0)
    assert name in UNDECIDED or begun.count("in use") == RUNS[name].uses


def test_the_frame_has_a_row_for_each_event(trace):
    frame = trace.to_frame()
    assert len(frame) == len(trace.events)
    assert set(frame["event"]) == {event.event for event in trace.events}


def test_a_saved_copy_is_the_same(trace, tmp_path):
    copy = Trace.load(trace.save(tmp_path / "copy.jsonl"))
    assert copy.events == trace.events
    assert copy.summary() == trace.summary()


def test_a_refresh_and_an_out_of_memory_are_named():
    refreshed = Trace.load(FIXTURES / "refresh/1")
    assert [event.path for event in refreshed.of_kind("refresh")] == ["v2"]
    unfit = Trace.load(FIXTURES / "out_of_memory/1/saved.jsonl")
    assert "did not fit" in repr(unfit.timeline())
    assert unfit.of_kind("memory_limit")[0].bytes == 200_000_000


def test_nothing_of_the_machine_that_recorded_is_in_them():
    files = list(FIXTURES.rglob("*.jsonl"))
    assert sum(file.stat().st_size for file in files) < 300_000
    hosts = set()
    for file in files:
        text = file.read_text(encoding="utf-8")
        hosts |= set(re.findall(r'"host":"([^"]*)"', text))
        assert not re.search(r"/(home|root|work|Users)/|wt-lanes", text), file
        assert f'"{socket.gethostname()}"' not in text, file
    assert hosts == {"host-1"}
