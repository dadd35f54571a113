"""Bytes of a model: all of them, those of its file, or unknown; never too few without a word."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from mmlab.events import UNKNOWN
from mmlab.worker.sizes import _model_bytes, size_of


def fitted(kind):
    return kind.fit(np.arange(8.0).reshape(4, 2), [0, 1, 0, 1])


class Odd(torch.nn.Module):
    """Holds tensors that are no parameters, and small things of other libraries."""

    def __init__(self):
        super().__init__()
        self.table, self.more = torch.zeros(10), [{"x": torch.zeros(3)}]
        self.lock, self.kind, self.on = threading.Lock(), np.dtype("f4"), torch.device("cpu")

    def forward(self, x):
        return x + self.table


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_seen_is_unknown_and_not_0():
    linear = torch.nn.Sequential(torch.nn.Linear(10, 10))
    quantized = torch.ao.quantization.quantize_dynamic(linear, {torch.nn.Linear})
    scripted = torch.jit.script(quantized)
    for model in (
        quantized,
        scripted,
        torch.nn.Linear(3, 3, device="meta"),
        fitted(DecisionTreeClassifier()),
        np.array([object()]),
        {"a": 1},
        object(),
    ):
        assert _model_bytes(model) is UNKNOWN


@pytest.mark.filterwarnings("ignore")
def test_what_can_be_seen_is_counted_once():
    array = np.zeros(100)
    linear = torch.nn.Sequential(torch.nn.Linear(10, 10))
    assert _model_bytes(Odd()) == 52
    assert _model_bytes(torch.jit.script(linear)) == 440
    assert _model_bytes(torch.nn.Identity()) == 0
    assert _model_bytes({"w": array, "view": array[:50], "same": torch.from_numpy(array)}) == 800
    assert _model_bytes({"w": b"x" * 5_000}) >= 5_000
    assert _model_bytes(fitted(LogisticRegression())) > 0


def test_a_file_stands_for_a_model_that_cannot_be_seen(tmp_path):
    (tmp_path / "tree.pkl").write_bytes(b"x" * 70)
    assert size_of(object(), lambda: tmp_path / "tree.pkl") == (70, "file")
    for none in (lambda: None, lambda: tmp_path / "gone", lambda: 1 / 0):
        assert size_of(object(), none).bytes is UNKNOWN
