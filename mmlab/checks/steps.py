"""Problems of a whole pipeline, and of the libraries around it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from mmlab.beam.cards import model_cards, weights_name
from mmlab.beam.internals import InferenceStep, author_label, keyed_handler
from mmlab.checks.problem import Problem

UNLABELLED = re.compile(r"RunInference(_[0-9a-f]{6})?")
"""Beam's own label; the suffix is what `--auto_unique_labels` appends."""


def label_problems(steps: Sequence[InferenceStep]) -> Iterator[Problem]:
    """`RunInference` without a label of its own, more than once in the same composite.

    Where Beam takes that at all: in a notebook, as it puts the number of the cell before, and with
    `--auto_unique_labels`.
    """
    scopes = [step.full_label.rpartition("/") for step in steps]
    unlabelled = Counter(
        scope for scope, _, own in scopes if UNLABELLED.fullmatch(author_label(own))
    )
    for scope, times in unlabelled.items():
        if times > 1:
            yield Problem(
                f"{times} RunInference steps have no label of their own: traces and pictures can "
                "hardly tell them apart.",
                scope or "the pipeline",
                "Give each a label: 'Model A' >> RunInference(…).",
            )


def refresh_problems(steps: Sequence[InferenceStep]) -> Iterator[Problem]:
    """Steps with several models whose one model a side input is to replace."""
    for step in steps:
        if step.refreshed_by is not None and keyed_handler(step.handler) is not None:
            yield Problem(
                f"{step.refreshed_by} replaces the model of a handler that has one, and this step "
                "has a keyed handler with several: the run fails with the first update.",
                step.label,
                "Give model_metadata_pcoll a list of KeyModelPathMapping that names every key.",
                fatal=True,
            )


def repeated_weights(steps: Sequence[InferenceStep]) -> Iterator[Problem]:
    """Weights that several steps load, each for itself."""
    loaded: dict[str, dict[str, InferenceStep]] = {}
    for step in steps:
        for card in model_cards(step.handler, step.label):
            if card.weights is not None:
                # Steps that share their models load them once.
                loaded.setdefault(card.weights, {}).setdefault(step.shared_as or step.label, step)
    for weights, several in loaded.items():
        if len(several) > 1:
            yield _loaded_apart(weights, list(several.values()))


def _loaded_apart(weights: str, steps: Sequence[InferenceStep]) -> Problem:
    keyed = [keyed_handler(step.handler) is not None for step in steps]
    if all(keyed):
        fix = "give all of them the same KeyedModelHandler and one model_identifier="
    elif not any(keyed):
        fix = "give all of them the same handler, with large_model=True, and one model_identifier="
    else:
        fix = "send their elements through one step, with beam.Flatten"
    return Problem(
        f"{len(steps)} steps load {weights_name(weights)}, each a model of its own: it is in "
        f"memory {len(steps)} times.",
        ", ".join(step.label for step in steps),
        f"To load it once, {fix}.",
    )


def missing_library_problems() -> Iterator[Problem]:
    """Libraries without which Beam goes on, and says less."""
    if find_spec("scipy") is None:
        yield Problem(
            "scipy is not installed, and without it Beam reports the size of every model as 0 "
            "bytes.",
            "this machine",
            "Run `pip install scipy`, on the workers too.",
        )
