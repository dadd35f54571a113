"""When a private name of Beam is gone: one clear sentence, and the rest is still watched."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import ANY

import apache_beam as beam
import pytest
from apache_beam.ml.inference import base
from apache_beam.ml.inference.base import RunInference

import mmlab
from mmlab.beam.guards import BeamChangedError
from mmlab.beam.pipelines import inference_steps, readable_steps
from tests import without_torch
from tests.handlers import NamedModels, keyed
from tests.integration.watching.changed_beam import CHANGED
from tests.waiting import HUNG_SECONDS

pytestmark = pytest.mark.runs

WHOLE = {"loads": 7, "evictions": 4, "limit": 2, "hint": 2}
PLAIN_ONLY = {"loads": 1, "evictions": 0, "limit": None, "hint": None}
UNWATCHED = (
    "Score: not watched: apache-beam {version} has no {name}, which mmlab needs to {purpose}"
)

CASES = {
    # names that are gone: what is still counted, and what is said
    (): (WHOLE, []),
    ("_RunInferenceDoFn",): (WHOLE, []),
    ("_single_model",): (WHOLE, []),
    ("_tag_map",): (
        {**WHOLE, "evictions": 0},
        ["Score: evictions are not shown: this version of Beam hides them."],
    ),
    ("_max_models",): (
        {**WHOLE, "limit": "unknown"},
        ["Score: the effective limit is not shown: this version of Beam hides it."],
    ),
    ("increment_max_models",): (
        {**WHOLE, "limit": "unknown"},
        ["Score: the effective limit is not shown: this version of Beam hides it."],
    ),
    ("_max_models_per_worker_hint",): (
        {**WHOLE, "hint": None},
        ["Score: the hint is not shown: this version of Beam hides it."],
    ),
    ("_id_to_mh_map",): (PLAIN_ONLY, ["_id_to_mh_map, which mmlab needs to read the key mapping"]),
    ("_key_to_id_map",): (
        PLAIN_ONLY,
        ["_key_to_id_map, which mmlab needs to read the key mapping"],
    ),
    ("_AutoProxyWrapper",): (WHOLE, []),
    ("_SingletonProxy_entry",): (WHOLE, []),
    ("_proxyObject",): (WHOLE, []),
    ("_model_handler",): (
        {**PLAIN_ONLY, "loads": 0},
        ["_model_handler, which mmlab needs to find the model handler of a step"] * 2,
    ),
    ("_RunInferenceDoFn", "_model_handler"): (
        {**PLAIN_ONLY, "loads": 0},
        ["_RunInferenceDoFn, which mmlab needs to find the RunInference steps of a pipeline"] * 2,
    ),
}


@pytest.fixture(scope="module")
def runs():
    """What the watched pipeline gave, by the names that were gone."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork, to change Beam without starting Python for every name")
    script = Path(__file__).with_name("changed_beam.py")
    environment = {**os.environ, "PYTHONPATH": without_torch.path(*sys.path)}
    done = subprocess.run(
        [sys.executable, script, json.dumps(list(CASES))],
        capture_output=True,
        text=True,
        timeout=HUNG_SECONDS,
        env=environment,
        cwd=Path(__file__).parents[3],
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == len(CASES), done.stderr[-3000:]
    return dict(zip(CASES, map(json.loads, lines), strict=True))


@pytest.mark.parametrize("name", sorted(set(itertools.chain(*CASES))))
def test_a_name_that_is_taken_away_was_there(name):
    sources = [Path(importlib.util.find_spec(module).origin) for module in CHANGED]
    assert any(re.search(rf"\b{name}\b", source.read_text("utf-8")) for source in sources)


@pytest.mark.parametrize("names", CASES, ids="+".join)
def test_a_name_that_is_gone(runs, names):
    counts, says = CASES[names]
    run = runs[names]
    assert run["state"] == "DONE"
    assert run["predictions"] == ["m0", "m1", "m2"] * 2
    assert {name: run[name] for name in counts} == counts
    assert len(run["notes"]) == len(says), run["notes"]
    for note, sentence in zip(run["notes"], says, strict=True):
        assert sentence in note
    if any("which mmlab needs" in sentence for sentence in says):
        assert len(run["warnings"]) == len(says)
        assert all(w.startswith(("Score: not watched", "Plain: not")) for w in run["warnings"])
        assert run["rss"] > 1_000_000  # memory is watched all the same
    score = {f"NamedModels {key}": 2 for key in "abc"}
    assert run["uses_of"] == {7: {**score, "Plain": ANY}, 1: {"Plain": ANY}, 0: {}}[run["loads"]]


@pytest.mark.parametrize("name", ["_id_to_mh_map", "_key_to_id_map"])
def test_what_needs_the_mapping_says_so(name):
    handler = keyed([["a"], ["b"]])
    delattr(handler, name)
    for call in (
        lambda: mmlab.diagram(handler),
        lambda: mmlab.predict(["a"], handler),
        lambda: mmlab.GroupByModel(handler),
        lambda: mmlab.preflight(handler),
    ):
        with pytest.raises(
            BeamChangedError, match=f"has no FixedBatches.{name}, which mmlab needs"
        ):
            call()


def test_steps_that_cannot_be_found_are_said_and_not_left_out(monkeypatch):
    pipeline = beam.Pipeline()
    _ = pipeline | beam.Create([1]) | "Score" >> RunInference(NamedModels())
    monkeypatch.setattr(base, "_RunInferenceDoFn", type("Other", (), {}))
    steps, hidden = readable_steps(pipeline)
    assert steps == []
    assert list(hidden) == ["Score"]
    with pytest.raises(BeamChangedError, match="find the RunInference steps"):
        inference_steps(pipeline)
