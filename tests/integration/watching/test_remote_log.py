"""Runs whose log is behind Beam's FileSystems, where files are added whole and never grow."""

from __future__ import annotations

import pytest

import mmlab
from mmlab import Trace, WatchRunner
from tests import remote
from tests.handlers import keyed, run_keyed
from tests.remote import NamedModelsAfar

pytestmark = pytest.mark.runs

COHORTS = [["a"], ["b", "c"]]
KEYS = ["a", "b", "a", "c"] * 5


def test_a_run_with_a_remote_log_has_the_trace_of_a_local_one(tmp_path):
    runner = WatchRunner(log=remote.uri(tmp_path / "far"))
    run_keyed(runner, keyed(COHORTS, 1, handler=NamedModelsAfar), KEYS)
    near = WatchRunner(log=tmp_path / "near")
    run_keyed(near, keyed(COHORTS, 1, handler=NamedModelsAfar), KEYS)
    assert runner.trace.notes == []
    assert runner.trace.summary().counts() == near.trace.summary().counts()
    loaded = Trace.load(remote.uri(tmp_path / "far"))
    assert loaded.summary() == runner.trace.summary()
    run_keyed(runner, keyed(COHORTS, 1, handler=NamedModelsAfar), KEYS)
    with pytest.raises(ValueError, match="holds 2 runs, load one of"):
        Trace.load(remote.uri(tmp_path / "far"))


def test_a_handler_that_is_watched_on_its_own_writes_there_as_well(tmp_path):
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    from mmlab.worker.logs import shared_log
    from mmlab.worker.recorder import close_recorder

    log = remote.uri(tmp_path / "far")
    handler = mmlab.watch(keyed(COHORTS, 1, handler=NamedModelsAfar), log, step="Score")
    run_keyed(FnApiRunner(), handler, KEYS)
    close_recorder(shared_log(log, 0.05))
    trace = Trace.load(log)
    assert trace.summary().elements == len(KEYS)
    assert [model.model for model in trace.models] == [c.model for c in trace.per_model()]


def test_a_log_that_cannot_be_written_is_said_before_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="the event log cannot be written there"):
        run_keyed(WatchRunner(log=remote.uri(tmp_path / "file")), keyed(COHORTS), KEYS)
    with pytest.raises(OSError, match="pip install apache-beam"):
        run_keyed(WatchRunner(log="nowhere://bucket/logs"), keyed(COHORTS), KEYS)
