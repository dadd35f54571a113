"""A worker that is killed, a log that goes away: what was seen is kept, nothing else is touched."""

from __future__ import annotations

import contextlib
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
from types import SimpleNamespace

import pytest
from apache_beam.internal import pickler

import mmlab
from mmlab import Trace, WatchRunner
from mmlab.events import Memory
from mmlab.log.writer import LogWriter
from tests import without_torch
from tests.handlers import Model, NamedModels, keyed, run_keyed
from tests.integration.watching.faulty import watchers
from tests.integration.watching.programs import ROOT, outcome_of, started
from tests.lanes import size

pytestmark = pytest.mark.runs

WAYS = ("watched", "unwatched")

posix = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX")

AS_ANYBODY = """
import ctypes, os, sys
if sys.platform == "linux" and os.geteuid() == 0:
    for right in (1, 2):  # to write where nobody may, and to read there
        ctypes.CDLL(None).prctl(24, right)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Starts a program that permissions bind, even where root runs the tests."""


def more_than(unwatched, watched):
    """What the watched run has left beyond the unwatched one, which has left something itself.

    Threads come and go by a few, and descriptors with them.
    """
    spare = {"threads": 5, "descriptors": 5}
    more = {
        kind: number - unwatched["left"].get(kind, 0) for kind, number in watched["left"].items()
    }
    return {kind: number for kind, number in more.items() if number > spare.get(kind, 0)}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Runs whose only worker was killed when it met element 20, both ways.

    For each, what it said when the worker was dead and when it was interrupted then; and the log as
    it was in between.
    """
    folders = {way: tmp_path_factory.mktemp(way) for way in WAYS}
    runs, said = {}, {}
    try:
        for way, folder in folders.items():
            (folder / "answers").mkdir()
            runs[way] = started("killed_worker", way, folder, folder=folder / "tmp")
        dead = {way: json.loads(run.stdout.readline()) for way, run in runs.items()}
        log = shutil.copytree(folders["watched"] / "log", tmp_path_factory.mktemp("log") / "log")
        for way, run in runs.items():
            assert run.poll() is None  # Beam's runner waits for ever for a worker that was killed
            run.send_signal(signal.SIGINT)
            said[way] = dead[way], outcome_of(run)
        yield SimpleNamespace(log=log, **said)
    finally:
        for run in runs.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
            run.wait()


@posix
def test_everything_before_the_kill_is_in_the_trace(killed):
    trace = Trace.load(killed.log)
    summary = trace.summary()
    assert (summary.loads, summary.uses, summary.elements) == (2, 21, 21)
    assert trace.state == "UNKNOWN"
    assert trace.notes == ["The end of the run was not seen."]
    last = max(trace.residences, key=lambda r: r.uses[-1].begin_ns).uses[-1]
    assert last.end_ns is None
    assert "K0" in repr(trace.timeline())


@posix
def test_a_torn_line_is_counted(killed, tmp_path):
    folder = shutil.copytree(killed.log, tmp_path / "log")
    whole = Trace.load(folder)
    log = max(folder.glob("*/*.jsonl"), key=lambda path: path.stat().st_size)
    with log.open("ab") as file:
        file.write(b'{"v":1,"run":"')
    torn = Trace.load(folder)
    assert (whole.torn, torn.torn) == (0, 1)
    assert len(torn.events) == len(whole.events)
    assert any("1 cut-off line" in note for note in torn.notes)


@posix
def test_a_run_whose_worker_is_killed_goes_as_it_would_unwatched(killed):
    (watched_dead, watched), (unwatched_dead, unwatched) = killed.watched, killed.unwatched
    assert len(watched_dead["answers"]) == 20
    assert watched_dead["answers"] == unwatched_dead["answers"]
    assert watched["error"] == unwatched["error"] == "KeyboardInterrupt: "
    assert (watched["state"], watched["uses"]) == ("CANCELLED", 21)
    (missing,) = watched["notes"]
    assert "the end of 1 batch was not seen: the process was killed" in missing
    assert more_than(unwatched_dead, watched_dead) == {}
    assert more_than(unwatched, watched) == {}


@pytest.fixture(scope="module")
def befallen(tmp_path_factory):
    """What came of runs that something happened to in their middle, by what it was."""
    folder = tmp_path_factory.mktemp("befallen")
    before = (sys.executable, "-c", AS_ANYBODY)
    run = started("faulty", "each_fault", folder, folder=folder / "tmp", before=before)
    return outcome_of(run)


def assert_as_unwatched(outcome, answers):
    """What happened to the log has changed neither answers nor error, and has left nothing."""
    watched, unwatched = outcome["watched"], outcome["unwatched"]
    assert watched["answers"] == unwatched["answers"]
    assert len(watched["answers"]) == answers
    assert watched["error"] == unwatched["error"]
    # Each answer is of a model that was loaded for it, and of each load Beam leaves two files.
    assert unwatched["left"]["files"] >= 2 * answers
    assert more_than(unwatched, watched) == {}
    assert (outcome["watchers"], outcome["raised"]) == ([], [])


def skip_unless_bound(outcome):
    if not outcome["binds"]:
        pytest.skip("root may write anywhere here: run the tests as another user")


NOTHING_SEEN = "There are no events: the log folder was removed, or could not be read."


@posix
def test_a_log_that_is_removed_in_mid_run_does_not_touch_the_pipeline(befallen):
    outcome = befallen["removed"]
    assert_as_unwatched(outcome, answers=40)
    assert not outcome["is_there"]
    assert outcome["notes"] == [NOTHING_SEEN]


@posix
def test_an_interrupted_run_keeps_what_was_seen(befallen):
    outcome = befallen["interrupted"]
    assert_as_unwatched(outcome, answers=20)
    assert outcome["watched"]["error"].startswith("RuntimeError: KeyboardInterrupt [while running")
    assert (outcome["state"], outcome["uses"], outcome["notes"]) == ("CANCELLED", 21, [])
    assert outcome["errors"] == ["KeyboardInterrupt: "]


@posix
def test_a_log_folder_that_becomes_read_only_in_mid_run_costs_nothing(befallen):
    outcome = befallen["read-only"]
    skip_unless_bound(outcome)
    assert_as_unwatched(outcome, answers=40)
    assert (outcome["state"], outcome["uses"], outcome["notes"]) == ("DONE", 40, [])
    assert (outcome["dropped"], outcome["torn"]) == (0, 0)


@posix
def test_a_log_folder_that_is_closed_in_mid_run_costs_the_trace_of_the_runner_alone(befallen):
    outcome = befallen["closed"]
    skip_unless_bound(outcome)
    assert_as_unwatched(outcome, answers=40)
    assert outcome["notes"] == [NOTHING_SEEN]
    loaded = Trace.load(outcome["log"])  # it is open again
    assert (loaded.state, loaded.summary().uses, loaded.notes) == ("DONE", 40, [])


@posix
def test_a_read_only_folder_for_logs_is_refused_before_the_run(befallen):
    outcome = befallen["refused"]
    skip_unless_bound(outcome)
    assert len(outcome["said"]) == 3
    for said in outcome["said"]:
        assert said.startswith("PermissionError: [Errno 13] the event log cannot be written there")
        assert "give log=... a folder that this process and every worker can write to" in said
    assert (outcome["uses"], outcome["left"], outcome["watchers"]) == (0, {}, [])


@posix
def test_a_disk_that_fills_up_costs_events_and_nothing_else(tmp_path):
    log = tmp_path / "log"
    outcome = outcome_of(started("faulty", "full", log, folder=tmp_path / "tmp"))
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
    environment = without_torch.environment()
    ran = subprocess.run(
        command, cwd=ROOT, input=travelled, capture_output=True, check=True, env=environment
    )
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
    late.emit(Memory(rss=1))
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
        assert {getattr(event, "step", name) for event in runner.trace.events} == {name}
        assert runner.trace.notes == []
    few, many = (runner.trace for runner in runners.values())
    assert few.start_ns < many.end_ns
    assert many.start_ns < few.end_ns


@posix
def test_ctrl_c_ends_a_run_as_it_would_unwatched(tmp_path):
    runs = {way: started("faulty", "interrupted", way, folder=tmp_path / way) for way in WAYS}
    for run in runs.values():
        assert run.stdout.readline() == run.stdout.readline() == "use\n"
        run.send_signal(signal.SIGINT)
    watched, unwatched = (outcome_of(runs[way]) for way in WAYS)
    assert watched["error"] == unwatched["error"]
    assert "KeyboardInterrupt" in watched["error"]
    assert watched["state"] == "CANCELLED"
    assert watched["uses"] >= 2
    assert watched["watchers"] == []
    assert more_than(unwatched, watched) == {}


@posix
@pytest.mark.part("leaks", suite=True)
def test_reloads_leave_no_more_behind_than_unwatched(tmp_path):
    loads = size("leaks", suite=200, full=1000)
    runs = {way: started("faulty", "reloads", way, loads, folder=tmp_path / way) for way in WAYS}
    watched, unwatched = (outcome_of(runs[way]) for way in WAYS)
    assert (watched["loads"], watched["answers"], unwatched["answers"]) == (loads, loads, loads)
    assert (watched["dropped"], watched["torn"], watched["watchers"]) == (0, 0, [])
    # Beam itself leaves two threads, a descriptor and two files for each load.
    assert unwatched["left"]["threads"] > loads
    assert more_than(unwatched, watched) == {}


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


SEEN: list[tuple[int, int]] = []


def folders_and_threads():
    return len(list(Path(tempfile.gettempdir()).glob("mmlab-*"))), len(watchers())


class LooksAround(NamedModels):
    def run_inference(self, batch, model, inference_args=None):
        SEEN.append(folders_and_threads())
        return super().run_inference(batch, model, inference_args)


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    runner = WatchRunner()
    for _ in range(3):
        run_keyed(runner, keyed([["a"], ["b"]], 1, handler=LooksAround), ["a", "b"] * 5)
    assert SEEN == [(1, 1)] * 30
    assert folders_and_threads() == (0, 0)
