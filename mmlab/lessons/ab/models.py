"""Two rivals that read grainy digits: a logistic regression, and a small convolutional net.

Both are trained from a seed and kept in the cache: the logistic regression on digits without
grain, from when the scanner was new; the net on digits as they look today. They are trained in
double precision and their weights are rounded, so that every machine gets the same models, and a
lesson the same counts.
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

STEPS = 400
BATCH = 128
GRID = 1024
"""Weights are multiples of 1 / GRID: coarser than the differences between processors."""


class LogisticRegression(nn.Module):  # type: ignore[misc]  # mypy skips torch, which takes it long to read
    """A weight for each pixel and digit.

    Input: float32, shape (n, 64). Output: scores of the ten digits, shape (n, 10).
    """

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(SIDE * SIDE, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.linear(pixels)


class SmallConvNet(nn.Module):  # type: ignore[misc]  # mypy skips torch, which takes it long to read
    """Two layers of 3 by 3 filters, which look at neighbouring pixels together.

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
class Recipe:
    """How a model is made.

    Attributes:
      make: its class.
      rate: learning rate.
      grain: of the pictures that it is trained on.
      seed: of its weights and of these pictures.
    """

    make: Callable[[], nn.Module]
    rate: float
    grain: float
    seed: int


RECIPES = {
    "logistic_regression": Recipe(LogisticRegression, rate=0.02, grain=0, seed=1),
    "small_conv_net": Recipe(SmallConvNet, rate=0.01, grain=GRAIN, seed=2),
}
SIDES = {"A": "logistic_regression", "B": "small_conv_net"}


def weights_file(name: str) -> Path:
    """The state dict of `logistic_regression` or `small_conv_net`, trained on first use."""
    if name not in RECIPES:
        raise ValueError(f"there is no model {name!r}: this lesson has {', '.join(RECIPES)}")
    return state_dict(name, lambda: fitted(RECIPES[name]))


def prepare(say: Callable[..., None]) -> None:
    """Make and keep the digits and the models that are not there yet.

    Args:
      say: called with one line per model that is trained.
    """
    digits_file()
    train_missing(RECIPES, weights_file, say)


def handler(side: str, **options: Any) -> PytorchModelHandlerTensor:
    """Beam's handler for a rival, in batches of 16, so that a run can be repeated exactly.

    Args:
      side: "A", the logistic regression, or "B", the small convolutional net.
      options: for `PytorchModelHandlerTensor`.
    """
    if side not in SIDES:
        raise ValueError(f'side is {side!r}: it is "A" or "B"')
    name = SIDES[side]
    batches = {"min_batch_size": 16, "max_batch_size": 16}
    return handler_of(weights_file(name), RECIPES[name].make, **{**batches, **options})


def fitted(recipe: Recipe, steps: int = STEPS) -> nn.Module:
    """A model trained by a recipe: the same one gives the same weights, on every machine."""
    upright, labels = pictures("train")
    random = np.random.default_rng(recipe.seed)
    model = _started(recipe.make, random)

    def loss() -> torch.Tensor:
        some = random.integers(len(labels), size=BATCH)
        pixels = grainy(upright[some], random, recipe.grain).reshape(-1, SIDE * SIDE)
        scores = model(torch.from_numpy(pixels))
        return nn.functional.cross_entropy(scores, torch.from_numpy(labels[some]))

    with _one_thread():
        descend(torch.optim.Adam(model.parameters(), lr=recipe.rate), loss, steps)
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_((weights * GRID).round() / GRID)
    return model.float().eval()


def _started(make: Callable[[], nn.Module], random: np.random.Generator) -> nn.Module:
    """A model with the weights that it starts from, in double precision.

    NumPy draws them: PyTorch's own draws differ in the last digit from processor to processor, and
    training makes much of it. They spread as PyTorch's do, by the number of inputs.
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
    """Models this small are trained fastest by one thread, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
