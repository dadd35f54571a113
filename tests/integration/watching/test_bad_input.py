"""What is wrong is said before the run, in a sentence, where it can be known."""

from __future__ import annotations

import apache_beam as beam
import numpy as np
import pytest
import torch
from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping, RunInference
from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import mmlab
from mmlab import WatchRunner
from tests.handlers import NamedModels, keyed, run_keyed


class Linear(torch.nn.Linear):
    def __init__(self):
        super().__init__(2, 1)


@pytest.mark.parametrize("hint", [0, -1, 0.5, "2", [2], float("-inf")])
@pytest.mark.runs
def test_a_hint_that_beam_would_fail_with_is_refused(hint):
    with pytest.raises(ValueError, match="Score: max_models_per_worker_hint is .* at least 1"):
        run_keyed(WatchRunner(), keyed([["a"]], hint), ["a"])


@pytest.mark.parametrize("hint", [1, np.int64(2), None])
@pytest.mark.runs
def test_other_hints_are_not(hint):
    runner = WatchRunner()
    run_keyed(runner, keyed([["a"], ["b"]], hint), ["a", "b"])
    assert runner.trace.summary().loads == 2
    assert runner.trace.summary().limit == hint


def test_beams_own_check_of_repeated_keys_stands():
    with pytest.raises(ValueError, match="key KEY_5 maps to multiple model handlers"):
        keyed([["KEY_4"], ["KEY_5", "KEY_5", "KEY_6"]])


def sentences(error, caught):
    notes = list(getattr(error, "__notes__", []))
    return notes + [str(warning.message) for warning in caught]


@pytest.mark.runs
def test_a_key_that_no_mapping_names_is_named(recwarn):
    runner = WatchRunner()
    with pytest.raises(KeyError, match="Z") as failure:
        run_keyed(runner, keyed([["a"], ["b"]]), ["a", "Z"])
    said = sentences(failure.value, recwarn)
    assert any("Score: the data holds key 'Z', but no KeyModelMapping" in line for line in said)
    assert "Score: key 'Z' is in the data, but no KeyModelMapping names it." in runner.trace.notes


def weights_handler(path, **options):
    return PytorchModelHandlerTensor(state_dict_path=str(path), model_class=Linear, **options)


@pytest.mark.runs
def test_missing_weights_are_named_before_the_run(tmp_path):
    torch.save(Linear().state_dict(), tmp_path / "here.pt")
    mappings = [
        KeyModelMapping(["a"], weights_handler(tmp_path / "here.pt")),
        KeyModelMapping(["b", "c"], weights_handler(tmp_path / "gone.pt")),
    ]
    pipeline = beam.Pipeline(WatchRunner())
    _ = pipeline | beam.Create([("a", torch.zeros(2))]) | RunInference(KeyedModelHandler(mappings))
    with pytest.raises(FileNotFoundError) as failure:
        pipeline.run()
    assert "the weights of model gone (keys b, c) are missing" in str(failure.value)
    assert str(tmp_path / "gone.pt") in str(failure.value)
    assert "WatchRunner(check=False)" in str(failure.value)


@pytest.mark.runs
def test_the_check_can_be_left_out(tmp_path):
    mappings = [
        KeyModelMapping(["a"], NamedModels()),
        KeyModelMapping(["b"], weights_handler(tmp_path / "made-later.pt")),
    ]
    runner = WatchRunner(check=False)
    run_keyed(runner, KeyedModelHandler(mappings), ["a"])
    assert runner.trace.state == "DONE"


@pytest.mark.parametrize("weights", ["bert-base-uncased", "gs://bucket/model.pt", "hub/name"])
@pytest.mark.runs
def test_names_that_are_no_local_files_are_not_looked_for(weights):
    class FromAHub(NamedModels):
        def __init__(self, name):
            super().__init__(name)
            self._model_uri = weights

    runner = WatchRunner()
    run_keyed(runner, keyed([["a"]], handler=FromAHub), ["a"])
    assert runner.trace.models[0].weights == weights


def unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "log"


@pytest.mark.runs
def test_a_log_folder_that_cannot_be_written_is_said_before_the_run(tmp_path):
    log = unwritable_folder(tmp_path)
    with pytest.raises(OSError, match="cannot be written .* give log=") as failure:
        run_keyed(WatchRunner(log=log), keyed([["a"]]), ["a"])
    assert str(log) in str(failure.value)


def test_watch_says_it_too(tmp_path):
    with pytest.raises(OSError, match="cannot be written"):
        mmlab.watch(NamedModels(), unwritable_folder(tmp_path))
    with pytest.raises(TypeError, match="handler must be a Beam ModelHandler, got 'handler'"):
        mmlab.watch("handler", tmp_path)


@pytest.mark.parametrize("runner", [FnApiRunner, beam.Pipeline, 3])
def test_what_is_no_runner_is_refused(runner):
    with pytest.raises(TypeError, match="runner must be a Beam runner, its name or None, got"):
        WatchRunner(runner)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_sampling_time_that_is_not_positive_is_refused(seconds):
    with pytest.raises(ValueError, match="sample_seconds"):
        WatchRunner(sample_seconds=seconds)


def test_a_trace_before_the_run_is_a_sentence():
    with pytest.raises(RuntimeError, match="has not run a pipeline"):
        _ = WatchRunner().trace


@pytest.mark.runs
def test_a_pipeline_without_a_model_is_told():
    runner = WatchRunner()
    with (
        pytest.warns(mmlab.WatchWarning, match="^The pipeline has no RunInference"),
        beam.Pipeline(runner) as pipeline,
    ):
        _ = pipeline | beam.Create(["a"])
    assert any("no RunInference" in note for note in runner.trace.notes)
