"""Checks of the steps of a pipeline, one by one and all together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from mmlab.beam.cards import ModelCard, model_cards, weights_name
from mmlab.beam.handlers import keyed_handler
from mmlab.beam.pipelines import InferenceStep, author_label
from mmlab.checks.handler import handler_problems, harmless_problems, hint_problem, leaves_of
from mmlab.checks.memory import held_by, memory_problem, thread_problem
from mmlab.checks.problem import Problem
from mmlab.checks.weights import missing_weights

_UNLABELLED = re.compile(r"RunInference(_[0-9a-f]{6})?")
"""Beam's own label; the suffix is what `--auto_unique_labels` appends."""


def check_step(step: InferenceStep, cards: Sequence[ModelCard], *, files_are_here: bool) -> None:
    """Raise if a `RunInference` step cannot succeed.

    Args:
      step: the step.
      cards: its models.
      files_are_here: whether the workers see this machine's files.

    Raises:
      ValueError: the hint is below 1 or not a number.
      FileNotFoundError: weights that Beam's own code reads are missing.
    """
    for card in cards[:1]:
        problem = hint_problem(card.hint, step.label)
        if problem is not None and problem.fatal:
            raise ValueError(str(problem))
    if files_are_here and not step.loads_at_run_time:
        for card, leaf in zip(cards, leaves_of(step.handler), strict=True):
            missing = missing_weights(card, leaf)
            if missing is not None and missing.fatal:
                raise FileNotFoundError(
                    f"{missing} If a step of this very pipeline writes it, use "
                    "WatchRunner(check=False)."
                )


def check_hint(hint: Any, step: str) -> None:
    """Raise if `max_models_per_worker_hint` is neither None nor a positive integer.

    Raises:
      ValueError: the hint is not valid; the message says what to write instead.
    """
    problem = hint_problem(hint, step)
    if problem is not None:
        raise ValueError(str(problem))


def worth_a_warning(
    steps: Sequence[InferenceStep],
    options: PipelineOptions | None,
    *,
    runs_here: bool,
    harmless_too: bool = False,
) -> Iterator[Problem]:
    """Find problems that do not prevent a run.

    Args:
      steps: every `RunInference` of the pipeline.
      options: options of the pipeline.
      runs_here: whether the models are loaded on this machine.
      harmless_too: whether to include remarks that call for no warning.
    """
    yield from _label_problems(steps)
    yield from _refresh_problems(steps)
    yield from _repeated_weights(steps)
    for step in steps:
        here = runs_here and not step.loads_at_run_time
        yield from handler_problems(step.handler, step.label, files_are_here=here)
        if (threads := thread_problem(step.handler, step.label, options)) is not None:
            yield threads
        if harmless_too:
            yield from harmless_problems(step.handler, step.label)
    if runs_here and steps:
        yield from _missing_library_problems()
        held = [held_by(step.handler, step.label, options) for step in steps]
        if (memory := memory_problem(held)) is not None:
            yield memory


def _label_problems(steps: Sequence[InferenceStep]) -> Iterator[Problem]:
    """`RunInference` without a label of its own, several times in one composite.

    Beam accepts this in a notebook, where it prefixes labels with the number of the cell, and with
    `--auto_unique_labels`.
    """
    scopes = [step.full_label.rpartition("/") for step in steps]
    unlabelled = Counter(
        scope for scope, _, own in scopes if _UNLABELLED.fullmatch(author_label(own))
    )
    for scope, times in unlabelled.items():
        if times > 1:
            yield Problem(
                f"{times} RunInference steps have no label of their own: traces and pictures can "
                "hardly tell them apart.",
                scope or "the pipeline",
                "Give each a label: 'Model A' >> RunInference(…).",
            )


def _refresh_problems(steps: Sequence[InferenceStep]) -> Iterator[Problem]:
    """Steps with several models and a side input that replaces a single model."""
    for step in steps:
        if step.refreshed_by is not None and keyed_handler(step.handler) is not None:
            yield Problem(
                f"{step.refreshed_by} replaces the model of a handler that has one, and this step "
                "has a keyed handler with several: the run fails with the first update.",
                step.label,
                "Give model_metadata_pcoll a list of KeyModelPathMapping that names every key.",
                fatal=True,
            )


def _repeated_weights(steps: Sequence[InferenceStep]) -> Iterator[Problem]:
    """Weights that several steps load separately."""
    loaded: dict[str, dict[str, InferenceStep]] = {}
    for step in steps:
        for card in model_cards(step.handler, step.label):
            if card.weights is not None:
                # Steps that share their models load weights once.
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


def _missing_library_problems() -> Iterator[Problem]:
    """Missing libraries without which Beam runs but reports less."""
    if find_spec("scipy") is None:
        yield Problem(
            "scipy is not installed, and without it Beam reports the size of every model as 0 "
            "bytes.",
            "this machine",
            "Run `pip install scipy`, on the workers too.",
        )
