"""Settings of the explorer's pipeline: number and size of models, order of keys, and so on."""

from __future__ import annotations

import math
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import torch
from apache_beam.ml.inference.base import KeyModelMapping, RunInference
from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor
from torch import nn

from mmlab._arguments import parse_bytes, short, whole_number
from mmlab.budget import AT_START_BYTES, resident_estimate
from mmlab.checks.steps import check_hint
from mmlab.transforms import FixedBatches, GroupByModel

ORDERS = ("round robin", "random", "skewed", "sorted")
GROUPS = ("off", "per key", "per model")
_SEED = 2026


@dataclass(frozen=True)
class Setting:
    """One pipeline of the explorer, and how it is run.

    Attributes:
      hint: `max_models_per_worker_hint`, or None for no limit.
      models: number of models `CONFIG_1`, `CONFIG_2`, …; every second one has two keys.
      megabytes: size of each model.
      order: order of the keys. "round robin": in turn; "random": with equal probability; "skewed":
        the second key has half the probability of the first, the third a third, and so on (Zipf's
        law); "sorted": all elements of a key, then all of the next.
      group: transform before RunInference: none ("off"), a `GroupByKey` ("per key"), or
        `mmlab.GroupByModel` ("per model").
      elements: number of elements.
      batch_size: size of every batch.
      processes: number of SDK worker processes. With two or more, one process holds the models,
        and the others call it.
      threads: number of workers in one process. The local runner has either processes or threads.
      memory_limit: memory limit of the run, as text or bytes; None for no limit.

    Raises:
      TypeError: a number is not an integer.
      ValueError: a number is not positive, a word is not one of those above, or both processes
        and threads are greater than 1.
    """

    hint: int | None = 2
    models: int = 4
    megabytes: int = 64
    order: str = "round robin"
    group: str = "off"
    elements: int = 48
    batch_size: int = 1
    processes: int = 1
    threads: int = 1
    memory_limit: int | str | None = None

    def __post_init__(self) -> None:
        check_hint(self.hint, "explore")
        for name in ("models", "megabytes", "elements", "batch_size", "processes", "threads"):
            whole_number(name, getattr(self, name))
        for name, words in (("order", ORDERS), ("group", GROUPS)):
            if getattr(self, name) not in words:
                known = ", ".join(f'"{word}"' for word in words)
                raise ValueError(f"{name} must be one of {known}, got {short(getattr(self, name))}")
        if self.processes > 1 and self.threads > 1:
            raise ValueError(
                f"{self.processes} processes and {self.threads} threads: Beam's local runner has "
                "either several processes or several threads; set one of them to 1"
            )
        parse_bytes(self.memory_limit)

    @property
    def mapping(self) -> dict[str, tuple[str, ...]]:
        """Keys of each model, as in Beam's documentation: one key, two keys, one key, two keys, …

        >>> Setting(models=2).mapping
        {'CONFIG_1': ('KEY_1',), 'CONFIG_2': ('KEY_2', 'KEY_3')}
        """
        mapping, first = {}, 1
        for number in range(1, self.models + 1):
            keys = range(first, first + 2 - number % 2)
            mapping[f"CONFIG_{number}"] = tuple(f"KEY_{key}" for key in keys)
            first = keys.stop
        return mapping

    def keys(self) -> list[str]:
        """Keys of the elements, in order; equal settings give equal keys.

        >>> Setting(models=2, elements=4).keys()
        ['KEY_1', 'KEY_2', 'KEY_3', 'KEY_1']
        """
        names = [key for keys in self.mapping.values() for key in keys]
        turns = [names[i % len(names)] for i in range(self.elements)]
        if self.order == "round robin":
            return turns
        if self.order == "sorted":
            return sorted(turns, key=names.index)
        skewed = self.order == "skewed"
        weights = [1 / rank if skewed else 1 for rank in range(1, len(names) + 1)]
        return random.Random(_SEED).choices(names, weights, k=self.elements)

    @property
    def options(self) -> list[str]:
        """Flags of the pipeline options."""
        if self.processes > 1:
            return [
                "--direct_running_mode=multi_processing",
                f"--direct_num_workers={self.processes}",
            ]
        if self.threads > 1:
            return ["--direct_running_mode=multi_threading", f"--direct_num_workers={self.threads}"]
        return []

    @property
    def resident_estimate(self) -> int:
        """Estimate of the resident set size of a run without a hint, in bytes."""
        return resident_estimate(AT_START_BYTES, self.megabytes * 1_000_000, self.models)


class Layer(nn.Module):  # type: ignore[misc]  # mypy skips torch, which is slow to check
    """One square layer with `megabytes` of weights and little computation.

    Input: shape (n, 1). Output: shape (n, 1).
    """

    def __init__(self, megabytes: int):
        super().__init__()
        self.side = math.isqrt(megabytes * 1_000_000 // 4)
        self.layer = nn.Linear(self.side, self.side, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.expand(-1, self.side)).mean(1, keepdim=True)


def build(pipeline: beam.Pipeline, setting: Setting) -> None:
    """Add the steps of a setting to `pipeline`; model files are written to the temporary folder."""
    handler = FixedBatches(
        [
            KeyModelMapping(list(keys), _model_handler(name, setting.megabytes))
            for name, keys in setting.mapping.items()
        ],
        setting.hint,
        batch_size=setting.batch_size,
    )
    pairs = [(key, torch.full((1,), float(i))) for i, key in enumerate(setting.keys())]
    elements = pipeline | "Elements" >> beam.Create(pairs, reshuffle=False)
    if setting.processes > 1 or setting.threads > 1:
        elements |= "Spread" >> beam.Reshuffle()
    if setting.group == "per key":
        elements |= "Group" >> beam.GroupByKey()
        elements |= "Ungroup" >> beam.FlatMap(_pairs_of_group)
    elif setting.group == "per model":
        lanes = max(setting.processes, setting.threads)
        elements |= "Group" >> GroupByModel(handler, lanes=lanes)
    _ = elements | "Classify" >> RunInference(handler)


def _pairs_of_group(group: tuple[str, Sequence[Any]]) -> list[tuple[str, Any]]:
    key, values = group
    return [(key, value) for value in values]


def _model_handler(name: str, megabytes: int) -> PytorchModelHandlerTensor:
    return PytorchModelHandlerTensor(
        state_dict_path=str(_weights(name, megabytes)),
        model_class=Layer,
        model_params={"megabytes": megabytes},
        load_model_args={"weights_only": True},
    )


def _weights(name: str, megabytes: int) -> Path:
    """Return the weights file of a model: a hard link to one file, so that runs start at once."""
    folder = Path(tempfile.gettempdir())
    one = folder / f"weights-{megabytes}MB.pt"
    if not one.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            torch.save(Layer(megabytes).state_dict(), one)
    path = folder / f"{name}.pt"
    path.unlink(missing_ok=True)
    os.link(one, path)
    return path
