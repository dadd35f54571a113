"""What is said before a run, and why a run failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from mmlab.beam import internals
from mmlab.beam.cards import ModelCard
from mmlab.beam.internals import InferenceStep
from mmlab.checks import (
    Problem,
    held_by,
    hint_problem,
    label_problems,
    leaves_of,
    memory_problem,
    missing_library_problems,
    missing_weights,
    refresh_problems,
    repeated_weights,
    step_problems,
    thread_problem,
)
from mmlab.checks.weights import is_missing
from mmlab.reports.notes import conflict_note


def check_step(step: InferenceStep, cards: Sequence[ModelCard], *, files_are_here: bool) -> None:
    """Refuse a `RunInference` step that cannot succeed.

    Args:
      step: the step.
      cards: its models.
      files_are_here: whether the workers see this machine's files.

    Raises:
      ValueError: no model fits under the hint, or it is no number.
      FileNotFoundError: weights are missing that Beam's own code will read.
    """
    for card in cards[:1]:
        problem = hint_problem(card.hint, step.label)
        if problem is not None and problem.fatal:
            raise ValueError(str(problem))
    if files_are_here and not step.loads_at_run_time:
        for card, leaf in zip(cards, leaves_of(step.handler), strict=True):
            if internals.weights_reader(leaf) is not None:
                _check_weights(card, internals.weights_file(leaf))


def check_hint(hint: Any, step: str) -> None:
    """Refuse a `max_models_per_worker_hint` that is neither None nor a positive integer.

    Raises:
      ValueError: it is another; the message says what to write instead.
    """
    problem = hint_problem(hint, step)
    if problem is not None:
        raise ValueError(str(problem))


def _check_weights(card: ModelCard, path: Path | None) -> None:
    if path is not None and is_missing(path):
        raise FileNotFoundError(
            f"{missing_weights(card, path)} If a step of this very pipeline writes it, use "
            "WatchRunner(check=False)."
        )


def worth_a_warning(
    steps: Sequence[InferenceStep], options: PipelineOptions | None, *, runs_here: bool
) -> Iterator[Problem]:
    """What may go wrong in a pipeline that nothing speaks against running.

    Args:
      steps: every `RunInference` of the pipeline.
      options: of the pipeline.
      runs_here: whether the models will be on this machine.
    """
    yield from label_problems(steps)
    yield from refresh_problems(steps)
    yield from repeated_weights(steps)
    for step in steps:
        here = runs_here and not step.loads_at_run_time
        yield from step_problems(step.handler, step.label, files_are_here=here)
        if (problem := thread_problem(step.handler, step.label, options)) is not None:
            yield problem
    if runs_here and steps:
        yield from missing_library_problems()
        held = [held_by(step.handler, step.label, options) for step in steps]
        problem = memory_problem(held)
        if problem is not None:
            yield problem


WEIGHTS_ONLY = (
    "PyTorch says this of a file that holds more than tensors. Do not set weights_only=False: it "
    "lets the file run any code that it holds, and is safe only for a file that you made yourself. "
    "Write the weights with torch.save(model.state_dict(), path), and give them as "
    "state_dict_path= with model_class=."
)
"""What PyTorch's advice to set `weights_only=False` means."""


def explain(events: Iterable[Any]) -> list[str]:
    """Sentences that say what a failed run ran into, from its events."""
    sentences = {}
    for event in events:
        if event.event == "unknown_key":
            sentence = (
                f"{event.step}: the data holds key {event.error}, but no KeyModelMapping of the "
                "keyed handler names it. Add it to a mapping, or filter it out before RunInference."
            )
        elif event.event == "load_fail":
            sentence = f"{event.step}: model {event.model} could not be loaded: {event.error}"
            if "weights_only" in (event.error or ""):
                sentence += f" {WEIGHTS_ONLY}"
        elif event.event == "conflict":
            sentence = conflict_note(event.step, event.error)
        else:
            continue
        sentences[sentence] = None
    return list(sentences)
