"""What would surely fail in a worker, said before the run."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmlab.beam_internals import InferenceStep
from mmlab.cards import ModelCard


def check_step(step: InferenceStep, cards: Sequence[ModelCard], *, files_are_here: bool) -> None:
    """Refuse a `RunInference` step that cannot succeed.

    Args:
      step: the step.
      cards: its models.
      files_are_here: whether the workers see this machine's files.

    Raises:
      ValueError: the hint is not a positive integer.
      FileNotFoundError: weights are missing that no earlier step could still choose.
    """
    check_hint(cards[0].hint, step.label)
    if files_are_here and not step.loads_at_run_time:
        for card in cards:
            _check_weights(card)


def check_hint(hint: Any, step: str) -> None:
    """Refuse a `max_models_per_worker_hint` that is neither None nor a positive integer.

    Raises:
      ValueError: with what Beam would have done, and what to write instead.
    """
    if hint is None:
        return
    try:
        positive = not isinstance(hint, bool) and operator.index(hint) > 0
    except TypeError:
        positive = False
    if not positive:
        raise ValueError(
            f"{step}: max_models_per_worker_hint is {hint!r}, but it counts models: give an "
            "integer of at least 1, or None for no limit."
        )


def _check_weights(card: ModelCard) -> None:
    path = _local_file(card.weights)
    if path is None or path.exists():
        return
    whose = f" (keys {', '.join(card.keys)})" if card.keys else ""
    raise FileNotFoundError(
        f"{card.step}: the weights of model {card.name}{whose} are missing: {path} does not "
        "exist. Correct the path in the model handler, or make the file first. If a step of this "
        "very pipeline writes it, use WatchRunner(check=False)."
    )


_WEIGHT_ENDINGS = {".pt", ".pth", ".onnx", ".pkl", ".pickle", ".joblib", ".h5", ".keras", ".bst"}


def _local_file(weights: str | None) -> Path | None:
    """`weights` as a path, where it certainly is one; hub names and URIs are not."""
    if weights is None or "://" in weights:
        return None
    path = Path(weights)
    return path if path.is_absolute() or path.suffix in _WEIGHT_ENDINGS else None


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
        else:
            continue
        sentences[sentence] = None
    return list(sentences)
