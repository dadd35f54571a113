"""The weights of a model handler: location, reader and device."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apache_beam.ml.inference import base

from mmlab.beam.handlers import AnyHandler

_BEAMS_HANDLERS = "apache_beam.ml.inference."
_WEIGHTS = (
    "_state_dict_path",
    "_torch_script_model_path",
    "_model_uri",
    "_model_path",
    "_model_state",
    "_model",
    "_model_name",
)
_PUBLIC_WEIGHTS = ("engine_path", "onnx_path", "model_name", "endpoint_name")
"""Attributes with the weights in those of Beam's handlers that use public names."""
_FROM_FILES = frozenset(["state dict", "TorchScript", "onnx", "sklearn", "tensorrt", "xgboost"])
"""Readers that open the location as a file; others may look up a name on a hub."""
_ENDINGS = {
    ".pt", ".pth", ".onnx", ".pkl", ".pickle", ".joblib", ".h5", ".keras", ".bst", ".ubj",
    ".safetensors", ".engine", ".plan",
}  # fmt: skip
"""Endings of weights files; a bare name with another ending may be the name of a model on a hub."""


def weights_location(handler: AnyHandler) -> str | None:
    """Return the file, folder, URI or hub name that one of Beam's handlers loads, or None.

    For a remote model, return the name of the model or of the endpoint.
    """
    is_beams = any(kind.__module__.startswith(_BEAMS_HANDLERS) for kind in _kinds(handler))
    for name in (*_WEIGHTS, *(_PUBLIC_WEIGHTS if is_beams else ())):
        value = _kept(handler, name)
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, str) and value:
            return value
    return None


def _kinds(handler: AnyHandler) -> Iterator[type]:
    """Yield the handler's classes, without the base classes of all handlers."""
    return (kind for kind in type(handler).__mro__ if kind.__module__ != base.__name__)


def weights_file(handler: AnyHandler) -> Path | None:
    """Return the local file or folder that `handler` certainly loads, or None.

    None for a hub name or a URI, and for a bare name unless Beam's own code opens it as a file.
    """
    weights = weights_location(handler)
    if weights is None or "://" in weights:
        return None
    path = Path(weights)
    is_file = weights_reader(handler) in _FROM_FILES or path.suffix in _ENDINGS
    return path if is_file or path.is_absolute() else None


def weights_reader(handler: AnyHandler) -> str | None:
    """Return what reads the weights if that is Beam's own code; None for an author's own code.

    "state dict" or "TorchScript" for PyTorch, else the framework as in the names of Beam's modules,
    such as "onnx" or "sklearn". None also for a remote model.
    """
    # An author's load_model may be a property or another object without a module.
    module = getattr(inspect.getattr_static(type(handler), "load_model"), "__module__", None) or ""
    if not module.startswith(_BEAMS_HANDLERS) or module == base.__name__:
        return None
    if _kept(handler, "_torch_script_model_path"):
        return "TorchScript"
    if _kept(handler, "_state_dict_path"):
        return "state dict"
    return module.rpartition(".")[2].removesuffix("_inference")


def is_unbuilt_engine(handler: AnyHandler) -> bool:
    """Whether Beam's TensorRT handler has no engine to load, only the ONNX file to build one."""
    built = _kept(handler, "engine_path") is not None
    return weights_reader(handler) == "tensorrt" and not built


def device_name(handler: AnyHandler) -> str | None:
    """Return `cpu`, `cuda`, …; None for handlers without a device."""
    device = _kept(handler, "_device")
    return None if device is None else str(device).lower()


def _kept(handler: AnyHandler, name: str) -> Any | None:
    # Do not call an author's property of that name: it may load a model, or raise.
    return inspect.getattr_static(handler, name, None)
