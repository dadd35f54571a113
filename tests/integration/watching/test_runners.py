"""`WatchRunner` around each runner that people have: the same as without it, and a trace."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.interactive import interactive_beam
from apache_beam.runners.interactive.interactive_runner import InteractiveRunner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.prism_runner import PrismRunner
from apache_beam.runners.runner import PipelineState
from apache_beam.testing import test_stream

from mmlab import WatchRunner, WatchWarning, run_fresh
from mmlab.beam.pipelines import inference_steps
from tests import without_torch
from tests.handlers import Failing, NamedModels, keyed
from tests.integration import pipelines
from tests.waiting import wait_for

pytestmark = pytest.mark.runs

ROOT = Path(__file__).parents[3]
COHORTS = [["a"], ["b"], ["c"]]
KEYS = "abcabc"
LRU = {"loads": 6, "evictions": 4, "uses": 6, "elements": 6, "hint": 2, "limit": 2}
"""What a list of two models, least recently used first, does with these keys."""


@pytest.fixture
def flags(prism):
    return [f"--prism_location={prism}"]


@pytest.fixture
def as_in_a_script(monkeypatch):
    """`beam.Pipeline()` chooses as it does where nothing is pinned."""
    monkeypatch.setattr(StandardOptions, "DEFAULT_RUNNER", "DirectRunner")


_answers: list[tuple[str, str]] = []


def note(pair):
    _answers.append((pair[0], pair[1].inference))
    return pair


def build(pipeline, handler=NamedModels, stream=False, hint=2):
    if stream:
        elements = list(zip(KEYS, range(len(KEYS)), strict=True))
        pairs = (
            pipeline
            | test_stream.TestStream().add_elements(elements).advance_watermark_to_infinity()
        )
    else:
        pairs = pipeline | beam.Create(list(zip(KEYS, range(len(KEYS)), strict=True)))
    inference = RunInference(keyed(COHORTS, hint, handler=handler))
    return pairs | "Score" >> inference | "Note" >> beam.Map(note)


def outcome(runner, flags=(), **how):
    """What an author sees of a run: answers, error, counters, and which runner's result it is."""
    _answers.clear()
    pipeline = beam.Pipeline(runner, options=PipelineOptions(list(flags)))
    build(pipeline, **how)
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except Exception as error:
        return type(error), re.sub(r"job-\d+|:\d+\b", "", str(error))
    counters = {
        (str(counter.key.step), counter.key.metric.name): counter.committed
        for counter in result.metrics().query()["counters"]
        if not counter.key.metric.name.startswith("metric:")  # times
    }
    assert counters
    made_by = type(getattr(result, "_result", result)).__module__
    return sorted(_answers), result.state, counters, made_by


CASES = {
    "answers": ([], {}, "apache_beam.runners.portability.portable_runner"),
    "fails": ([], {"handler": Failing}, None),
    "stream": ([], {"stream": True}, "apache_beam.runners.direct.direct_runner"),
    "named": (["--runner=FnApiRunner"], {}, "apache_beam.runners.portability.fn_api_runner"),
    "prism": (["--runner=prism"], {}, "apache_beam.runners.portability.portable_runner"),
}


@pytest.mark.parametrize(("more", "how", "made_by"), CASES.values(), ids=CASES)
def test_a_script_that_is_watched_is_the_script(more, how, made_by, flags, as_in_a_script):
    unwatched = outcome(None, flags + more, **how)
    runner = WatchRunner(live=False)
    assert outcome(runner, flags + more, **how) == unwatched
    if made_by is None:
        assert unwatched[0] is RuntimeError
        assert runner.trace.state == "FAILED"
    else:
        assert unwatched[-1].startswith(made_by)
        assert runner.trace.summary().counts().items() >= LRU.items()


def test_a_pipeline_that_runs_again_stays_on_its_runner(flags):
    # Portable runners take --runner out of the options when they run.
    pipeline = beam.Pipeline(
        runner := WatchRunner(live=False), options=PipelineOptions([*flags, "--runner=PrismRunner"])
    )
    build(pipeline)
    for _ in range(2):
        result = pipeline.run()
        result.wait_until_finish()
        assert type(runner._runner) is PrismRunner
        assert result.trace.state == "DONE"


def test_a_runner_by_its_name():
    assert type(WatchRunner("PrismRunner")._runner) is PrismRunner
    assert type(WatchRunner("fnapirunner")._runner) is FnApiRunner
    with pytest.raises(ValueError, match="Unexpected pipeline runner: Prisma"):
        WatchRunner("Prisma")


