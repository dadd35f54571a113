"""Batches that fail in a step with exception handling: its callback, timeouts, bundles."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from apache_beam.runners.worker.statesampler import get_current_tracker

from mmlab.beam.guards import private
from mmlab.beam.pipelines import InferenceStep


def replace_failure_callback(step: InferenceStep, wrap: Callable[[Any], Any]) -> Callable[[], None]:
    """Put a callback in the place of the one that is called with each batch that fails.

    Args:
      wrap: takes Beam's own callback, or None, and returns the one to call.

    Returns:
      What puts Beam's own back.

    Raises:
      BeamChangedError: there is no such callback.
    """
    dofn: Any = step.catching
    own = private(dofn, "_on_failure_callback", "see what goes to the dead letters")
    dofn._on_failure_callback = wrap(own)

    def restore() -> None:
        dofn._on_failure_callback = own

    return restore


def is_timeout(error: BaseException) -> bool:
    """Whether Beam stopped waiting for the thread or process that an error stands for.

    A `TimeoutError` of that thread itself has its own lines at the end of its traceback.
    """
    if not isinstance(error, TimeoutError) or error.__traceback__ is None:
        return False
    last = traceback.extract_tb(error.__traceback__)[-1]
    return last.name == "result" and "concurrent" in last.filename


def bundle_of_thread() -> Any:
    """What is the same for all threads that work on one bundle; None where there is no such."""
    return get_current_tracker()
