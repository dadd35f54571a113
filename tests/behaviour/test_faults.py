"""A worker that is killed, a log that goes away: what was seen is kept, nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from apache_beam.internal import pickler

import mmlab
from mmlab import Trace, WatchRunner
from mmlab.trace.log import LogWriter, members
from tests.handlers import Model, NamedModels, keyed, run_keyed

ROOT = Path(__file__).parents[2]
WAYS = ("watched", "unwatched")

posix = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX")


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


@posix
def test_everything_before_the_kill_is_in_the_trace(log_of_a_killed_worker):
    trace = Trace.load(log_of_a_killed_worker)
    summary = trace.summary()
    assert (summary.loads, summary.uses, summary.elements) == (2, 21, 21)
    assert trace.state == "UNKNOWN"
    assert trace.notes == ["The end of the run was not seen."]
    last = max(trace.residences, key=lambda r: r.uses[-1].begin_ns).uses[-1]
    assert last.end_ns is None
    assert "K0" in repr(trace.timeline())


@posix
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


def faulty(*arguments, folder):
    """Start a run of `tests.behaviour.faulty` with its temporary files in `folder`."""
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.behaviour.faulty", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def outcome_of(process):
    """What it printed last."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return json.loads(output.splitlines()[-1])


@posix
def test_a_disk_that_fills_up_costs_events_and_nothing_else(tmp_path):
    log = tmp_path / "log"
    outcome = outcome_of(faulty("full", log, folder=tmp_path / "tmp"))
    assert outcome["same"] == 100
    # The line that met the limit is torn; every event after it is counted, the end of the run too.
    assert (outcome["torn"], outcome["state"]) == (1, "UNKNOWN")
    assert outcome["uses"] < 100
    whole = 2 * 100 + 2 * 2 + len(["process", "run", "end"])
    assert outcome["events"] - 1 + outcome["dropped"] >= whole
    assert f"{outcome['dropped']} events could not be written" in outcome["notes"][1]
    assert Trace.load(next(log.iterdir())).torn == 1


def test_a_worker_without_a_log_folder_works_on_unwatched(tmp_path):
    handler = mmlab.watch(NamedModels(), tmp_path / "log")
    travelled = pickler.dumps(handler)
    shutil.rmtree(tmp_path / "log")
    (tmp_path / "log").write_text("a folder no longer: nobody can write there, root neither")
    script = (
        "import sys; from apache_beam.internal import pickler;"
        "handler = pickler.loads(sys.stdin.buffer.read());"
        "print(list(handler.run_inference([1], handler.load_model())))"
    )
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, cwd=ROOT, input=travelled, capture_output=True, check=True)
    model = NamedModels().load_model()
    assert ran.stdout.decode().strip() == str(NamedModels().run_inference([1], model))


class SetsTheClockBack(NamedModels):
    """An hour, at element 2."""

    def run_inference(self, batch, model, inference_args=None):
        if 2 in batch:
            wall, wall_ns = time.time, time.time_ns
            time.time = lambda: wall() - 3600
            time.time_ns = lambda: wall_ns() - 3600 * 10**9
        return super().run_inference(batch, model, inference_args)


def test_a_clock_that_is_set_back_moves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", time.time)
    monkeypatch.setattr(time, "time_ns", time.time_ns)
    runner = WatchRunner(log=tmp_path)
    run_keyed(runner, keyed([["a"], ["b"]], 1, handler=SetsTheClockBack), ["a", "b"] * 4)
    trace = runner.trace
    assert 0 < trace.summary().wall_seconds < 60
    begun = [use.begin_ns for residence in trace.residences for use in residence.uses]
    assert begun == sorted(begun)
    for residence in trace.residences:
        assert residence.load_begin_ns <= residence.load_end_ns <= residence.last_ns
    # A process that begins to write after that is put beside the others, not an hour before them.
    [log] = tmp_path.iterdir()
    late = LogWriter(log, trace.run)
    late.emit("memory", members(rss=1))
    late.close()
    loaded = Trace.load(log)
    assert loaded.events[-1].rss == 1
    assert loaded.events[-1].t_ns - loaded.start_ns < 60 * 10**9
    assert loaded.summary().wall_seconds == pytest.approx(trace.summary().wall_seconds)
    assert trace.notes == []


