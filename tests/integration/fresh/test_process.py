"""Fresh processes: what comes back, how they end, and that nothing of them stays."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apache_beam as beam
import psutil
import pytest
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from mmlab._arguments import parse_bytes
from mmlab.fresh import launch, process
from mmlab.fresh.outcome import FreshRunError, RunOutcome
from mmlab.fresh.process import FreshRun, run_fresh
from mmlab.log.reader import LogReader
from mmlab.trace import Trace
from tests import without_torch
from tests.handlers import NamedModels
from tests.integration import pipelines
from tests.lanes import size
from tests.waiting import wait_for

pytestmark = pytest.mark.runs

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits need Linux")


def start_by(start, monkeypatch):
    """Have runs forked, or spawned: without PyTorch, which a process needs seconds to import."""
    monkeypatch.setenv(launch._VARIABLE, start)
    if start == "spawn":
        without_torch.hide(monkeypatch)


@pytest.mark.parametrize("start", [pytest.param("fork", marks=posix), "spawn"])
def test_a_run_comes_back_as_a_trace(nothing_left, monkeypatch, start):
    start_by(start, monkeypatch)
    outcome = run_fresh(pipelines.small_models, 2)
    assert outcome.succeeded, outcome.problem
    assert outcome.raise_if_failed() is outcome
    assert outcome.trace.state == "DONE"
    assert outcome.trace.summary().counts()["loads"] == 8
    assert outcome.trace.events[0].pid != os.getpid()
    assert 0 < outcome.first_event_seconds < outcome.seconds


def test_a_function_of_a_notebook_with_what_it_closes_over(nothing_left):
    hints = {"seen": 3}

    class Local(NamedModels):
        pass

    def build(pipeline):
        pipelines.models_in_turn(pipeline, hints["seen"], handler=Local)

    build.__module__ = "__main__"
    outcome = run_fresh(build)
    assert outcome.trace.summary().hint == 3, outcome.problem


def test_the_process_is_like_this_one_but_for_its_folder(nothing_left, monkeypatch, tmp_path):
    monkeypatch.setenv("MMLAB_TEST", "yes")
    monkeypatch.chdir(tmp_path)

    def build(pipeline):
        print(os.environ["MMLAB_TEST"], Path.cwd(), tempfile.gettempdir())
        pipelines.small_models(pipeline, 1)

    said = run_fresh(build).output.split()
    assert said[:2] == ["yes", str(tmp_path)]
    assert said[2].startswith(str(tmp_path / "mmlab-run-"))


def test_what_beam_leaves_behind_for_each_load_goes_with_the_run(nothing_left):
    class Looking(NamedModels):
        def run_inference(self, batch, model, inference_args=None):
            here = list(Path(tempfile.gettempdir()).glob("*.address"))
            print("addresses", len(here))
            return super().run_inference(batch, model, inference_args)

    def build(pipeline):
        pipelines.models_in_turn(pipeline, 1, handler=Looking)

    outcome = run_fresh(build)
    seen = re.findall(r"addresses (\d+)", outcome.output)
    assert int(seen[-1]) - int(seen[0]) == outcome.trace.summary().loads - 1 > 0


def test_an_error_comes_back_readable(nothing_left):
    outcome = run_fresh(pipelines.failing, 1)
    assert not outcome.succeeded
    assert outcome.error_type == "RuntimeError"
    assert outcome.error.startswith("the model has gone mad")
    assert "run_inference" in outcome.traceback
    assert "said before" in outcome.output
    assert outcome.trace.state == "FAILED"
    assert outcome.trace.summary().loads == 1
    with pytest.raises(FreshRunError, match="gone mad") as failure:
        outcome.raise_if_failed()
    assert failure.value.outcome is outcome


def test_notes_come_back(nothing_left):
    def build(pipeline):
        handler = pipelines.keyed([["a"]])
        _ = pipeline | beam.Create([("Z", 1)]) | "Score" >> RunInference(handler)

    outcome = run_fresh(build)
    assert outcome.error_type == "KeyError"
    if sys.version_info >= (3, 11):
        assert "no KeyModelMapping of the keyed handler names it" in outcome.problem


@posix
def test_a_killed_process_leaves_its_trace(nothing_left):
    outcome = run_fresh(pipelines.killed, 1)
    assert (outcome.phase, outcome.error_type) == ("run", "Killed")
    assert outcome.error == "the process was ended by SIGKILL"
    assert outcome.problem.startswith("The process was ended by SIGKILL. Perhaps the machine was")
    assert not outcome.oom
    assert outcome.trace.state == "FAILED"
    assert outcome.trace.summary().uses == 4
    assert outcome.trace.residences[-1].uses[-1].end_ns is None


@posix
def test_an_interrupt_stops_the_process_and_keeps_what_was_seen(nothing_left):
    asleep = []

    def interrupt(events):
        asleep.extend(e for e in events if e.event == "use_begin" and e.model == "Sleepy d")
        if asleep:  # again with later events: one that arrives in a finalizer is lost
            _interrupt()

    outcome = run_fresh(pipelines.sleepy, 2, on_events=interrupt)
    template = psutil.Process(launch._template()._process.pid)
    assert outcome.interrupted
    assert outcome.problem == "The run was interrupted."
    assert outcome.trace.state == "CANCELLED"
    assert outcome.trace.summary().loads >= 2
    wait_for(
        lambda: not any(_is(process, "sleep") for process in template.children(recursive=True))
    )


@pytest.fixture
def nap(monkeypatch):
    """How long the processes of a `Runaway` sleep: no other process sleeps just as long."""
    seconds = f"{pipelines.NEVER_SECONDS}.{os.getpid()}"
    monkeypatch.setenv(pipelines.NAP, seconds)
    return seconds


@posix
@pytest.mark.parametrize(
    ("start", "end"),
    [
        *(("fork", end) for end in ("Runaway", "RunawayWaiting", "RunawayKilled")),
        ("spawn", "RunawayWaiting"),
    ],
)
def test_what_a_run_started_in_sessions_of_its_own_ends_with_it(
    nothing_left, monkeypatch, nap, start, end
):
    start_by(start, monkeypatch)
    with FreshRun(pipelines.runaway, getattr(pipelines, end)) as run:
        seen = []

        def look(events):
            seen.extend(_called("sleep", nap))
            if end == "RunawayWaiting" and len(set(seen)) >= 3:
                run.stop()

        run.wait(look)
    wait_for(lambda: _called("sleep", nap) == [])
    if end == "RunawayWaiting":
        assert len(set(seen)) == 3


@posix
def test_a_run_that_ends_leaves_the_run_beside_it_alone(nothing_left, nap):
    with FreshRun(pipelines.runaway, pipelines.RunawayWaiting) as long:

        def all_asleep():
            long.poll()
            return len(_called("sleep", nap)) == 3

        wait_for(all_asleep)
        beside = set(_called("sleep", nap))
        assert run_fresh(pipelines.small_models, 1).succeeded
        assert set(_called("sleep", nap)) == beside
    wait_for(lambda: _called("sleep", nap) == [])


def _called(*words):
    """Living processes with this command line, wherever they belong."""
    found = []
    for found_one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if found_one.cmdline() == list(words):
                found.append(found_one.pid)
    return found


def _is(process, name):
    with contextlib.suppress(psutil.Error):
        return process.name() == name


def test_an_interrupt_after_the_end_is_known_too(nothing_left):
    def interrupt(events):
        if any(event.event == "end" for event in events):
            raise KeyboardInterrupt

    outcome = run_fresh(pipelines.small_models, 2, on_events=interrupt)
    assert outcome.interrupted
    assert outcome.trace.summary().elements == 12


def _interrupt():
    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_inside_the_reader_of_the_log_loses_no_event(nothing_left, monkeypatch):
    whole = run_fresh(pipelines.models_in_turn, 1, 12).trace.summary().counts()
    parse = LogReader.parse

    def interrupted(reader):
        events = parse(reader)
        if not stopped and any(event.event == "load_begin" for event in events):
            stopped.append(True)
            wait_for(lambda: not run.log_folder or b'"end"' in _written(run.log_folder))
            _interrupt()
        return events

    stopped, seen = [], []
    with FreshRun(pipelines.models_in_turn, 1, 12) as run:
        monkeypatch.setattr(LogReader, "parse", interrupted)
        outcome = run.wait(seen.extend)
    assert outcome.interrupted
    assert outcome.trace.summary().counts() == whole
    assert len(seen) == len(outcome.trace.of_kind(*{e.event for e in seen}))


def _written(folder):
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_a_second_interrupt_while_the_run_is_ended_changes_nothing(nothing_left, monkeypatch):
    def interrupt(events):
        seen.extend(events)
        raise KeyboardInterrupt

    def interrupted(*args):
        _interrupt()
        _interrupt()
        return collect(*args)

    seen, collect = [], FreshRun._collect
    monkeypatch.setattr(FreshRun, "_collect", interrupted)
    outcome = run_fresh(pipelines.sleepy, 2, on_events=interrupt)
    assert outcome.interrupted
    assert {event.t_ns for event in outcome.trace.events} >= {event.t_ns for event in seen} > set()


@posix
def test_it_can_be_stopped_from_another_thread(nothing_left):
    with FreshRun(pipelines.sleepy, 2) as run:
        stops = threading.Thread(target=run.stop)
        outcome = run.wait(lambda events: stops.ident or stops.start())
        assert run.wait() is outcome is run.outcome
    assert outcome.interrupted


@posix
def test_a_handler_that_hangs_in_a_library_is_stopped_too(nothing_left):
    uses = []

    def stop(events):
        uses.extend(event for event in events if event.event == "use_begin")
        if len(uses) == 4:
            run.stop()

    outcome = (run := FreshRun(pipelines.hangs, 1)).wait(stop)
    assert outcome.interrupted
    assert outcome.trace.summary().uses == 4
    assert outcome.trace.residences[-1].uses[-1].end_ns is None


@linux
def test_a_run_whose_supervisor_was_killed_ends(nothing_left):
    with FreshRun(pipelines.hangs, 1) as run:
        pid, supervisor = run.pid, psutil.Process(run.pid).parent()
        outcome = run.wait(lambda events: supervisor.kill())
    assert outcome.error == "the process ended without saying how"
    assert outcome.trace.events
    assert not run.folder.exists()
    wait_for(lambda: not psutil.pid_exists(pid))


@posix
def test_leaving_the_with_statement_stops_it(nothing_left):
    with pytest.raises(ZeroDivisionError), FreshRun(pipelines.sleepy, 2) as run:
        raise ZeroDivisionError
    assert not psutil.pid_exists(run.pid)
    assert not run.folder.exists()


@posix
def test_an_error_of_the_live_view_stops_it_too(nothing_left):
    def fails(events):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_fresh(pipelines.sleepy, 2, on_events=fails)


def test_events_arrive_once_and_while_it_runs(nothing_left):
    parts = []
    outcome = run_fresh(pipelines.models_in_turn, 1, 30, on_events=parts.append)
    events = [event for part in parts for event in part]
    assert len(parts) > 1
    lines = {event.to_json() for event in events}
    assert lines == {event.to_json() for event in outcome.trace.events}
    assert len(lines) == len(events)


@posix
def test_runs_side_by_side(nothing_left):
    outcomes = {}

    def run(hint):
        outcomes[hint] = run_fresh(pipelines.small_models, hint)

    threads = [threading.Thread(target=run, args=(hint,)) for hint in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {hint: o.trace.summary().hint for hint, o in outcomes.items()} == {1: 1, 2: 2, 3: 3}


# Out of memory


@linux
def test_without_a_hint_it_does_not_fit_and_with_hint_1_it_does(nothing_left):
    outcome = run_fresh(pipelines.huge_models, None, memory_limit="200MB")
    assert outcome.error_type == "RuntimeError"
    assert "DefaultCPUAllocator: can't allocate memory" in outcome.error
    unfit = outcome.out_of_memory
    assert (unfit.step, unfit.loading, unfit.memory_limit) == ("Score", True, 200_000_000)
    assert unfit.model == f"HugeModels {'acdf'[unfit.held]}"
    assert unfit.held_bytes == unfit.held * 60_000_000
    assert 1 <= unfit.held <= 3
    assert "did not fit" in outcome.problem
    again = run_fresh(pipelines.huge_models, 1, 6, memory_limit="200MB")
    assert again.succeeded, again.problem


@linux
def test_the_timeline_ends_with_a_mark_that_says_so(nothing_left):
    outcome = run_fresh(pipelines.huge_models, None, memory_limit="200MB")
    picture = outcome.trace.timeline()
    top, _, bottom = picture.figure.axes
    said = [text.get_text() for axes in (top, bottom) for text in axes.texts]
    said += [text.get_text() for text in picture.figure.texts]
    assert "did not fit" in said
    assert any(re.fullmatch(r"\d+ MB = \d+ at the start \+ 200 for the run", text)
               for text in (" ".join(words.split()) for words in said))  # fmt: skip
    assert outcome.out_of_memory.what in said
    assert outcome.out_of_memory.advice in said
    assert outcome.out_of_memory.what in repr(picture)


@linux
@pytest.mark.part("leaks", suite=True)
def test_runs_out_of_memory_leave_nothing(nothing_left):
    for _ in range(size("leaks", suite=4, full=100)):
        outcome = run_fresh(pipelines.huge_models, None, memory_limit="150MB")
        assert outcome.oom, outcome.problem


def test_a_hundred_thrashing_reloads_leave_nothing(nothing_left):
    outcome = run_fresh(pipelines.models_in_turn, 1, 150, NamedModels)
    assert outcome.trace.summary().reloads >= 95


@pytest.mark.part("leaks", suite=True)
def test_thrashing_runs_leave_nothing_here_nor_in_the_template(nothing_left):
    """Each run takes half a second, in which Beam mostly waits; so five go on at once."""
    runs = size("leaks", suite=20, full=600)
    with ThreadPoolExecutor(5) as threads:
        outcomes = list(threads.map(lambda _: run_fresh(pipelines.thrashing), range(runs)))
    assert {outcome.problem for outcome in outcomes} == {None}
    assert {outcome.trace.summary().reloads for outcome in outcomes} == {4}


@posix
@linux
def test_a_process_that_aborts_for_want_of_memory_says_so_itself(nothing_left):
    outcome = run_fresh(pipelines.aborting, 2, memory_limit="300MB")
    assert outcome.error.startswith("the process was ended by SIGABRT: terminate called after")
    assert outcome.oom
    assert outcome.problem.startswith("The process was ended by SIGABRT")


@linux
def test_a_killed_process_with_a_limit_is_not_taken_for_one_out_of_memory(nothing_left):
    outcome = run_fresh(pipelines.killed, 1, memory_limit="300MB")
    assert outcome.problem == "The process was ended by SIGKILL."
    assert not outcome.oom


# A limit and what has nothing to do with it


@linux
def test_a_mistake_before_the_first_model_is_not_put_down_to_the_limit(nothing_left):
    outcome = run_fresh(pipelines.after_a_source, pipelines.divides_by_zero, memory_limit="500MB")
    assert (outcome.phase, outcome.error_type) == ("run", "ZeroDivisionError")
    assert outcome.problem.startswith("ZeroDivisionError: division by zero")
    refused = run_fresh(pipelines.small_models, 0, memory_limit="500MB")
    assert "max_models_per_worker_hint" in refused.problem
    assert "too small" not in refused.problem


@linux
def test_a_slow_source_under_a_limit_is_no_stall(nothing_left, monkeypatch):
    monkeypatch.setattr(process, "_STALLED_SECONDS", 0.5)
    outcome = run_fresh(pipelines.after_a_source, pipelines.slow, memory_limit="200MB")
    assert outcome.succeeded, outcome.problem


@linux
def test_a_run_that_waits_with_its_limit_reached_is_ended(nothing_left, monkeypatch):
    monkeypatch.setattr(process, "_STALLED_SECONDS", 0.5)
    outcome = run_fresh(pipelines.after_a_source, pipelines.full, memory_limit="100MB")
    assert (outcome.phase, outcome.error_type) == ("limit", "Stalled")
    assert re.search(
        "limit of 100 MB is too small even to start .* about 80 MB with one worker, and 50 MB "
        "more with each further thread",
        outcome.problem,
    )


@linux
def test_a_run_that_waits_for_a_worker_that_memory_has_ended_is_ended(nothing_left, monkeypatch):
    monkeypatch.setattr(process, "_STALLED_SECONDS", 0.5)
    outcome = run_fresh(pipelines.after_a_source, pipelines.threadless, memory_limit="200MB")
    assert (outcome.phase, outcome.error_type) == ("limit", "Stalled")


@linux
def test_a_run_that_waits_with_its_limit_reached_by_models_is_ended(nothing_left, monkeypatch):
    monkeypatch.setattr(process, "_STALLED_SECONDS", 0.5)
    outcome = run_fresh(pipelines.filled, memory_limit="200MB")
    assert (outcome.phase, outcome.error_type) == ("run", "Stalled")
    assert outcome.oom
    assert outcome.problem.startswith("Memory ran out while Fills a answered: 1 model was held")


@linux
def test_a_run_that_waits_with_room_left_goes_on(nothing_left, monkeypatch):
    monkeypatch.setattr(process, "_STALLED_SECONDS", 0.5)
    assert run_fresh(pipelines.sleepy_for_a_while, memory_limit="200MB").succeeded


def test_an_error_that_is_a_workers_traceback_is_said_in_its_last_line():
    error = 'Traceback (most recent call last):\n  File "a.py", line 1\nEOFError: no answer\n'
    outcome = RunOutcome(Trace([]), "run", "RuntimeError", error)
    assert outcome.problem == "EOFError: no answer"


@linux
@pytest.mark.parametrize(("limit", "starved"), [("81MB", True), ("300MB", False)])
def test_a_crash_before_the_first_model_is_of_the_limit_only_where_that_is_too_small(
    nothing_left, limit, starved
):
    def build(pipeline):
        os.kill(os.getpid(), signal.SIGSEGV)
        pipelines.small_models(pipeline, 1)

    threads = ["--direct_running_mode=multi_threading", "--direct_num_workers=4"]
    outcome = run_fresh(build, memory_limit=limit, options=threads)
    assert ("too small even to start" in outcome.problem) is starved


@linux
def test_a_limit_that_is_too_small_for_many_threads_says_what_they_need(nothing_left, monkeypatch):
    monkeypatch.setattr(process, "_STALLED_SECONDS", 2.0)
    threads = ["--direct_running_mode=multi_threading", "--direct_num_workers=4"]
    outcome = run_fresh(pipelines.small_models, 2, memory_limit="81MB", options=threads)
    assert "too small even to start" in outcome.problem
    assert "more with each further thread" in outcome.problem


# Bad input


@linux
@pytest.mark.parametrize("limit", ["20MB", 1, 79_999_999])
def test_a_limit_too_small_to_start_is_said_at_once(nothing_left, limit):
    with pytest.raises(ValueError, match="too small even to start: .* a larger memory_limit"):
        run_fresh(pipelines.small_models, 1, memory_limit=limit)


@pytest.mark.parametrize("limit", ["much", "", "-5MB", 0, -1, True, 1.5, [1], "5 parsecs", "nan"])
def test_a_limit_that_cannot_be_read_says_what_can(nothing_left, limit):
    with pytest.raises(ValueError, match="memory_limit must be .* '600MB'"):
        run_fresh(pipelines.small_models, 1, memory_limit=limit)


def test_limits_are_read():
    assert parse_bytes("0.5 GB") == parse_bytes("500MB") == parse_bytes(500_000_000)
    assert parse_bytes("1GiB") == 1 << 30


def test_where_limits_do_not_work_it_says_so(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(NotImplementedError, match="needs Linux, and this is win32: leave it out"):
        run_fresh(pipelines.small_models, 1, memory_limit="1GB")


def test_what_cannot_be_pickled_is_named(nothing_left):
    lock = threading.Lock()

    def build(pipeline):
        with lock:
            pipelines.small_models(pipeline, 1)

    with pytest.raises(TypeError, match="it uses lock .* inside build, not outside"):
        run_fresh(build)
    with pytest.raises(TypeError, match="it uses argument 2"):
        run_fresh(pipelines.small_models, 1, lock)
    with pytest.raises(TypeError, match="must be a function"):
        run_fresh("build")


def test_a_build_that_raises_says_in_which_line(nothing_left):
    outcome = run_fresh(lambda pipeline: pipeline.no_such_thing)
    assert outcome.phase == "build"
    assert "build failed in the fresh process with AttributeError" in outcome.problem
    assert re.search(
        r"\(test_process.py, line \d+: outcome = run_fresh\(lambda pipeline: ", outcome.problem
    )

    def build(pipeline):
        beam.Map(3)  # Beam's own code raises

    assert "line" in run_fresh(build).problem
    assert "beam.Map(3)  # Beam's own code raises)" in run_fresh(build).problem


def test_options_that_cannot_be_pickled_are_named_and_not_build(nothing_left):
    options = PipelineOptions(job_name=threading.Lock())
    with pytest.raises(TypeError, match="options cannot be sent to a fresh process"):
        run_fresh(pipelines.small_models, 1, options=options)


def test_a_build_without_run_inference(nothing_left):
    outcome = run_fresh(lambda pipeline: pipeline | beam.Create([1]))
    assert "put no RunInference step into the pipeline" in outcome.problem


def test_a_build_that_runs_the_pipeline_itself(nothing_left):
    def build(pipeline):
        with pipeline:
            pipelines.small_models(pipeline, 1)

    assert "leave out `with pipeline:`" in run_fresh(build).problem
