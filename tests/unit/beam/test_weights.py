"""Where each handler that Beam ships keeps what it loads, and what is said of it before a run."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock, patch

import pytest
from apache_beam.ml import inference
from apache_beam.ml.inference.base import ModelHandler

from mmlab.beam.cards import key_text, key_texts, model_cards
from mmlab.beam.weights import weights_file, weights_reader
from mmlab.checks.handler import handler_problems

LIBRARIES = (
    "onnx", "onnxruntime", "transformers", "transformers.pipelines", "xgboost", "datatable",
    "tensorflow", "tensorflow_hub", "tensorrt", "vllm", "openai",
    "google.adk", "google.adk.runners", "google.adk.sessions", "google.genai", "anthropic",
    "google.cloud.aiplatform", "google.cloud", "google.genai.errors", "google.genai.types",
    "google.api_core.exceptions", "google.api_core", "google.auth",
    "vertexai", "vertexai.resources", "vertexai.resources.preview",
    "vertexai.resources.preview.ml_monitoring",
)  # fmt: skip
"""That Beam's handlers import; the handlers are not asked to load anything."""

FILES = {  # attribute, and what reads it
    "PytorchModelHandlerTensor": ("_state_dict_path", "state dict"),
    "PytorchModelHandlerKeyedTensor": ("_torch_script_model_path", "TorchScript"),
    "SklearnModelHandlerNumpy": ("_model_uri", "sklearn"),
    "SklearnModelHandlerPandas": ("_model_uri", "sklearn"),
    "OnnxModelHandlerNumpy": ("_model_uri", "onnx"),
    "XGBoostModelHandler": ("_model_state", "xgboost"),
    "XGBoostModelHandlerNumpy": ("_model_state", "xgboost"),
    "XGBoostModelHandlerPandas": ("_model_state", "xgboost"),
    "XGBoostModelHandlerSciPy": ("_model_state", "xgboost"),
    "XGBoostModelHandlerDatatable": ("_model_state", "xgboost"),
    "TensorRTEngineHandlerNumPy": ("engine_path", "tensorrt"),
}
NAMES = {  # of models on a hub or a server
    "TFModelHandlerNumpy": ("_model_uri", "tensorflow"),
    "TFModelHandlerTensor": ("_model_uri", "tensorflow"),
    "HuggingFaceModelHandlerTensor": ("_model_uri", "huggingface"),
    "HuggingFaceModelHandlerKeyedTensor": ("_model_uri", "huggingface"),
    "HuggingFacePipelineModelHandler": ("_model", "huggingface"),
    "VLLMCompletionsModelHandler": ("_model_name", "vllm"),
    "VLLMChatModelHandler": ("_model_name", "vllm"),
    "VertexAIModelHandlerJSON": ("endpoint_name", None),
    "GeminiModelHandler": ("model_name", None),
    "AnthropicModelHandler": ("model_name", None),
}
WITHOUT = {"ADKAgentModelHandler"}
"""Its model is a Python object."""


@pytest.fixture(scope="module")
def handlers():
    """Every handler of Beam, by name; libraries are stand-ins: to import them takes 20 s."""
    found = {}
    stand_ins = {name: MagicMock(__spec__=ModuleSpec(name, None)) for name in LIBRARIES}
    with patch.dict(sys.modules, stand_ins):
        for module in pkgutil.iter_modules(inference.__path__):
            if module.name.endswith("_test") or module.name in ("base", "utils", "model_manager"):
                continue
            name = f"{inference.__name__}.{module.name}"
            for kind in vars(importlib.import_module(name)).values():
                is_handler = isinstance(kind, type) and issubclass(kind, ModelHandler)
                if is_handler and kind.__module__ == name:
                    found[kind.__name__] = kind
    return found


def made(kind, attribute, value):
    """A handler that keeps `value` there, without asking what its class asks for."""
    handler = object.__new__(type(kind.__name__, (kind,), {"__module__": "program"}))
    setattr(handler, attribute, value)
    return handler


def test_the_tables_name_every_handler_of_beam(handlers):
    assert set(handlers) == {*FILES, *NAMES, *WITHOUT}


@pytest.mark.parametrize("name", FILES)
def test_a_file_names_its_model_and_must_be_there(handlers, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    attribute, reader = FILES[name]
    handler = made(handlers[name], attribute, "folder/north")  # relative, with no ending
    [card] = model_cards(handler)
    assert (card.name, card.weights) == ("north", "folder/north")
    assert (weights_reader(handler), str(weights_file(handler))) == (reader, "folder/north")
    [problem] = handler_problems(handler, "Score")
    assert problem.fatal
    assert "folder/north does not exist" in problem.what
    assert weights_file(made(handlers[name], attribute, "gs://bucket/north.pt")) is None


@pytest.mark.parametrize("name", NAMES)
def test_a_name_names_its_model_and_is_no_file(handlers, name):
    attribute, reader = NAMES[name]
    handler = made(handlers[name], attribute, "org/north")
    assert model_cards(handler)[0].name == "north"
    assert (weights_reader(handler), weights_file(handler)) == (reader, None)
    assert list(handler_problems(handler, "Score")) == []


class Placeholder:
    """Has the `repr` of every object: its class and its address."""


def test_objects_as_keys_are_named_without_addresses():
    one, other = Placeholder(), Placeholder()
    assert "0x" not in key_text(one)
    texts = key_texts([one, other, "a"])
    assert len(set(texts.values())) == 3
    assert not any("0x" in text for text in texts.values())
