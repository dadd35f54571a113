"""Handlers, models, keys and machines of an odd kind run watched as they run unwatched."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import apache_beam as beam
import psutil
import pytest
import torch
from apache_beam.ml.inference.base import PredictionResult, RunInference
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState
from apache_beam.testing.util import assert_that

from mmlab import Trace, WatchRunner
from mmlab.events import UNKNOWN
from mmlab.watching.warning import WatchWarning
from mmlab.worker import memory, sizes
from mmlab.worker.models import Load, Site
from mmlab.worker.recorder import Log, close_recorder, recorder_for
from tests.handlers import Model, NamedModels, keyed, run_keyed

pytestmark = pytest.mark.runs


class Sparse(torch.nn.Module):
    """Its buffer has no storage, as in a network over a graph."""

    def __init__(self):
        super().__init__()
        self.register_buffer("edges", torch.eye(3).to_sparse())
        self.name = "sparse"


class LazilySized(torch.nn.Module):
    """Its weights get their size with the first batch."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.LazyLinear(2)
        self.name = "lazy"


class ShyModel(Model):
    @property
    def model(self):
        raise RuntimeError("not before the first batch")


class Loads(NamedModels):
    """Loads a model of the class that it is told."""

    def __init__(self, kind):
        super().__init__()
        self._kind = kind

    def load_model(self):
        return ShyModel("shy") if self._kind is ShyModel else self._kind()


@dataclasses.dataclass(frozen=True)
class Frozen(NamedModels):
    """Cannot be changed once it is made."""

    name: str = "frozen"

    def __hash__(self):
        return id(self)


class ShyHandler(NamedModels):
    """Its property bears the name of an attribute of Beam's own handlers."""

    @property
    def _model(self):
        raise RuntimeError("not on this machine")


class ByTheDevice(NamedModels):
    """Loads once more, with an argument, while it infers."""

    def load_model(self, device="cpu"):
        return Model(f"model on {device}")

    def run_inference(self, batch, model, inference_args=None):
        there = self.load_model("there")
        return [PredictionResult(example, there.name) for example in batch]


class KnowsInAWorker(NamedModels):
    """Asks an environment variable that Beam sets for it where it runs."""

    def __init__(self):
        super().__init__(env_vars={"MMLAB_TEST_SHARE": "no"})

    def share_model_across_processes(self):
        return os.environ["MMLAB_TEST_SHARE"] == "yes"


class DownloadsFirst(NamedModels):
    """Keeps its weights in a file that it makes itself."""

    def __init__(self):
        super().__init__()
        self._model_path = "/nowhere/downloaded-on-first-use.pt"


def answers(runner, handler, elements):
    """What comes out of a `RunInference`, in order."""
    found = []

    def note(actual):
        found.extend(sorted(str(result) for result in actual))

    with beam.Pipeline(runner) as pipeline:
        results = pipeline | beam.Create(elements) | "Score" >> RunInference(handler)
        assert_that(results, note)
    return found


@pytest.mark.parametrize(
    "handler",
    [
        Loads(Sparse),
        Loads(LazilySized),
        Loads(ShyModel),
        Frozen(),
        ShyHandler(),
        ByTheDevice(),
        KnowsInAWorker(),
        DownloadsFirst(),
    ],
    ids=lambda handler: handler._kind.__name__ if isinstance(handler, Loads) else "",
)
@pytest.mark.filterwarnings("ignore::mmlab.watching.warning.WatchWarning")
def test_a_handler_of_an_odd_kind_runs_and_is_watched(handler, monkeypatch):
    monkeypatch.delenv("MMLAB_TEST_SHARE", raising=False)
    runner = WatchRunner()
    assert answers(runner, handler, [1, 2, 3]) == answers(FnApiRunner(), handler, [1, 2, 3])
    summary = runner.trace.summary()
    assert (summary.elements, summary.loads >= 1) == (3, True)
    assert runner.trace.notes == []


@pytest.mark.parametrize("kind", [Sparse, LazilySized])
def test_the_size_of_a_model_without_one_is_unknown(kind):
    assert sizes._model_bytes(kind()) is UNKNOWN


class CannotBeLookedAt(NamedModels):
    """Even its copy fails."""

    def __copy__(self):
        raise RuntimeError("only one of me")


def test_a_handler_that_cannot_be_copied_runs_unwatched_and_is_named():
    handler, runner = CannotBeLookedAt(), WatchRunner()
    with pytest.warns(WatchWarning, match="Score: not watched"):
        watched = answers(runner, handler, [1, 2])
    assert watched == answers(FnApiRunner(), handler, [1, 2])
    assert any("Score: not watched" in note for note in runner.trace.notes)


class LoadsByProperty(NamedModels):
    @property
    def load_model(self):
        return super().load_model


def test_a_handler_whose_load_model_is_a_property_runs_unwatched_and_is_named():
    run = run_keyed(WatchRunner(), keyed([["a"], ["b"]], handler=LoadsByProperty), ["a", "b"])
    assert run.result.state == "DONE"
    assert "not watched" in " ".join(run.result.trace.notes)


@pytest.mark.parametrize(("hint", "taken"), [(1.5, 1), (True, 1), (float("nan"), None)])
def test_a_hint_that_beam_takes_is_warned_of_and_runs(hint, taken):
    runner = WatchRunner()
    meant = "no limit" if taken is None else taken
    with pytest.warns(WatchWarning, match=f"counts models: Beam takes it for {meant}"):
        run_keyed(runner, keyed([["a"], ["b"]], hint), ["a", "b", "a", "b"])
    summary = runner.trace.summary()
    assert summary.limit == taken
    assert summary.loads == (2 if taken is None else 4)


