"""Advice that is followed: hints that `fit_hint` and `advise` name are run, under the same limit.

`make full PART=advice TEST_ARGS="-n 0 -s"` prints a line per cell of the matrix.
"""

from __future__ import annotations

import itertools
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from apache_beam import Create, Reshuffle
from apache_beam.ml.inference.base import KeyModelMapping, PredictionResult, RunInference

import mmlab
from mmlab.fit import MOST_CONFLICTS
from tests.handlers import FixedBatches, NamedModels
from tests.lanes import size

AGAIN = size("advice", suite=1, full=3)
"""How often an answer is run."""
ROUNDS = 3


class Values:
    """A model of NumPy."""

    def __init__(self, values):
        self.values = values

    def answer(self):
        return float(self.values[0])


class NumpyModels(NamedModels):
    """Models of so many MB, which take so many times their size while they load."""

    def __init__(self, name, megabytes, copies):
        super().__init__(name)
        self.megabytes, self.copies = megabytes, copies

    def load_model(self):
        first = np.ones(self.megabytes * 1_000_000 // 8)
        return Values(first if self.copies == 1 else first.copy())

    def run_inference(self, batch, model, inference_args=None):
        return [PredictionResult(example, model.answer()) for example in batch]


class TorchModels(NumpyModels):
    """The same in PyTorch: two copies are a state dict and the model that it is copied into."""

    def load_model(self):
        model = self._empty()
        torch.nn.init.ones_(model.weight)
        if self.copies == 1:
            return model
        other = self._empty()
        other.load_state_dict(model.state_dict())
        return other

    def _empty(self):
        width = self.megabytes * 1_000_000 // 4
        return torch.nn.Linear(width, 1, bias=False, device="meta").to_empty(device="cpu")

    def run_inference(self, batch, model, inference_args=None):
        return [PredictionResult(example, float(model.weight[0, 0])) for example in batch]


LIBRARIES = {"torch": TorchModels, "numpy": NumpyModels}


@dataclass(frozen=True)
class Cell:
    """A pipeline and a memory limit.

    Attributes:
      library: of the models, a key of `LIBRARIES`.
      megabytes: of each model.
      threads: worker threads; each adds the hint to the limit of models.
      copies: times its size that a model takes while it loads.
      level: share of all models for which the limit leaves memory, roughly.
    """

    library: str
    megabytes: tuple[int, ...]
    threads: int
    copies: int
    level: float

    @property
    def memory_limit(self) -> int:
        share = 80 if self.threads == 1 else 140 + 50 * self.threads
        models = self.level * sum(self.megabytes) + (self.copies - 1) * max(self.megabytes)
        return round(share + models) * 1_000_000

    @property
    def options(self) -> list[str]:
        if self.threads == 1:
            return []
        return ["--direct_running_mode=multi_threading", f"--direct_num_workers={self.threads}"]

    @property
    def most(self) -> int:
        """The lowest hint that lets all models stay."""
        return -(-len(self.megabytes) // self.threads)

    def build(self, pipeline, hint):
        models = LIBRARIES[self.library]
        handler = FixedBatches(
            [
                KeyModelMapping([f"k{i}"], models(f"m{i}", megabytes, self.copies))
                for i, megabytes in enumerate(self.megabytes)
            ],
            hint,
        )
        keys = [f"k{i}" for _ in range(ROUNDS) for i in range(len(self.megabytes))]
        elements = pipeline | Create([(key, n) for n, key in enumerate(keys)], reshuffle=False)
        if self.threads > 1:
            elements |= Reshuffle()
        _ = elements | RunInference(handler)

    def passes(self, hint: int, times: int) -> bool:
        """Whether all of so many runs pass, those left out that Beam's race of threads ended."""
        return all(self._passes(hint) for _ in range(times))

    def _passes(self, hint: int) -> bool:
        for _ in range(MOST_CONFLICTS + 1):
            outcome = mmlab.run_fresh(
                self.build, hint, memory_limit=self.memory_limit, options=self.options
            )
            if not outcome.conflict:
                break
            print(f"{self}: a conflict of threads at hint {hint}", flush=True)
        if not outcome.succeeded:
            print(f"{self}: hint {hint}: {outcome.problem}", flush=True)
        return outcome.succeeded

    def __str__(self) -> str:
        sizes = "-".join(map(str, self.megabytes))
        limit = self.memory_limit // 1_000_000
        return f"{self.library} {sizes} threads {self.threads} copies {self.copies} limit {limit}"


CELLS = [
    Cell(library, megabytes, threads, copies, level)
    for library, megabytes, threads, copies, level in itertools.product(
        LIBRARIES, [(40,) * 5, (48, 36, 20, 40, 56)], (1, 2, 3), (1, 2), (0.5, 0.9)
    )
]
# The limit is 15 MB or more from what the answer and the hint above it need.
OF_SUITE = Cell("numpy", (40,) * 4, 3, 2, 0.9)


@dataclass(frozen=True)
class Answers:
    """What was advised in a cell, and what became of it.

    Attributes:
      highest: the highest hint that passes, found by runs; 0 for none.
      sharp: whether all runs of the search agree.
      highest_again: whether it passes again.
      estimate: the highest hint that fits by `advise`; 0 for none.
      estimate_passes: whether that passes.
    """

    highest: int
    sharp: bool
    highest_again: bool
    estimate: int
    estimate_passes: bool


def answers(cell: Cell) -> Answers:
    """Ask for the hint of a cell in both ways, and follow the answers."""
    fit = mmlab.fit_hint(
        cell.build,
        memory_limit=cell.memory_limit,
        confirm=AGAIN if AGAIN == 1 else 2,
        options=cell.options,
        progress=None,
        live=False,
    )
    highest = 0 if not fit.found else min(fit.hint or cell.most, cell.most)
    # What is known before: a run without a hint, where there is memory enough, or one that reloads.
    recorded = None if cell.level > 0.5 else 1
    trace = (
        mmlab.run_fresh(cell.build, recorded, memory_limit="2GB", options=cell.options)
        .raise_if_failed()
        .trace
    )
    advice = mmlab.predict(trace).advise(memory_limit=cell.memory_limit)
    estimate = min(advice.fits or 0, cell.most)
    again = highest == 0 or cell.passes(highest, AGAIN)
    followed = again if estimate == highest else estimate == 0 or cell.passes(estimate, AGAIN)
    got = Answers(highest, fit.sharp, again, estimate, followed)
    print(f"{cell}: {got}", flush=True)
    return got


def share(of: list[bool]) -> float:
    return sum(of) / len(of)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory limits need Linux")
@pytest.mark.runs
@pytest.mark.part("advice", suite=True)
@pytest.mark.timeout(3_600)
def test_hints_that_are_advised_pass_when_they_are_run():
    cells = [OF_SUITE] if size("advice", suite=1, full=0) else CELLS
    with ThreadPoolExecutor(2) as two:
        done = dict(zip(cells, two.map(answers, cells), strict=True))
    got = list(done.values())
    assert share([each.highest_again for each in got]) >= 0.95, done
    assert share([not each.sharp for each in got]) <= 0.1, done
    assert share([each.estimate_passes for each in got]) >= 0.95, done
    assert share([each.highest - each.estimate <= 1 for each in got]) >= 0.8, done
