"""Training, caching and loading of the lessons' models, as state dicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor
from torch import nn

from mmlab.lessons.cache import is_made, made_once


def state_dict(name: str, make: Callable[[], nn.Module]) -> Path:
    """The cached state dict `name`, made by training with `make` if it is missing."""
    return made_once(f"{name}.pt", lambda path: torch.save(make().state_dict(), path))


def train_missing(
    names: Collection[str], train: Callable[[str], Path], say: Callable[..., None]
) -> None:
    """Train the models that are not in the cache yet.

    Args:
      names: names of the models.
      train: trains the model of a name and returns its file.
      say: called with one line per trained model.
    """
    missing = [name for name in names if not is_made(f"{name}.pt")]
    for number, name in enumerate(missing, start=1):
        began = time.monotonic()
        train(name)
        place = f"[{number}/{len(missing)}] " if len(names) > 1 else ""
        say(f"{place}trained {name} in {time.monotonic() - began:.0f} s", at_once=True)


def descend(optimizer: torch.optim.Optimizer, loss: Callable[[], torch.Tensor], steps: int) -> None:
    """Take `steps` optimizer steps; `loss` returns the loss of a new batch each time."""
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()


def handler_of(
    weights: Path,
    model: Callable[..., nn.Module],
    *,
    kind: type[PytorchModelHandlerTensor] = PytorchModelHandlerTensor,
    **options: Any,
) -> PytorchModelHandlerTensor:
    """Beam's handler for a cached state dict."""
    return kind(
        state_dict_path=str(weights),
        model_class=model,
        load_model_args={"weights_only": True},
        **options,
    )
