"""Pipelines that nobody wrapped, watched by a block around them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import apache_beam as beam
import pytest
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import mmlab
from mmlab.beam.hook import _is_hooked
from tests.handlers import Failing, NamedModels, keyed, run_keyed
from tests.waiting import HUNG_SECONDS

pytestmark = pytest.mark.runs

AB = ["a", "b"]


def run_it(label="Score", runner=None):
    return run_keyed(runner or FnApiRunner(), keyed([["a"], ["b"]], hint=1), [*"abab"], label)


@pytest.fixture(autouse=True)
def _nothing_is_left():
    own = beam.Pipeline.run
    yield
    assert beam.Pipeline.run is own
    assert not _is_hooked()


def test_a_pipeline_is_watched_by_the_runner_that_it_has():
    with mmlab.watched_pipelines(live=False) as traces:
        pipeline = run_it()
    [trace] = traces
    assert (trace.summary().loads, trace.summary().elements) == (4, 4)
    assert pipeline.result.trace is trace
    assert type(pipeline.runner) is FnApiRunner
    assert traces.labels == ["Score"]
    assert repr(traces) == "1 watched pipeline: Score"


def test_nothing_is_watched_outside():
    with mmlab.watched_pipelines(live=False) as traces:
        pass
    assert not hasattr(run_it().result, "trace")
    assert list(traces) == []


def test_several_runs_have_labels_that_tell_them_apart():
    with mmlab.watched_pipelines(live=False) as traces:
        run_it()
        run_it()
        run_it("Other")
    assert traces.labels == ["Score", "Score (2)", "Other (3)"]
    assert [trace.summary().loads for trace in traces] == [4, 4, 4]
    assert len({trace.events[0].run for trace in traces}) == 3


def test_blocks_may_be_nested_and_end_in_any_way():
    with mmlab.watched_pipelines(live=False) as outer:
        with pytest.raises(ZeroDivisionError), mmlab.watched_pipelines(live=False) as inner:
            run_it()
            raise ZeroDivisionError
        assert _is_hooked()
        run_it()
    assert (len(outer), len(inner)) == (2, 1)
    assert outer[0].events == inner[0].events


def test_a_pipeline_of_another_thread_is_watched():
    with mmlab.watched_pipelines(live=False) as traces:
        thread = threading.Thread(target=run_it)
        thread.start()
        thread.join(HUNG_SECONDS)
    assert traces.labels == ["Score"]


class RunsAnother(beam.DoFn):
    def process(self, element):
        run_keyed(FnApiRunner(), keyed([["a"]]), ["a", "a", "a"], "Inner")
        yield "a", element


def test_a_pipeline_inside_a_dofn_has_a_trace_of_its_own():
    with (
        mmlab.watched_pipelines(live=False) as traces,
        beam.Pipeline(FnApiRunner()) as pipeline,
    ):
        _ = (
            pipeline
            | beam.Create([1])
            | beam.ParDo(RunsAnother())
            | "Outer" >> RunInference(keyed([["a"]]))
        )
    assert traces.labels == ["Outer", "Inner (2)"]
    assert [trace.summary().elements for trace in traces] == [1, 3]


def test_the_error_is_the_pipelines_own_and_the_run_has_a_trace():
    with (
        mmlab.watched_pipelines(live=False) as traces,
        pytest.raises(ValueError, match="2 is too many"),
        beam.Pipeline(FnApiRunner()) as pipeline,
    ):
        _ = pipeline | beam.Create([1, 2]) | "Score" >> RunInference(Failing())
    assert type(pipeline.runner) is FnApiRunner
    assert traces[0].state == "FAILED"


def test_what_watch_runner_refuses_before_a_run_fails_as_it_does_unwatched():
    """Beam accepts a hint of 0, and fails in a worker."""

    def fails():
        with pytest.raises(Exception) as raised:
            run_keyed(FnApiRunner(), keyed([["a"], ["b"]], hint=0), ["a"])
        return type(raised.value)

    unwatched = fails()
    with mmlab.watched_pipelines(live=False) as traces:
        assert fails() is unwatched
    assert len(traces) == 1


def test_a_runner_that_cannot_begin_leaves_no_trace():
    class Refuses(FnApiRunner):
        def run_pipeline(self, pipeline, options):
            raise AssertionError("it is not called")

        def is_fnapi_compatible(self):
            raise LookupError("no cluster")

    pipeline = beam.Pipeline(FnApiRunner())
    _ = pipeline | beam.Create([1])
    pipeline.runner = Refuses()
    with mmlab.watched_pipelines(live=False) as traces, pytest.raises(LookupError):
        pipeline.run()
    assert (len(traces), traces.labels) == (0, [])


def test_a_watch_runner_stays_the_one_that_it_is():
    runner = mmlab.WatchRunner(FnApiRunner(), live=False)
    run_it(runner=runner)
    with mmlab.watched_pipelines(live=False) as traces:
        pipeline = run_it(runner=runner)
        with pytest.raises(ValueError, match="max_models"):
            run_keyed(runner, keyed([["a"]], hint=0), ["a"])
    assert pipeline.runner is runner
    assert len(traces) == 1
    assert traces[0] is pipeline.result.trace


def test_beam_decides_by_the_class_of_the_runner_as_it_does_unwatched():
    """Beam's own `DirectRunner` would otherwise be handed a copy of the pipeline."""
    pipeline = beam.Pipeline("DirectRunner")
    seen = []
    own = pipeline.runner.run_pipeline
    pipeline.runner.run_pipeline = lambda p, options: seen.append(p) or own(p, options)
    _ = pipeline | beam.Create([1, 2]) | "Score" >> RunInference(NamedModels())
    with mmlab.watched_pipelines(live=False) as traces:
        pipeline.run().wait_until_finish()
    assert seen == [pipeline]
    assert traces.labels == ["Score"]


