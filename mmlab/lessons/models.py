"""Four real models, one for each distortion, trained from a seed and kept in the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from apache_beam.ml.inference.base import KeyModelMapping, PredictionResult
from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor
from torch import nn

from mmlab._arguments import short
from mmlab.lessons.digits import MAPPING, SIDE, distorted, pictures
from mmlab.lessons.training import descend, handler_of, state_dict, train_missing
from mmlab.transforms import AnyMapping

_HIDDEN = 3968
_STEPS = 30
_BATCH = 128


class DigitClassifier(nn.Module):  # type: ignore[misc]  # mypy skips torch, which takes it long to read
    """A classifier of digits with two wide layers.

    It is much wider than needed: 63 MB of weights, so that a load or a release is visible in the
    memory of the process.

    Input: float32, shape (n, 64). Output: scores of the ten digits, shape (n, 10).
    """

    def __init__(self, hidden: int = _HIDDEN):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(SIDE * SIDE, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 10),
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.layers(pixels)


def weights_file(name: str) -> Path:
    """The state dict of `CONFIG_1` … `CONFIG_4`, trained on first use (some 5 s)."""
    if name not in tuple(MAPPING):
        raise ValueError(f"name must be one of {', '.join(MAPPING)}, got {short(name)}")
    return state_dict(name, lambda: _trained(name))


def prepare(say: Callable[..., None]) -> None:
    """Train the models that are not in the cache yet.

    Args:
      say: called with one line per trained model.
    """
    train_missing(MAPPING, weights_file, say)


def handler(
    name: str,
    *,
    kind: type[PytorchModelHandlerTensor] = PytorchModelHandlerTensor,
    **options: Any,
) -> PytorchModelHandlerTensor:
    """Beam's handler for the model `name`.

    Args:
      name: `CONFIG_1` … `CONFIG_4`.
      kind: `PytorchModelHandlerTensor` or a subclass of it.
      options: further arguments of `kind`.
    """
    return handler_of(weights_file(name), DigitClassifier, kind=kind, **options)


def mapping(configs: dict[str, tuple[str, ...]] = MAPPING, **options: Any) -> list[AnyMapping]:
    """A mapping for `KeyedModelHandler`; by default each key has the model trained for it.

    Args:
      configs: name of a model to its keys.
      options: further arguments of `handler`.

    Raises:
      TypeError: `configs` is not a dict of model names to lists of keys.
      ValueError: there is no model of that name.
    """
    if not isinstance(configs, dict):
        raise TypeError(
            f"configs must be a dict such as {{'CONFIG_1': ['KEY_1']}}, got {short(configs)}"
        )
    for name, keys in configs.items():
        if not isinstance(keys, list | tuple):
            raise TypeError(
                f"the keys of {name} must be a list such as ['KEY_1'], got {short(keys)}"
            )
    return [KeyModelMapping(list(keys), handler(name, **options)) for name, keys in configs.items()]


def predicted_digit(result: PredictionResult) -> int:
    """The digit with the highest score.

    Raises:
      TypeError: `result` is not a `PredictionResult`, such as a pair from a keyed handler.
    """
    if not isinstance(result, PredictionResult):
        pair = isinstance(result, tuple) and len(result) == 2
        hint = ": a keyed handler returns (key, result), take the second" if pair else ""
        raise TypeError(f"result must be a PredictionResult, got {short(result)}{hint}")
    scores: torch.Tensor = result.inference
    return int(scores.argmax())


def _trained(name: str) -> DigitClassifier:
    upright, labels = pictures("train")
    pixels = torch.from_numpy(distorted(upright, MAPPING[name][0]))  # its scanners distort alike
    digits = torch.from_numpy(labels)
    return _fitted(pixels.reshape(-1, SIDE * SIDE), digits, seed=list(MAPPING).index(name))


def _fitted(
    pixels: torch.Tensor, digits: torch.Tensor, seed: int, hidden: int = _HIDDEN
) -> DigitClassifier:
    """A classifier trained on `pixels`, shape (n, 64), and `digits`, shape (n,).

    The same seed gives the same weights. PyTorch's random state is not changed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DigitClassifier(hidden).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)  # twice as fast

        def loss() -> torch.Tensor:
            batch = torch.randint(len(digits), (_BATCH,))
            return nn.functional.cross_entropy(model(pixels[batch]), digits[batch])

        descend(optimizer, loss, _STEPS)
    trained: DigitClassifier = model.eval()
    return trained