def test_keys_that_only_look_alike_are_two_models():
    runner = WatchRunner()
    run_keyed(runner, keyed([[1], ["1"], ["b"]], 1), [1, "1", 1, "b"])
    assert {counts.model: counts.loads for counts in runner.trace.per_model()} == {
        "NamedModels 1": 2,
        "NamedModels '1'": 1,
        "NamedModels b": 1,
    }
    uses = [event.keys for event in runner.trace.of_kind("use_begin")]
    assert uses == [{"1": 1}, {"'1'": 1}, {"1": 1}, {"b": 1}]


@dataclasses.dataclass(frozen=True)
class Wordless:
    number: int

    def __repr__(self):
        raise RuntimeError("no words")


def test_keys_without_words_are_watched():
    keys, runner = [Wordless(1), Wordless(2)], WatchRunner()
    run_keyed(runner, keyed([["a", keys[0]], ["b", keys[1]]]), ["a", *keys])
    assert [counts.uses for counts in runner.trace.per_model()] == [2, 1]


NO_DESCRIPTORS = """
import os, resource, sys
from mmlab.worker.models import Load, Site
from mmlab.worker.recorder import Log, recorder_for
recorder, site = recorder_for(Log(sys.argv[1], "r")), Site("Score", "a")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
kept = []
try:
    while True:
        kept.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
Load([(recorder, site)]).ends(object(), ())
recorder.evicts(site)
recorder.close()
print("went on")
"""


def test_without_a_descriptor_left_the_run_goes_on(tmp_path):
    command = [sys.executable, "-c", NO_DESCRIPTORS, str(tmp_path)]
    assert subprocess.check_output(command, text=True).strip() == "went on"
    assert Trace.load(tmp_path).summary().evictions == 1


def test_without_a_thread_left_the_run_goes_on(tmp_path, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    log, site = Log(str(tmp_path), "r"), Site("Score", "a")
    recorder = recorder_for(log)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    recorder.start_sampling()
    Load([(recorder, site)]).ends(object(), ())
    close_recorder(log)
    trace = Trace.load(tmp_path)
    assert trace.summary().loads == 1
    assert trace.dropped == 1


def test_a_step_that_no_worker_could_write_of_is_named():
    runner = WatchRunner()
    run_keyed(runner, keyed([["a"], ["b"]]), ["a", "b"])
    assert runner.trace.notes == []
    of_workers = {"load_begin", "load_end", "use_begin", "use_end", "limit"}
    left = Trace([event for event in runner.trace.events if event.event not in of_workers])
    assert left.incomplete == [
        "Score: elements went through it, and no worker wrote of that: none could write to the log "
        "folder."
    ]


def test_a_step_that_got_nothing_is_not():
    runner = WatchRunner()
    run_keyed(runner, keyed([["a"], ["b"]]), [])
    assert runner.trace.notes == []


def test_memory_that_cannot_be_read_is_left_out(tmp_path, monkeypatch):
    def refuse(self):
        raise psutil.AccessDenied(1)

    monkeypatch.setattr(psutil.Process, "memory_info", refuse)
    assert memory._rss_bytes() is None
    runner = WatchRunner()
    run_keyed(runner, keyed([["a"]]), ["a"])
    assert runner.trace.summary().loads == 1


class DataflowRunner(FnApiRunner):
    """Of Dataflow's it has the name, which is what Beam's checks go by."""

    def get_default_gcp_region(self):
        return None


@pytest.mark.parametrize("runner", [DataflowRunner(), WatchRunner(DataflowRunner())])
def test_beams_own_check_of_options_is_that_of_the_wrapped_runner(runner):
    options = PipelineOptions()
    options.view_as(GoogleCloudOptions).dataflow_endpoint = "https://dataflow.googleapis.com"
    with pytest.raises(ValueError, match="Pipeline has validations errors: (?s:.)*region"):
        beam.Pipeline(runner, options=options).run()


class Endless(PipelineRunner):
    """Submits a pipeline, which goes on until it is cancelled."""

    class Result(PipelineResult):
        def __init__(self):
            super().__init__(PipelineState.RUNNING)

        @property
        def state(self):
            return self._state

        def cancel(self):
            self._state = PipelineState.CANCELLED

    def run_pipeline(self, pipeline, options):
        return self.Result()


def test_a_run_that_is_cancelled_has_ended():
    runner = WatchRunner(Endless())
    pipeline = beam.Pipeline(runner)
    _ = pipeline | beam.Create([1]) | RunInference(NamedModels())
    result = pipeline.run()
    result.cancel()
    assert runner.trace.state == "CANCELLED"
    assert not Path(result._run.log.folder).exists()


class StaticMethods(NamedModels):
    @staticmethod
    def load_model():
        return Model("static")

    @classmethod
    def run_inference(cls, batch, model, inference_args=None):
        return [(cls.__name__, model.name) for _ in batch]


class TakesNoNotes(Exception):
    add_note = None


class FailsWithoutNotes(NamedModels):
    def load_model(self):
        raise TakesNoNotes("no weights")


def test_static_and_class_methods_are_called_as_unwatched():
    runner = WatchRunner(live=False)
    run_keyed(runner, keyed([["a"]], handler=StaticMethods), ["a", "a"])
    assert runner.trace.summary().uses == 2


def test_an_error_that_takes_no_notes_stays_what_it_is():
    with pytest.raises(TakesNoNotes, match="no weights"):
        run_keyed(WatchRunner(live=False), keyed([["a"]], handler=FailsWithoutNotes), ["a"])
