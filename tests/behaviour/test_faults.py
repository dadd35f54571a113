"""A worker that is killed, a log that goes away: what was seen is kept, nothing else is touched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmlab import Trace, WatchRunner
from tests.handlers import NamedModels, keyed, run_keyed

ROOT = Path(__file__).parents[2]


def wait_for(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.fixture
def log_of_a_killed_worker(tmp_path):
    """The log folder of a run whose only worker was killed when it met element 20."""

    def death_was_logged():
        logs = [path.read_text() for path in tmp_path.glob("*/*.jsonl")]
        return any('"event":"use_begin"' in log and log.count("use_begin") == 21 for log in logs)

    command = [sys.executable, "-m", "tests.behaviour.killed_worker", str(tmp_path)]
    runner = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        wait_for(death_was_logged)
        yield tmp_path
    finally:
        # Beam's runner waits for ever for a worker that was killed.
        os.killpg(runner.pid, signal.SIGKILL)
        runner.wait()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX process groups")
def test_everything_before_the_kill_is_in_the_trace(log_of_a_killed_worker):
    trace = Trace.load(log_of_a_killed_worker)
    summary = trace.summary()
    assert (summary.loads, summary.uses, summary.elements) == (2, 21, 21)
    assert trace.state == "UNKNOWN"
    assert trace.notes == ["The end of the run was not seen."]
    last = max(trace.residences, key=lambda r: r.uses[-1].begin_ns).uses[-1]
    assert last.end_ns is None
    assert "K0" in repr(trace.timeline())


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX process groups")
def test_a_torn_line_is_counted(log_of_a_killed_worker):
    whole = Trace.load(log_of_a_killed_worker)
    log = max(log_of_a_killed_worker.glob("*/*.jsonl"), key=lambda path: path.stat().st_size)
    with log.open("ab") as file:
        file.write(b'{"v":1,"run":"')
    torn = Trace.load(log_of_a_killed_worker)
    assert torn.torn == 1
    assert len(torn.events) == len(whole.events)
    assert any("1 cut-off line" in note for note in torn.notes)


class RemovesTheLog(NamedModels):
    folder = ""

    def run_inference(self, batch, model, inference_args=None):
        shutil.rmtree(self.folder)
        return super().run_inference(batch, model, inference_args)


def test_a_log_that_is_removed_in_mid_run_does_not_touch_the_pipeline(tmp_path):
    handler = RemovesTheLog()
    handler.folder = str(tmp_path / "log")
    pipeline = run_keyed(WatchRunner(log=tmp_path / "log"), keyed([["a"]]), [])
    runner = WatchRunner(log=tmp_path / "log")
    pipeline = run_keyed(runner, handler, ["a"])
    assert pipeline.result.state == "DONE"
    assert runner.trace.notes == [
        "There are no events: the log folder was removed, or could not be read."
    ]


def test_an_interrupted_run_keeps_what_was_seen():
    class Interrupts(NamedModels):
        def run_inference(self, batch, model, inference_args=None):
            raise KeyboardInterrupt

    runner = WatchRunner()
    with pytest.raises(BaseException, match="|KeyboardInterrupt"):
        run_keyed(runner, keyed([["a"]], handler=Interrupts), ["a"])
    assert runner.trace.summary().loads == 1
    assert runner.trace.state in ("CANCELLED", "FAILED")
    assert runner.trace.residences[0].uses[0].error


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    import tempfile
    import threading

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    runner = WatchRunner()
    for _ in range(3):
        run_keyed(runner, keyed([["a"], ["b"]], 1), ["a", "b"] * 5)
    assert not list(tmp_path.glob("mmlab-*"))
    assert not [t for t in threading.enumerate() if t.name.startswith("mmlab")]
