"""What the user gives is read, or refused with a sentence: paths, folders, hints, names twice."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest

import mmlab
from mmlab import Trace
from mmlab._files import absolute
from mmlab.beam.cards import model_cards
from mmlab.events import Unobserved
from mmlab.log.folders import location
from mmlab.prediction.keys import read_keys
from mmlab.reports.failure import explain
from mmlab.worker.logs import new_log
from tests.events import Event
from tests.handlers import keyed
from tests.unit.trace.mutations import FIXTURES


def test_a_hint_without_end_is_none():
    cards = model_cards(keyed([["a"], ["b"]], float("inf")))
    assert [card.traced.hint for card in cards] == [None, None]


def test_a_model_that_is_named_twice_is_one_in_a_prediction(tmp_path):
    """The machine code that counts has no bounds: a number too many writes beyond its arrays."""
    (log,) = (FIXTURES / "keyed_handler" / "1").glob("*.jsonl")
    lines = log.read_text("utf-8").splitlines(keepends=True)
    (run,) = (line for line in lines if '"event":"run"' in line)
    (tmp_path / "twice.jsonl").write_text("".join([lines[0], run, *lines[1:]]), "utf-8")
    twice = mmlab.predict(Trace.load(tmp_path / "twice.jsonl"))
    once = mmlab.predict(Trace.load(log))
    assert list(twice.loads) == list(once.loads)


def test_the_home_folder_is_read_in_every_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "keys.csv").write_text("key\na\n", "utf-8")
    assert location("~/runs") == tmp_path / "runs"
    assert read_keys("~/keys.csv", None).as_text
    trace = Trace([Event("r", 1, "h", 1, 1, "limit", step="s")])
    assert trace.save("~/saved.jsonl") == tmp_path / "saved.jsonl"
    assert Trace.load("~/saved.jsonl").events == trace.events


def test_a_deleted_working_directory_is_named(monkeypatch):
    def gone():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr("os.getcwd", gone)
    with pytest.raises(FileNotFoundError, match="the working directory was deleted"):
        absolute(Path("runs"))


def test_a_full_temporary_folder_is_named(monkeypatch):
    def full(prefix):
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/x")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(OSError, match="free some space there, or set TMPDIR"):
        new_log(None, 1)


def test_a_pipeline_without_models_is_noted():
    trace = Trace([Unobserved(run="r", host="h", what="steps")])
    assert trace.notes == ["The pipeline has no RunInference, so there is no model to watch."]


def test_the_advice_to_load_without_weights_only_is_answered():
    error = "UnpicklingError: Weights only load failed: set `weights_only` to `False`"
    failed = Event("r", 1, "h", 1, 1, "load_fail", step="s", model="m", generation=1, error=error)
    assert "any code that it holds" in explain([failed])[0]