def test_a_runner_that_is_run_as_a_copy_gives_one_trace():
    """Pipelines of runners that do not speak the Fn API are turned into protos and back."""

    class Older(FnApiRunner):
        def is_fnapi_compatible(self):
            return False

    with mmlab.watched_pipelines(live=False) as traces:
        run_it(runner=Older())
    assert traces.labels == ["Score"]
    assert traces[0].summary().loads == 4


def test_an_interactive_runner_gives_one_trace_for_each_run():
    pytest.importorskip("apache_beam.runners.interactive.interactive_runner")
    from apache_beam.runners.interactive import interactive_beam
    from apache_beam.runners.interactive.interactive_runner import InteractiveRunner

    pipeline = beam.Pipeline(InteractiveRunner(FnApiRunner()))
    interactive_beam.watch({"pipeline": pipeline})
    elements = pipeline | beam.Create([(key, 1) for key in "abab"], reshuffle=False)
    _ = elements | "Score" >> RunInference(keyed([["a"], ["b"]], hint=1))
    with mmlab.watched_pipelines(live=False) as traces:
        pipeline.run().wait_until_finish()
    assert traces.labels == ["Score"]
    assert traces[0].summary().loads == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_no_hook():
    own = beam.Pipeline.run
    with mmlab.watched_pipelines(live=False):
        pid = os.fork()
        if pid == 0:
            left = beam.Pipeline.run is own and not _is_hooked()
            os._exit(0 if left else 1)
        _, status = os.waitpid(pid, 0)
        assert beam.Pipeline.run is not own
    assert os.waitstatus_to_exitcode(status) == 0


def test_logs_are_kept_where_they_are_wanted(tmp_path):
    with mmlab.watched_pipelines(live=False, log=tmp_path) as traces:
        run_it()
        run_it()
    assert len(list(tmp_path.iterdir())) == len(traces) == 2


def test_a_runner_that_is_only_an_option():
    options = PipelineOptions(["--runner=mmlab.WatchRunner"])
    with beam.Pipeline(options=options) as pipeline:
        _ = pipeline | beam.Create([1, 2]) | "Score" >> RunInference(NamedModels())
    assert pipeline.result.trace.summary().elements == 2


def test_beam_that_is_imported_in_the_block_is_watched_too():
    code = """
import sys
import mmlab
with mmlab.watched_pipelines(live=False) as traces:
    assert "apache_beam" not in sys.modules
    import apache_beam as beam
    with beam.Pipeline("apache_beam.runners.portability.fn_api_runner.FnApiRunner") as pipeline:
        _ = pipeline | beam.Create([1])
run = beam.Pipeline.run
print(len(traces), hasattr(run, "__wrapped__"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "False"]
