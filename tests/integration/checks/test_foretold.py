"""Handlers that Beam takes and can never run: `preflight` says so, and a real run agrees."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.ml.inference.base import (
    KeyedModelHandler,
    KeyModelMapping,
    MaybeKeyedModelHandler,
    ModelHandler,
    ModelMetadata,
    RunInference,
)
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from mmlab import WatchRunner, WatchWarning, preflight
from tests.handlers import NamedModels, keyed

PAIRS = [("a", 1), ("b", 2)]


class Own(ModelHandler):
    """A wrapper of an author's, as Beam's own are."""

    def __init__(self, inner):
        self._base = inner

    def load_model(self):
        return self._base.load_model()

    def run_inference(self, batch, model, inference_args=None):
        return self._base.run_inference(batch, model, inference_args)

    def share_model_across_processes(self):
        return self._base.share_model_across_processes()


def of_two(**options):
    return KeyedModelHandler(
        [KeyModelMapping([key], NamedModels(key, **options)) for key in ("a", "b")]
    )


def nested():
    return KeyedModelHandler(
        [KeyModelMapping(["a"], of_two()), KeyModelMapping(["b"], NamedModels())]
    )


FORETOLD = {
    "preprocess": (
        lambda: of_two().with_preprocess_fn(lambda pair: pair),
        PAIRS,
        "put a beam.Map before RunInference",
        "KeyError",
    ),
    "postprocess": (
        lambda: of_two().with_postprocess_fn(lambda pair: pair),
        PAIRS,
        "put a beam.Map after RunInference",
        "KeyError",
    ),
    "no batching": (
        lambda: of_two().with_no_batching(),
        [PAIRS],
        "return True from should_skip_batching()",
        "KeyError",
    ),
    "maybe keyed": (
        lambda: MaybeKeyedModelHandler(of_two()),
        PAIRS,
        "Give RunInference the KeyedModelHandler itself",
        "TypeError",
    ),
    "a wrapper of one's own": (
        lambda: Own(of_two()),
        PAIRS,
        "Let Own.override_metrics(metrics_namespace) return",
        "KeyError",
    ),
    "keyed in keyed": (
        nested,
        [("a", ("a", 1))],
        "Put its mappings into the list of the outer",
        "KeyError",
    ),
    "copies": (
        lambda: of_two(model_copies=2),
        PAIRS,
        "Leave model_copies out",
        "ValueError",
    ),
}


def run(handler, elements, **options):
    with beam.Pipeline(FnApiRunner()) as pipeline:
        _ = (
            pipeline
            | beam.Create(elements, reshuffle=False)
            | "Score" >> RunInference(handler, **options)
        )


@pytest.mark.parametrize("kind", FORETOLD)
def test_a_handler_that_no_worker_can_run(kind):
    make, _, fix, _ = FORETOLD[kind]
    problems = preflight(make())
    assert problems, kind
    assert all(problem.fatal and fix in problem.fix for problem in problems)


@pytest.mark.part("beams_own")
@pytest.mark.parametrize("kind", FORETOLD)
def test_a_real_run_of_it_fails(kind):
    make, elements, _, error = FORETOLD[kind]
    with pytest.raises(Exception) as raised:
        run(make(), elements)
    assert error in f"{raised.type.__name__}: {raised.value}"  # Beam keeps some types


@pytest.mark.runs
def test_the_runner_warns_of_it_before_the_run_fails():
    pipeline = beam.Pipeline(WatchRunner(live=False))
    handler = of_two().with_preprocess_fn(lambda pair: pair)
    _ = pipeline | beam.Create(PAIRS, reshuffle=False) | "Score" >> RunInference(handler)
    said = pytest.warns(WatchWarning, match="Score: _PreProcessingModelHandler is around a keyed")
    with said, pytest.raises(KeyError, match="a "):
        pipeline.run()


@pytest.mark.parametrize(
    "handler",
    [
        of_two(),
        keyed([["a"], ["b"]]),
        KeyedModelHandler(NamedModels()).with_preprocess_fn(lambda pair: pair),
        KeyedModelHandler(of_two()),
        MaybeKeyedModelHandler(NamedModels(model_copies=2)),
        KeyedModelHandler([KeyModelMapping(["a"], KeyedModelHandler(NamedModels()))]),
    ],
)
def test_handlers_that_run(handler):
    assert preflight(handler) == []


class Path(NamedModels):
    def update_model_path(self, model_path=None):
        self.name = model_path or self.name


def refreshed(handler, **options):
    pipeline = beam.Pipeline(FnApiRunner())
    updates = pipeline | "Updates" >> beam.Create([ModelMetadata("b", "b")], reshuffle=False)
    options = options or {"model_metadata_pcoll": updates}
    examples = pipeline | "Examples" >> beam.Create(PAIRS, reshuffle=False)
    _ = examples | "Score" >> RunInference(handler, **options)
    return pipeline


@pytest.mark.parametrize("options", [{}, {"watch_model_pattern": "/models/*.pt"}])
def test_one_model_that_replaces_several(options):
    (problem,) = preflight(refreshed(of_two(), **options))
    assert problem.fatal and problem.where == "Score"
    assert "a list of KeyModelPathMapping" in problem.fix
    assert preflight(refreshed(KeyedModelHandler(Path()), **options)) == []


@pytest.mark.part("beams_own")
def test_a_real_run_with_such_an_update_fails():
    with pytest.raises(Exception, match="Model updates are currently not supported"):
        refreshed(of_two()).run()


class Engines(NamedModels):
    """Stands for Beam's handler, whose TensorRT needs a GPU."""


