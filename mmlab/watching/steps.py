"""Find the `RunInference` steps of a pipeline and watch their handlers during the run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from apache_beam.pipeline import Pipeline

from mmlab._faults import describe
from mmlab.beam.cards import ModelCard, model_cards
from mmlab.beam.failures import replace_failure_callback
from mmlab.beam.guards import BeamChangedError
from mmlab.beam.handlers import hides_hint
from mmlab.beam.pipelines import InferenceStep, readable_steps, replace_handler
from mmlab.events import UNOBSERVED, Unobserved
from mmlab.watching.warning import WatchWarning
from mmlab.worker.failures import OnFailure
from mmlab.worker.handler import is_watched, mark_timeouts, watched
from mmlab.worker.recorder import Log, recorder_for


@dataclass(frozen=True)
class Found:
    """The `RunInference` steps of a pipeline.

    Attributes:
      steps: each with the cards of its models.
      hidden: the reason for each step that cannot be watched, by label.
    """

    steps: list[tuple[InferenceStep, list[ModelCard]]]
    hidden: dict[str, str]


def find_steps(pipeline: Pipeline) -> Found:
    readable, changes = readable_steps(pipeline)
    hidden = {label: str(change) for label, change in changes.items()}
    steps = []
    for step in readable:
        try:
            steps.append((step, model_cards(step.handler, step.label)))
        except BeamChangedError as change:
            hidden[step.label] = str(change)
        except Exception as error:  # attributes of the author's handler may raise
            hidden[step.label] = f"its model handler cannot be read: {describe(error)}"
    return Found(steps, hidden)


@contextmanager
def handlers_swapped(steps: list[InferenceStep], log: Log) -> Iterator[Any]:
    """Replace the authors' handlers by watched ones.

    The yielded function restores them, as a runner that only submits the pipeline may read the
    handlers until the run has ended. After an error they are restored at once.
    """

    own_callbacks: list[Callable[[], None]] = []

    def restore() -> None:
        for step in steps:
            replace_handler(step, step.handler)
        for put_back in own_callbacks:
            put_back()

    try:
        for step in steps:
            if _swap(step, log) and step.catching is not None:
                own_callbacks += _watch_failures(step, log)
        yield restore
    except BaseException:
        restore()
        raise


def _watch_failures(step: InferenceStep, log: Log) -> list[Callable[[], None]]:
    """Record the dead letters of a step. Returns functions that undo the replacements."""
    try:
        return [replace_failure_callback(step, lambda own: OnFailure(own, log, step.label))]
    except BeamChangedError:
        say_unwatched(log, step.label, "dead letters")
        return []


def _swap(step: InferenceStep, log: Log) -> bool:
    """Replace the handler of a step by a watched one. Returns whether that succeeded."""
    unwatched = None
    if step.uses_model_manager:
        recorder_for(log).emit(Unobserved(step=step.label, what="model manager"))
    if is_watched(step.handler):
        unwatched = "watched"
    else:
        try:
            handler = watched(step.handler, log, step.label)
            if step.catching is not None:
                mark_timeouts(handler)
            replace_handler(step, handler)
        except Exception:  # the step runs unwatched, reported below
            replace_handler(step, step.handler)
            unwatched = "handler"
    if unwatched is not None:
        say_unwatched(log, step.label, unwatched)
    elif hides_hint(step.handler):
        say_unwatched(log, step.label, "hint")
    return unwatched is None


def sharing(steps: list[InferenceStep]) -> list[list[str]]:
    """Return groups of steps that share models: those with the same `model_identifier`."""
    groups: dict[str, list[str]] = {}
    for step in steps:
        if (tag := step.shared_as) is not None:
            groups.setdefault(tag, []).append(step.label)
    return [labels for labels in groups.values() if len(labels) > 1]


def say_unwatched(log: Log, step: str | None, what: str) -> None:
    recorder_for(log).emit(Unobserved(step=step, what=what))
    said = UNOBSERVED.get(what, what)
    warnings.warn(f"{step}: {said}" if step else said, WatchWarning, stacklevel=3)
