"""Find missing weights, and files that are not weights by their first bytes.

Nothing is unpickled or loaded.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apache_beam.ml.inference.base import ModelHandler

from mmlab.beam.cards import ModelCard
from mmlab.beam.weights import weights_file, weights_reader
from mmlab.checks.problem import Problem, where_is, with_keys

_HEAD = 512
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_TAR = b"ustar"
"""At byte 257 of files that torch.save wrote before 2017."""


def weights_problems(card: ModelCard, leaf: ModelHandler[Any, Any, Any]) -> Iterator[Problem]:
    """Report weights that are missing on this machine or are not valid weights.

    Args:
      card: the model.
      leaf: the base handler that loads it.
    """
    path, loads = weights_file(leaf), weights_reader(leaf)
    if path is None:
        return
    missing = missing_weights(card, leaf)
    if missing is not None:
        yield missing
    elif (wrong := _what_is_wrong(path, loads)) is not None:
        yield Problem(wrong[0], where_is(card), wrong[1], fatal=loads is not None)


def missing_weights(card: ModelCard, leaf: ModelHandler[Any, Any, Any]) -> Problem | None:
    """A problem if the weights are certainly missing; fatal if Beam's own code reads them."""
    path = weights_file(leaf)
    if path is None or not _is_missing(path):
        return None
    return Problem(
        f"the weights of model {card.name}{with_keys(card)} are missing: {path} does not exist.",
        card.step,
        "Correct the path in the model handler, or make the file first.",
        fatal=weights_reader(leaf) is not None,
    )


def _is_missing(path: Path) -> bool:
    """Whether `path` certainly does not exist."""
    try:
        return not path.exists()
    except OSError:
        return False  # the name is too long, or a folder cannot be read


def _what_is_wrong(path: Path, loads: str | None = None) -> tuple[str, str] | None:
    """Check whether `path` can be the weights that a handler loads.

    Args:
      path: an existing file or folder.
      loads: kind of weights, from `weights_reader`; None for a reader of the author's own, whose
        weights may have any form.

    Returns:
      What is wrong and what to do, a sentence each; None if no fault was found.
    """
    try:
        if path.is_dir():
            return _folder(path, loads)
        with path.open("rb") as file:
            head = file.read(_HEAD)
        return _by_content(path, head, loads)
    except OSError as problem:
        return f"{path} cannot be read: {problem.strerror}.", "Check who may read it."


def _folder(path: Path, loads: str | None) -> tuple[str, str] | None:
    if loads not in ("state dict", "TorchScript", "onnx", "sklearn", "tensorrt", "xgboost"):
        return None
    return f"{path} is a folder, not a file of weights.", "Give the path of the file inside it."


def _by_content(path: Path, head: bytes, loads: str | None) -> tuple[str, str] | None:
    again = "Make or download it again."
    if not head:
        return f"{path} is empty.", again
    if head.startswith(b"version https://git-lfs"):
        return (
            f"{path} is a Git LFS pointer, not the weights themselves.",
            "Run `git lfs pull` where it comes from.",
        )
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return f"{path} is a web page, not weights: a download went wrong.", again
    if head.startswith(_ZIP):
        try:
            with zipfile.ZipFile(path) as archive:
                return _archive(path, archive.namelist(), loads)
        except OSError:
            raise
        except Exception:  # BadZipFile, and the errors of zipfile for random bytes
            return f"{path} is cut off or damaged: its list of contents cannot be read.", again
    if loads in ("state dict", "TorchScript"):
        return _torch(path, head)
    if loads == "onnx" and _is_text(head):
        return f"{path} is text, not an ONNX model.", "Give the file that was exported."
    if path.suffix == ".h5" and not head.startswith(b"\x89HDF"):
        return f"{path} is no HDF5 file.", "Give the file that Keras saved."
    return None


def _torch(path: Path, head: bytes) -> tuple[str, str] | None:
    if head[8:9] == b"{":
        return (
            f"{path} is a safetensors file, which torch.load cannot read.",
            "Write it again with torch.save(model.state_dict(), path).",
        )
    if head.startswith(_PICKLE) or head[257:262] == _TAR:
        return None
    kind = "text" if _is_text(head) else "nothing that torch.save writes"
    return (
        f"{path} is no PyTorch file: it holds {kind}.",
        "Give the file that torch.save(model.state_dict(), path) wrote.",
    )


def _archive(path: Path, names: list[str], loads: str | None) -> tuple[str, str] | None:
    if loads not in ("state dict", "TorchScript"):
        return None
    inside = {name.partition("/")[2] for name in names}
    if "data.pkl" not in inside:
        return (
            f"{path} is a ZIP archive that torch.save did not write.",
            "Give the file of weights itself.",
        )
    scripted = "constants.pkl" in inside
    if loads == "state dict" and scripted:
        return (
            f"{path} is a TorchScript model, not a state dict.",
            "Give it as torch_script_model_path=, without model_class.",
        )
    if loads == "TorchScript" and not scripted:
        return (
            f"{path} is a state dict or a pickled model, not TorchScript.",
            "Give it as state_dict_path=, with model_class=.",
        )
    return None


def _is_text(head: bytes) -> bool:
    return all(32 <= byte < 127 or byte in b"\t\n\r" for byte in head)