def test_two_pipelines_at_once_in_one_process_keep_their_traces_apart():
    runners = {"few": WatchRunner(), "many": WatchRunner()}
    keys = {"few": ["a", "b"] * 10, "many": ["a", "b", "c"] * 20}
    at_once = threading.Barrier(2)

    def work(name):
        handler = keyed([["a"], ["b"], ["c"]], 1)
        at_once.wait()
        run_keyed(runners[name], handler, keys[name], label=name)

    threads = [threading.Thread(target=work, args=(name,)) for name in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, runner in runners.items():
        summary = runner.trace.summary()
        assert summary.loads == summary.uses == summary.elements == len(keys[name])
        assert summary.evictions == len(keys[name]) - 1
        assert {event.step for event in runner.trace.events} == {None, name}
        assert runner.trace.notes == []
    few, many = (runner.trace for runner in runners.values())
    assert few.start_ns < many.end_ns
    assert many.start_ns < few.end_ns


@posix
def test_ctrl_c_ends_a_run_as_it_would_unwatched(tmp_path):
    runs = {way: faulty("interrupted", way, folder=tmp_path / way) for way in WAYS}
    for run in runs.values():
        assert run.stdout.readline() == run.stdout.readline() == "use\n"
        run.send_signal(signal.SIGINT)
    watched, unwatched = (outcome_of(runs[way]) for way in WAYS)
    assert watched["error"] == unwatched["error"]
    assert "KeyboardInterrupt" in watched["error"]
    assert watched["state"] in ("CANCELLED", "FAILED")  # Beam may wrap it in an error of its own
    assert watched["uses"] >= 2
    assert watched["watchers"] == []
    assert more_than(unwatched, watched) == {}


@posix
def test_a_thousand_reloads_leave_no_more_behind_than_unwatched(tmp_path):
    runs = {way: faulty("reloads", way, 1000, folder=tmp_path / way) for way in WAYS}
    watched, unwatched = (outcome_of(runs[way]) for way in WAYS)
    assert (watched["loads"], watched["answers"], unwatched["answers"]) == (1000, 1000, 1000)
    assert (watched["dropped"], watched["torn"], watched["watchers"]) == (0, 0, [])
    # Beam itself leaves two threads, a descriptor and two files for each load.
    assert unwatched["left"]["threads"] > 1000
    assert more_than(unwatched, watched) == {}


def more_than(unwatched, watched):
    """What the watched run has left beyond the unwatched one; threads come and go by a few."""
    more = {
        kind: number - unwatched["left"].get(kind, 0) for kind, number in watched["left"].items()
    }
    return {kind: number for kind, number in more.items() if number > 5}


class Clinging(Model):
    def __del__(self):
        raise RuntimeError("it will not go")


class Clings(NamedModels):
    def load_model(self):
        return Clinging(self.name)


def test_a_model_whose_end_raises_is_seen_to_be_freed(monkeypatch):
    raised = []
    # The exception itself, if it were kept, would keep the model.
    hook = lambda problem: raised.append(str(problem.exc_value))  # noqa: E731
    monkeypatch.setattr(sys, "unraisablehook", hook)
    runner = WatchRunner()
    pipeline = run_keyed(runner, keyed([["a"], ["b"]], 1, handler=Clings), ["a", "b"] * 5)
    assert pipeline.result.state == "DONE"
    trace = runner.trace
    assert [r.free_ns is not None for r in trace.residences] == [True] * 9 + [False]
    assert len(raised) == trace.summary().evictions == 9
    assert trace.notes == []


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    runner = WatchRunner()
    for _ in range(3):
        run_keyed(runner, keyed([["a"], ["b"]], 1), ["a", "b"] * 5)
    assert not list(tmp_path.glob("mmlab-*"))
    assert not [t for t in threading.enumerate() if t.name.startswith("mmlab")]
