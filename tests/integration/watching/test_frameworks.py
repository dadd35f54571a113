"""Handlers of scikit-learn, ONNX and Hugging Face, with real small models made on the spot."""

from __future__ import annotations

import importlib
import pickle
import sys
import types
from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping, RunInference
from apache_beam.ml.inference.sklearn_inference import SklearnModelHandlerNumpy
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from mmlab import WatchRunner
from mmlab.worker.sizes import _model_bytes

pytestmark = pytest.mark.runs

COLLECTED: list[str] = []


def collect(result):
    COLLECTED.append(repr(result))


@dataclass(frozen=True)
class Case:
    """A handler over several keys, and what its trace must say.

    Attributes:
      bytes: of each model, or of its file where its own cannot be seen.
    """

    handlers: dict[str, object]
    examples: list[object]
    models: list[str]
    bytes: list[int] = field(default_factory=list)


def sklearn_case(tmp_path):
    images, digits = load_digits(return_X_y=True)
    trained = {
        "lines": LogisticRegression(max_iter=500).fit(images[:200], digits[:200]),
        "tree": DecisionTreeClassifier(random_state=0).fit(images[:200], digits[:200]),
    }
    for name, model in trained.items():
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps(model))
    handlers = {name: SklearnModelHandlerNumpy(str(tmp_path / f"{name}.pkl")) for name in trained}
    sizes = [_model_bytes(trained["lines"]), (tmp_path / "tree.pkl").stat().st_size]
    return Case(handlers, list(images[200:206]), ["lines", "tree"], sizes)


def onnx_case(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from apache_beam.ml.inference.onnx_inference import OnnxModelHandlerNumpy

    handlers = {}
    for name, factor in (("double", 2.0), ("triple", 3.0)):
        path = str(tmp_path / f"{name}.onnx")
        onnx.save(_times(onnx, factor), path)
        handlers[name] = OnnxModelHandlerNumpy(path)
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size for name in handlers]
    examples = [np.array([i, i], dtype=np.float32) for i in range(6)]
    return Case(handlers, examples, ["double", "triple"], sizes)


def _times(onnx, factor):
    """The model `y = x · factor`."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.array([factor], dtype=np.float32), "factor")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "times",
        [helper.make_tensor_value_info("x", kind, [None, 2])],
        [helper.make_tensor_value_info("y", kind, [None, 2])],
        [weight],
    )
    # An old format, which every runtime reads.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def hugging_face_case(tmp_path):
    transformers = pytest.importorskip("transformers", minversion="4.45")
    if transformers.__version__ >= "5":
        pytest.skip("Beam 2.77 imports TFAutoModel, which transformers 5 does not have")
    handlers, sizes = {}, []
    for seed, name in enumerate(("mild", "harsh")):
        sizes.append(_save_classifier(transformers, tmp_path / name, seed))
        handler = _pipeline_handler()
        handlers[name] = handler("text-classification", str(tmp_path / name), device="CPU")
    return Case(handlers, ["a good film", "bad", "good", "a bad film"], ["mild", "harsh"], sizes)


def _pipeline_handler():
    """Beam's handler; its module imports TensorFlow, for types alone where models are PyTorch's."""
    importlib.import_module("transformers.pipelines")  # before TensorFlow seems to be there
    stand_in = types.ModuleType("tensorflow")
    stand_in.Tensor = type("Tensor", (), {})
    sys.modules.setdefault("tensorflow", stand_in)
    try:
        from apache_beam.ml.inference.huggingface_inference import HuggingFacePipelineModelHandler
    finally:
        if sys.modules["tensorflow"] is stand_in:
            del sys.modules["tensorflow"]
    return HuggingFacePipelineModelHandler


def _save_classifier(transformers, folder, seed):
    """A tiny random classifier of sentences; returns the bytes of its tensors."""
    import torch

    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film"]
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=16,
    )
    model = transformers.BertForSequenceClassification(config)
    model.save_pretrained(folder)
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


class InTurn(KeyedModelHandler):
    def batch_elements_kwargs(self):
        return {"min_batch_size": 1, "max_batch_size": 1}


def answers(runner, case):
    mappings = [KeyModelMapping([name], handler) for name, handler in case.handlers.items()]
    elements = [(name, example) for example in case.examples for name in case.handlers]
    COLLECTED.clear()
    with beam.Pipeline(runner) as pipeline:
        _ = (
            pipeline
            | beam.Create(elements, reshuffle=False)
            | "Score" >> RunInference(InTurn(mappings, max_models_per_worker_hint=1))
            | beam.Map(collect)
        )
    return list(COLLECTED)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("make", [sklearn_case, onnx_case, hugging_face_case])
def test_a_framework_is_watched_and_answers_the_same(make, tmp_path):
    case = make(tmp_path)
    runner = WatchRunner()
    watched = answers(runner, case)
    assert watched == answers(FnApiRunner(), case)
    assert len(watched) == 2 * len(case.examples)
    assert len(set(watched)) > 1

    trace = runner.trace
    summary = trace.summary()
    turns = 2 * len(case.examples)
    assert (summary.loads, summary.evictions, summary.uses) == (turns, turns - 1, turns)
    assert summary.most_resident == 1
    assert [model.model for model in trace.models] == case.models
    assert [residence.bytes for residence in trace.residences[:2]] == case.bytes
    freed = [residence.free_ns is not None for residence in trace.residences]
    assert freed == [True] * (turns - 1) + [False]
    assert trace.state == "DONE"