def test_a_runner_that_contradicts_the_options_is_a_warning_that_names_both():
    with pytest.warns(WatchWarning, match="was given FnApiRunner, and --runner says PrismRunner"):
        outcome(WatchRunner("FnApiRunner", live=False), ["--runner=PrismRunner"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", WatchWarning)
        outcome(WatchRunner("FnApiRunner", live=False), ["--runner=fnapi"])


def test_the_watcher_by_its_name(flags, as_in_a_script):
    *_, made_by = outcome("mmlab.WatchRunner", [*flags, "--runner=mmlab.WatchRunner"])
    assert made_by.startswith("apache_beam.runners.portability.portable_runner")


@pytest.mark.parametrize("outside", [True, False])
def test_interactive_beam_on_either_side(outside):
    runner = WatchRunner(InteractiveRunner(FnApiRunner()) if outside else FnApiRunner(), live=False)
    pipeline = beam.Pipeline(runner if outside else InteractiveRunner(runner))
    build(pipeline)
    interactive_beam.watch({"pipeline": pipeline})
    pipeline.run().wait_until_finish()
    assert runner.trace.state == "DONE"
    assert runner.trace.summary().counts().items() >= LRU.items()
    assert {event.step for event in runner.trace.of_kind("use_begin")} == {"Score"}


# Errors


def failure(runner, flags):
    pipeline = beam.Pipeline(runner, options=PipelineOptions(flags))
    build(pipeline, handler=Failing)
    with pytest.raises(Exception) as raised:
        pipeline.run().wait_until_finish()
    return raised.value


@pytest.mark.parametrize("name", ["FnApiRunner", "PrismRunner"])
def test_an_error_keeps_its_type_and_text_and_has_no_frame_of_a_watched_handler(name, flags):
    def text(error):
        return re.sub(r"job-\d+|:\d+\b", "", str(error))

    unwatched = failure(name, flags)
    watched = failure(WatchRunner(name, live=False), flags)
    assert (type(watched), text(watched)) == (type(unwatched), text(unwatched))
    frames = "".join(traceback.format_exception(watched))
    assert "mmlab/worker" not in frames
    assert "tests/handlers.py" in frames
    assert not getattr(watched, "__notes__", [])


class CannotLoad(NamedModels):
    def load_model(self):
        raise OSError("the disk is on fire")


@pytest.mark.parametrize("name", ["FnApiRunner", "PrismRunner"])
def test_what_is_added_to_an_error_says_whose_it_is(name, flags):
    runner = WatchRunner(name, live=False)
    pipeline = beam.Pipeline(runner, options=PipelineOptions(flags))
    build(pipeline, handler=CannotLoad)
    with pytest.raises(Exception, match="the disk is on fire") as raised:
        pipeline.run().wait_until_finish()
    notes = getattr(raised.value, "__notes__", None)
    if notes is not None:  # Python 3.11 and later
        assert notes and all(line.startswith("mmlab adds: Score: model ") for line in notes)


# The end of a run whose `run()` returns at once


def ended_by_state(result):
    wait_for(lambda: PipelineState.is_terminal(result.state))


def ended_by_waiting(result):
    result.wait_until_finish(duration=600_000)


def ended_by_state_then_waiting(result):
    ended_by_state(result)
    result.wait_until_finish()
    assert result.state == "DONE"


def ended_by_trace(result):
    wait_for(lambda: result.trace.state == "DONE")


@pytest.mark.parametrize(
    "end", [ended_by_state, ended_by_waiting, ended_by_state_then_waiting, ended_by_trace]
)
def test_a_state_that_is_final_ends_the_run(end, flags, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pipeline = beam.Pipeline(WatchRunner("PrismRunner", live=False), options=PipelineOptions(flags))
    build(pipeline)
    own = [step.handler for step in inference_steps(pipeline)]
    result = pipeline.run()
    end(result)
    assert list(tmp_path.glob("mmlab-*")) == []
    assert [step.handler for step in inference_steps(pipeline)] == own
    assert result.trace.state == "DONE"
    assert result.trace.notes == []
    assert result.trace.summary().counts().items() >= LRU.items()


def test_a_run_that_is_cancelled_ends(flags, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    runner = WatchRunner("PrismRunner", live=False)
    pipeline = beam.Pipeline(runner, options=PipelineOptions(flags))
    build(pipeline, handler=pipelines.Sleepy)
    result = pipeline.run()
    result.cancel()
    wait_for(lambda: PipelineState.is_terminal(result.state))
    assert runner.trace.state == result.state == "CANCELLED"
    assert list(tmp_path.glob("mmlab-*")) == []


LEAVES = """
import sys
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from mmlab import WatchRunner
from tests.integration.watching.test_runners import build

options = PipelineOptions(sys.argv[1:])
pipeline = beam.Pipeline(WatchRunner("PrismRunner", live=False), options=options)
build(pipeline)
pipeline.run()
"""


def test_a_process_that_does_not_wait_leaves_nothing(flags, tmp_path):
    command = [sys.executable, "-c", LEAVES, *flags]
    environment = without_torch.environment(TMPDIR=str(tmp_path))
    subprocess.run(command, cwd=ROOT, check=True, env=environment, capture_output=True)
    assert list(tmp_path.glob("mmlab-*")) == []


# What compares names its runner


def says_its_runner(pipeline, hint):
    print(f"on {type(pipeline.runner._runner).__name__}", flush=True)
    pipelines.small_models(pipeline, hint)


def test_a_fresh_process_names_its_runner(flags):
    outcomes = [
        run_fresh(says_its_runner, 2),
        run_fresh(says_its_runner, 2, options=[*flags, "--runner=PrismRunner"]),
        run_fresh(says_its_runner, 2, options=flags, runner="PrismRunner"),
    ]
    assert [outcome.problem for outcome in outcomes] == [None] * 3
    said = [re.search(r"on (\w+)", outcome.output).group(1) for outcome in outcomes]
    assert said == ["FnApiRunner", "PrismRunner", "PrismRunner"]
    counts = [outcome.trace.summary().counts() for outcome in outcomes]
    assert counts[0] == counts[1] == counts[2]


@pytest.mark.parametrize(
    ("runner", "error", "text"),
    [(3, TypeError, "runner must be a Beam runner"), ("Prisma", ValueError, "Prisma")],
)
def test_a_fresh_process_is_given_no_other_runner(runner, error, text):
    with pytest.raises(error, match=text):
        run_fresh(pipelines.small_models, 2, runner=runner)
