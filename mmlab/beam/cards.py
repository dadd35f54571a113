"""Describe models before they are loaded: one `ModelCard` for each model of a handler.

Diagrams, timelines and traces all take the name of a model from its card.
"""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mmlab.beam.handlers import (
    AnyHandler,
    cohort_handlers,
    cohort_of_key,
    handler_chain,
    keyed_handler,
    model_hint,
)
from mmlab.beam.weights import device_name, weights_location
from mmlab.events import TracedModel


@dataclass(frozen=True)
class ModelCard:
    """One model of one `RunInference` step.

    Attributes:
      step: label of the step, as the author of the pipeline wrote it.
      name: name of the model in pictures and traces; unique within the step.
      handler: class name of the base handler.
      weights: file, folder, URI or hub name; None if the handler has none.
      device: `cpu`, `cuda`, …; None if the handler has none.
      cohort: the first key of the model's `KeyModelMapping`; None for a step with one model.
      keys: all keys of the mapping, as text; empty for a step with one model.
      hint: `max_models_per_worker_hint` of the step, as given.
    """

    step: str
    name: str
    handler: str
    weights: str | None = None
    device: str | None = None
    cohort: Any = None
    keys: tuple[str, ...] = ()
    hint: Any = None

    @property
    def cohort_text(self) -> str | None:
        """The cohort as text, as in pictures and traces."""
        return self.keys[0] if self.keys else None

    @property
    def traced(self) -> TracedModel:
        """The card as an element of a trace."""
        return TracedModel(
            step=self.step,
            model=self.name,
            handler=self.handler,
            weights=self.weights,
            device=self.device,
            cohort=self.cohort_text,
            keys=self.keys,
            hint=count_or_none(self.hint),
        )


def model_cards(handler: AnyHandler, step: str = "RunInference") -> list[ModelCard]:
    """Return the models that `handler` can load, in mapping order."""
    keyed = keyed_handler(handler)
    if keyed is None:
        leaf = handler_chain(handler)[-1]
        return [ModelCard(step, _own_name(leaf) or step, **_facts(leaf))]

    leaves = cohort_handlers(keyed)
    cohorts = cohort_of_key(keyed)
    texts = key_texts(cohorts)
    names = _unique_names(leaves, texts)
    keys: dict[Any, list[str]] = {cohort: [] for cohort in leaves}
    for key, cohort in cohorts.items():
        keys[cohort].append(texts[key])
    hint = model_hint(keyed)
    return [
        ModelCard(
            step,
            names[cohort],
            cohort=cohort,
            keys=tuple(keys[cohort]),
            hint=hint,
            **_facts(leaf),
        )
        for cohort, leaf in leaves.items()
    ]


def weights_name(weights: str | None) -> str | None:
    """Return the name of weights for pictures: a local file without its folders.

    >>> weights_name("/home/me/models/CONFIG_1.pt"), weights_name("gs://models/a.pt")
    ('CONFIG_1.pt', 'gs://models/a.pt')
    """
    if weights is None or "://" in weights or not Path(weights).is_absolute():
        return weights
    return Path(weights).name


def key_text(key: Any) -> str:
    """Return a key as text for pictures and traces, without memory addresses.

    >>> key_text("KEY_1"), key_text(7), key_text(("eu", 1))
    ('KEY_1', '7', "('eu', 1)")
    >>> import numpy as np
    >>> key_text(np.int64(11)), key_text((np.str_("eu"), 1)), key_text(object())
    ('11', "('eu', 1)", '<object>')
    >>> key_text(frozenset([np.int64(2), 1]))
    'frozenset({1, 2})'
    """
    try:
        return key if isinstance(key, str) else _repr(key)
    except Exception:  # its __repr__ may raise
        return f"<{type(key).__name__}>"


def _repr(key: Any) -> str:
    if type(key) is tuple:
        parts = ", ".join(map(_repr, key))
        return f"({parts},)" if len(key) == 1 else f"({parts})"
    if type(key) is frozenset and key:
        return f"frozenset({{{', '.join(sorted(map(_repr, key)))}}})"
    if isinstance(key, np.generic):
        key = key.item()
    return re.sub(r"( object)? at 0x[0-9a-fA-F]+", "", repr(key))


def key_texts(keys: Iterable[Any]) -> dict[Any, str]:
    """Return the keys of one handler as unique texts for pictures and traces.

    >>> key_texts(["KEY_1", 1, "2"])
    {'KEY_1': 'KEY_1', 1: '1', '2': '2'}
    >>> key_texts([1, "1"])
    {1: '1', '1': "'1'"}
    """
    keys = list(keys)
    times = Counter(map(key_text, keys))
    texts = {
        key: repr(key) if isinstance(key, str) and times[key] > 1 else key_text(key) for key in keys
    }
    times = Counter(texts.values())
    taken = set(times)
    for key, text in texts.items():  # objects that differ only in their address
        if times[text] > 1:
            numbers = (f"{text} {n}" for n in itertools.count(1))
            texts[key] = next(each for each in numbers if each not in taken)
            taken.add(texts[key])
    return texts


def count_or_none(value: Any) -> int | None:
    """Round a hint down, as Beam's comparison with a count does; None if it is not a number.

    >>> count_or_none(2), count_or_none(2.5), count_or_none(float("nan")), count_or_none("2")
    (2, 2, None, None)
    """
    try:
        return operator.index(value)
    except TypeError:
        pass
    try:
        below: int = math.floor(value)
        return below
    except (TypeError, ValueError, OverflowError):
        return None


def _facts(leaf: AnyHandler) -> dict[str, Any]:
    return {
        "handler": type(leaf).__name__,
        "weights": weights_location(leaf),
        "device": device_name(leaf),
    }


def _own_name(leaf: AnyHandler) -> str | None:
    """Return the name of the weights file without its ending, which usually names the model."""
    weights = weights_location(leaf)
    if not weights:
        return None
    return PurePosixPath(weights.replace("\\", "/").rstrip("/")).stem or None


def _unique_names(leaves: dict[Any, AnyHandler], texts: dict[Any, str]) -> dict[Any, str]:
    names = {
        cohort: _own_name(leaf) or f"{type(leaf).__name__} {texts[cohort]}"
        for cohort, leaf in leaves.items()
    }
    while repeated := {name for name, times in Counter(names.values()).items() if times > 1}:
        names = {
            cohort: f"{name} {texts[cohort]}" if name in repeated else name
            for cohort, name in names.items()
        }
    return names
