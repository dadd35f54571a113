"""Beam's own tests of `RunInference` come out the same, test by test, watched and unwatched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import pytest

from tests import without_torch
from tests.lanes import size

ROOT = Path(__file__).parents[3]

pytestmark = [
    pytest.mark.runs,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="runs both ways in forks"),
]


RECORDED = ROOT / "tests/fixtures/beams_own.json"
"""Version of Beam to test to outcome, unwatched: saves half of the time where it is known."""
BOTH = ("unwatched", "watched")
REFRESHES = {
    "test_run_inference_side_input_in_batch",
    "test_run_inference_side_input_in_batch_multi_process_shared",
    "test_run_inference_side_input_in_batch_per_key_models",
    "test_run_inference_side_input_in_batch_per_key_models_split_cohort",
}
MANAGED = "test_run_inference_impl_with_model_manager"


def run(folder, names=(), ways=BOTH):
    """Beam's tests: for each way, test to outcome and the events that were seen."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.integration.watching.beams_own", str(folder)]
    command += [",".join(ways), *names]
    environment = without_torch.environment(stub=True)
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=environment)
    ways = {way: {} for way in ways}
    for path in folder.glob("*.jsonl"):
        for line in map(json.loads, path.read_text().splitlines()):
            ways[path.stem.rpartition("-")[0]][line["test"]] = line["outcome"], line["seen"]
    return ways


def different(ways):
    unwatched, watched = ways["unwatched"], ways["watched"]
    return {
        test: (unwatched.get(test, [None])[0], watched.get(test, [None])[0])
        for test in unwatched.keys() | watched.keys()
        if unwatched.get(test, [None])[0] != watched.get(test, [None])[0]
    }


@pytest.fixture(scope="module")
def beams_tests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beams-own")
    recorded = json.loads(RECORDED.read_text()).get(beam.__version__)
    if recorded is None or size("beams_own", suite=False, full=True):
        ways = run(folder / "all")
    else:
        names = sorted({*list(recorded)[::16], *REFRESHES, MANAGED})  # the suite runs a part
        ways = run(folder / "all", names, ways=["watched"])
        ways["unwatched"] = {test: (recorded[test], {}) for test in names}
    # Some of them allow a few seconds, which a busy machine may miss either way: once more, alone.
    if names := different(ways):
        again = run(folder / "again", sorted(names))
        for way, outcomes in ways.items():
            outcomes.update(again[way])
    return ways


@pytest.mark.part("beams_own", suite=True)
def test_every_outcome_is_the_same(beams_tests):
    assert different(beams_tests) == {}


@pytest.mark.part("beams_own")
def test_what_is_recorded_of_unwatched_tests_is_so(beams_tests):
    recorded = json.loads(RECORDED.read_text())
    found = {test: outcome for test, (outcome, _) in sorted(beams_tests["unwatched"].items())}
    if recorded.get(beam.__version__) != found:
        text = json.dumps({**recorded, beam.__version__: found}, indent=1)
        again = RECORDED.with_suffix(".new.json")
        again.write_text(text + "\n")
        pytest.fail(f"look at {again} and put it in the place of {RECORDED.name}")


def test_they_were_run_at_all_and_really_watched(beams_tests):
    unwatched, watched = beams_tests["unwatched"], beams_tests["watched"]
    passed = [test for test, (outcome, _) in unwatched.items() if outcome == "passed"]
    assert len(passed) > len(unwatched) * 0.8
    assert not any(seen for _, seen in unwatched.values())
    assert sum("load_begin" in seen for _, seen in watched.values()) > len(watched) * 0.3


def test_refreshes_were_seen(beams_tests):
    refreshed = {test for test, (_, seen) in beams_tests["watched"].items() if "refresh" in seen}
    assert refreshed >= REFRESHES


def test_models_of_the_model_manager_were_seen(beams_tests):
    seen = beams_tests["watched"][MANAGED][1]
    assert seen["load_end"] >= 1
    assert seen["use_end"] == seen["use_begin"] >= 1
