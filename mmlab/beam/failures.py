"""Failed batches of a step with exception handling: its callback, timeouts, bundles."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from apache_beam.runners.worker.statesampler import get_current_tracker

from mmlab.beam.guards import private
from mmlab.beam.pipelines import InferenceStep


def replace_failure_callback(step: InferenceStep, wrap: Callable[[Any], Any]) -> Callable[[], None]:
    """Replace the callback that Beam calls with each failed batch.

    Args:
      wrap: takes the original callback, or None, and returns the new one.
    Returns:
      A function that restores the original callback.
    Raises:
      BeamChangedError: Beam has no such callback.
    """
    dofn: Any = step.catching
    own = private(dofn, "_on_failure_callback", "see what goes to the dead letters")
    dofn._on_failure_callback = wrap(own)

    def restore() -> None:
        dofn._on_failure_callback = own

    return restore


def is_timeout(error: BaseException) -> bool:
    """Whether the error means that Beam stopped waiting for a thread or process.

    A `TimeoutError` raised by the author's code ends with other frames in its traceback.
    """
    if not isinstance(error, TimeoutError) or error.__traceback__ is None:
        return False
    last = traceback.extract_tb(error.__traceback__)[-1]
    return last.name == "result" and "concurrent" in last.filename


def bundle_of_thread() -> Any:
    """Return a value common to all threads that process one bundle; None if there is none."""
    return get_current_tracker()
