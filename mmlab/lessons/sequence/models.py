"""The model that restores noisy scans, trained from a seed and kept in the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from apache_beam.ml.inference.base import PredictionResult
from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor
from torch import nn

from mmlab.lessons.digits import SIDE, pictures
from mmlab.lessons.sequence.scans import noisy
from mmlab.lessons.training import descend, handler_of, state_dict, train_missing

_NAME = "RESTORER"
_HIDDEN = 1024
_STEPS = 150
_BATCH = 128
PIXELS = SIDE * SIDE


class Restorer(nn.Module):  # type: ignore[misc]  # mypy skips torch, which takes it long to read
    """A model that removes shadow and grain from a scan and restores its contrast.

    Input: float32, shape (n, 64). Output: the same shape, values between 0 and 1.
    """

    def __init__(self, hidden: int = _HIDDEN):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(PIXELS, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, PIXELS),
            nn.Sigmoid(),
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.layers(pixels)


def weights_file() -> Path:
    """The state dict of the restorer, trained on first use (a few seconds)."""
    return state_dict(_NAME, _fitted)


def prepare(say: Callable[..., None]) -> None:
    """Train the restorer if it is not in the cache yet; `say` gets one line about it."""
    train_missing([_NAME], lambda name: weights_file(), say)


def restorer(**options: Any) -> PytorchModelHandlerTensor:
    """Beam's handler for the restorer.

    Args:
      options: further arguments of `PytorchModelHandlerTensor`.
    """
    return handler_of(weights_file(), Restorer, **options)


def sureness(result: PredictionResult) -> float:
    """The probability of the most likely digit, 0 to 1."""
    scores: torch.Tensor = result.inference
    return float(scores.softmax(-1).max())


def _fitted(hidden: int = _HIDDEN, steps: int = _STEPS) -> Restorer:
    """A restorer trained on the 1,317 training digits, with new noise in every step.

    The same arguments give the same weights. PyTorch's random state is not changed.
    """
    upright, _ = pictures("train")
    random = np.random.default_rng(5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = Restorer(hidden).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

        def loss() -> torch.Tensor:
            chosen = upright[random.integers(len(upright), size=_BATCH)]
            target, scans = (_rows(part) for part in (chosen, noisy(chosen, random)))
            return nn.functional.binary_cross_entropy(model(scans), target)

        descend(optimizer, loss, steps)
    trained: Restorer = model.eval()
    return trained


def _rows(digits: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(digits)).reshape(-1, PIXELS)
