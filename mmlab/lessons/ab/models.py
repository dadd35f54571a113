"""Two models that read grainy digits: a logistic regression and a small convolutional net.

Both are trained from a seed and kept in the cache: the logistic regression on digits without grain,
the net on grainy digits. They are trained in double precision and their weights are rounded, so
that every machine gets the same models and the same counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor
from torch import nn

from mmlab.lessons.ab.digits import GRAIN, digits_file, grainy
from mmlab.lessons.digits import SIDE, pictures
from mmlab.lessons.training import descend, handler_of, state_dict, train_missing

_STEPS = 400
_BATCH = 128
_GRID = 1024
"""Weights are rounded to multiples of 1 / GRID, coarser than the differences between processors."""


class LogisticRegression(nn.Module):  # type: ignore[misc]  # mypy skips torch, which takes it long to read
    """A linear model with one weight per pixel and digit.

    Input: float32, shape (n, 64). Output: scores of the ten digits, shape (n, 10).
    """

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(SIDE * SIDE, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.linear(pixels)


class SmallConvNet(nn.Module):  # type: ignore[misc]  # mypy skips torch, which takes it long to read
    """A convolutional net with two layers of 3 by 3 filters.

    Input: float32, shape (n, 64). Output: scores of the ten digits, shape (n, 10).
    """

    def __init__(self, filters: int = 8):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, SIDE, SIDE)),
            nn.Conv2d(1, filters, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(filters, 2 * filters, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * filters * (SIDE // 4) ** 2, 10),
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.layers(pixels)


@dataclass(frozen=True)
class _Recipe:
    """The settings that a model is trained with.

    Attributes:
      make: class of the model.
      rate: learning rate.
      grain: grain of the training pictures.
      seed: seed of the initial weights and of the training pictures.
    """

    make: Callable[[], nn.Module]
    rate: float
    grain: float
    seed: int


_RECIPES = {
    "logistic_regression": _Recipe(LogisticRegression, rate=0.02, grain=0, seed=1),
    "small_conv_net": _Recipe(SmallConvNet, rate=0.01, grain=GRAIN, seed=2),
}
SIDES = {"A": "logistic_regression", "B": "small_conv_net"}


def weights_file(name: str) -> Path:
    """The state dict of `logistic_regression` or `small_conv_net`, trained on first use."""
    if name not in _RECIPES:
        raise ValueError(f"name must be one of {', '.join(_RECIPES)}, got {name!r}")
    return state_dict(name, lambda: _fitted(_RECIPES[name]))


def prepare(say: Callable[..., None]) -> None:
    """Make the digits and train the models that are not in the cache yet.

    Args:
      say: called with one line per trained model.
    """
    digits_file()
    train_missing(_RECIPES, weights_file, say)


def handler(side: str, **options: Any) -> PytorchModelHandlerTensor:
    """Beam's handler for model A or B, with batches of 16, so that runs can be repeated exactly.

    Args:
      side: "A", the logistic regression, or "B", the small convolutional net.
      options: further arguments of `PytorchModelHandlerTensor`.
    """
    if side not in SIDES:
        raise ValueError(f'side must be "A" or "B", got {side!r}')
    name = SIDES[side]
    batches = {"min_batch_size": 16, "max_batch_size": 16}
    return handler_of(weights_file(name), _RECIPES[name].make, **{**batches, **options})


def _fitted(recipe: _Recipe, steps: int = _STEPS) -> nn.Module:
    """A model trained by `recipe`, with the same weights on every machine."""
    upright, labels = pictures("train")
    random = np.random.default_rng(recipe.seed)
    model = _started(recipe.make, random)

    def loss() -> torch.Tensor:
        some = random.integers(len(labels), size=_BATCH)
        pixels = grainy(upright[some], random, recipe.grain).reshape(-1, SIDE * SIDE)
        scores = model(torch.from_numpy(pixels))
        return nn.functional.cross_entropy(scores, torch.from_numpy(labels[some]))

    with _one_thread():
        descend(torch.optim.Adam(model.parameters(), lr=recipe.rate), loss, steps)
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_((weights * _GRID).round() / _GRID)
    return model.float().eval()


def _started(make: Callable[[], nn.Module], random: np.random.Generator) -> nn.Module:
    """A model with its initial weights, in double precision.

    NumPy draws the weights, because PyTorch's draws differ between processors in the last digit,
    and training amplifies the difference. Their distribution is PyTorch's default.
    """
    with torch.random.fork_rng(devices=[]):
        model = make().double().train()
    with torch.no_grad():
        for layer in (part for part in model.modules() if hasattr(part, "weight")):
            reach = layer.weight[0].numel() ** -0.5
            for weights in (layer.weight, layer.bias):
                drawn = random.uniform(-reach, reach, tuple(weights.shape))
                weights.copy_(torch.from_numpy(drawn))
    return model


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread, the fastest for models this small, especially on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
