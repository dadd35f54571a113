"""A model of PyTorch, of a size that memory shows."""

from __future__ import annotations

import torch


class Weights(torch.nn.Module):
    def __init__(self, megabytes: int):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.ones(megabytes, 250_000))