@pytest.mark.parametrize("given", ["onnx_path", "engine_path"])
def test_an_engine_that_nobody_has_built(given, monkeypatch):
    monkeypatch.setattr("mmlab.beam.weights.weights_reader", lambda handler: "tensorrt")
    handler = Engines()
    setattr(handler, given, "model.file")
    problems = preflight(handler)
    assert [problem.fatal for problem in problems] == [True] * (given == "onnx_path")
    assert all("give that as engine_path=" in problem.fix for problem in problems)


# Weights that several steps load


class OfFile(NamedModels):
    def __init__(self, path, **options):
        super().__init__(path, **options)
        self._model_uri = path


def two_steps(first, second, **options):
    pipeline = beam.Pipeline(FnApiRunner())
    examples = pipeline | beam.Create(PAIRS)
    _ = examples | "Draft" >> RunInference(first, **options)
    _ = examples | "Final" >> RunInference(second, **options)
    return pipeline


URI = "gs://models/a.pt"


def of_file():
    return KeyedModelHandler([KeyModelMapping(["a", "b"], OfFile(URI))])


@pytest.mark.parametrize(
    ("first", "second", "fix"),
    [
        (OfFile(URI), OfFile(URI), "large_model=True, and one model_identifier="),
        (of_file(), of_file(), "the same KeyedModelHandler and one model_identifier="),
        (of_file(), OfFile(URI), "one step, with beam.Flatten"),
    ],
)
def test_the_same_weights_in_two_steps(first, second, fix):
    (problem,) = preflight(two_steps(first, second))
    assert not problem.fatal and problem.where == "Draft, Final"
    assert f"2 steps load {URI}" in problem.what
    assert fix in problem.fix


def test_steps_that_load_weights_once():
    one = {"model_identifier": "one"}
    large = OfFile(URI, large_model=True)
    assert preflight(two_steps(large, large, **one)) == []
    assert preflight(two_steps(of_file(), of_file(), **one)) == []
    assert preflight(two_steps(OfFile(URI), OfFile("gs://models/b.pt"))) == []
    # A model that its process alone holds is not shared, whatever its identifier.
    assert len(preflight(two_steps(OfFile(URI), OfFile(URI), **one))) == 1
