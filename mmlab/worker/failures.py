"""Failed batches of steps with exception handling: dead letters and timeouts.

With a timeout, Beam processes each batch in a thread of a pool. After the timeout it sends the
batch to the dead letters and drops the pool; the thread continues with the batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from mmlab._faults import describe
from mmlab.beam.failures import bundle_of_thread, is_timeout
from mmlab.events import DeadLetter
from mmlab.worker.models import Site
from mmlab.worker.recorder import Log, recorder_for

_at_work: dict[tuple[str, int], tuple[Site, int]] = {}
"""For each step and bundle, the model that its last batch used, and the thread of that batch."""


def note_work(site: Site) -> None:
    """Record that this thread loads or uses a model for a batch that may time out."""
    bundle = bundle_of_thread()
    if bundle is not None:
        _at_work[site.step, id(bundle)] = site, threading.get_native_id()


class OnFailure:
    """Failure callback for Beam: records each failed batch and calls the original callback.

    Args:
      own: the original callback; None if there is none.
      log: where the events go.
      step: label of the `RunInference` step.
    """

    def __init__(self, own: Callable[..., Any] | None, log: Log, step: str):
        self._own, self._log, self._step = own, log, step

    def __call__(self, error: Exception, batch: Any) -> Any:
        try:
            recorder_for(self._log).emit(self._event(error, batch))
        finally:
            if self._own is not None:
                self._own(error, batch)

    def _event(self, error: Exception, batch: Any) -> DeadLetter:
        event = DeadLetter(step=self._step, n=length(batch), error=describe(error))
        if is_timeout(error):
            event.timed_out = True
            place = (self._step, id(bundle_of_thread()))
            if (work := _at_work.pop(place, None)) is not None:
                site, event.thread = work
                event.model, event.cohort = site.model, site.cohort
        return event


def length(batch: Any) -> int:
    """Return the number of elements of a batch; 0 if the batch has no length."""
    try:
        return len(batch)
    except Exception:
        return 0
