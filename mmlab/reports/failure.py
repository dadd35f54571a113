"""Explanations of failed runs, in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmlab.reports.notes import conflict_note

_WEIGHTS_ONLY = (
    "PyTorch says this of a file that holds more than tensors. Do not set weights_only=False: it "
    "lets the file run any code that it holds, and is safe only for a file that you made yourself. "
    "Write the weights with torch.save(model.state_dict(), path), and give them as "
    "state_dict_path= with model_class=."
)
"""Warning about PyTorch's advice to set `weights_only=False`."""


def explain(events: Iterable[Any]) -> list[str]:
    """Explain the errors of a failed run in sentences, from its events."""
    sentences: dict[str, None] = {}
    for event in events:
        if event.event == "unknown_key":
            sentence = (
                f"{event.step}: the data holds key {event.error}, but no KeyModelMapping of the "
                "keyed handler names it. Add it to a mapping, or filter it out before RunInference."
            )
        elif event.event == "load_fail":
            sentence = f"{event.step}: model {event.model} could not be loaded: {event.error}"
            if "weights_only" in (event.error or ""):
                sentence += f" {_WEIGHTS_ONLY}"
        elif event.event == "conflict":
            sentence = conflict_note(event.step, event.error)
        else:
            continue
        sentences[sentence] = None
    return list(sentences)
