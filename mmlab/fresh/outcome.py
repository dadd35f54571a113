"""The outcome of a run in a fresh process, with an explanation of a failure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from apache_beam.runners.runner import PipelineState

from mmlab._text import in_bytes, shown_everywhere
from mmlab.events import Conflicts
from mmlab.reports.shortage import OutOfMemory, is_out_of_memory, out_of_memory
from mmlab.trace import Trace

LEAST_LIMIT = 80_000_000
"""Bytes that Beam needs for a run with one worker thread, without models."""
THREAD_BYTES = 50_000_000
"""Bytes that Beam needs for each further worker thread."""


class FreshRunError(RuntimeError):
    """A run in a fresh process failed; the message says why and what to change.

    Attributes:
      outcome: the `RunOutcome`.
    """

    def __init__(self, outcome: RunOutcome):
        super().__init__(outcome.problem)
        self.outcome = outcome


@shown_everywhere
@dataclass(frozen=True)
class RunOutcome:
    """The outcome of a run in a fresh process.

    Attributes:
      trace: the trace up to the end, also of a killed process.
      phase: the phase that it reached: "unpickle", "limit", "build", "run" or "done".
      error_type, error: type and text of the exception that ended it; None if it succeeded.
      notes: notes that mmlab added to the exception.
      traceback: last lines of the traceback.
      place: if `build` failed, the line of the author's code that raised.
      output: the end of the run's output and log.
      seconds: from the request to the end of the process.
      first_event_seconds: from the request to the first event of the run; None without events.
      interrupted: whether it was stopped from outside.
      memory_limit: its memory limit in bytes, or None.
    """

    trace: Trace
    phase: str
    error_type: str | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    traceback: str = ""
    place: str = ""
    output: str = ""
    seconds: float = 0.0
    first_event_seconds: float | None = None
    interrupted: bool = False
    memory_limit: int | None = None

    @property
    def succeeded(self) -> bool:
        return self.phase == "done"

    @property
    def ran(self) -> bool:
        """Whether the pipeline got as far as loading a model."""
        return self.succeeded or bool(self.trace.of_kind("load_begin"))

    @cached_property
    def out_of_memory(self) -> OutOfMemory | None:
        """The model that did not fit, what was held, what to change; None if memory sufficed."""
        return None if self.interrupted else out_of_memory(self.trace)

    @property
    def oom(self) -> bool:
        """Whether it ran out of memory."""
        return self.out_of_memory is not None

    @property
    def conflict(self) -> bool:
        """Whether it failed because two threads changed Beam's model manager at once.

        This depends on timing, not on memory: the same run may succeed next time.
        """
        return not self.succeeded and not self.oom and bool(self.trace.facts(Conflicts))

    @property
    def starved(self) -> bool:
        """Whether it ran into the memory limit before the first model."""
        if self.memory_limit is None or self.ran or self.phase == "unpickle":
            return False
        ended = self.error_type == "Stalled" or (self.error_type, self.phase) == ("Killed", "limit")
        return ended or is_out_of_memory(self.error)

    @property
    def ended(self) -> str:
        """ "done", "interrupted", "out of memory", "failed" or "unknown"."""
        if self.succeeded:
            return "done"
        if self.interrupted:
            return "interrupted"
        if self.oom:
            return "out of memory"
        seen = self.error_type is not None or self.trace.state != PipelineState.UNKNOWN
        return "failed" if seen else "unknown"

    @property
    def problem(self) -> str | None:
        """Why it failed and what to change, in sentences; None if it succeeded."""
        if self.succeeded:
            return None
        if self.interrupted:
            return "The run was interrupted."
        if self.starved and self.memory_limit is not None:
            return too_small(self.memory_limit, self._said)
        if self.error_type == "Killed":
            return f"{_sentence(self.error)} {self.out_of_memory or self._guess}".strip()
        if self.out_of_memory is not None:
            return str(self.out_of_memory)
        if self.phase == "build":
            return f"build failed in the fresh process with {self._said}"
        if self.phase == "unpickle":
            return (
                f"The fresh process could not read build ({self._said}). What it uses must be "
                "importable there, or be defined in the notebook itself."
            )
        return " ".join([self._said, *self.notes])

    @property
    def _said(self) -> str:
        place = f" ({self.place})" if self.place else ""
        return f"{_gist(self.error_type, self.error)}{place}"

    @property
    def _guess(self) -> str:
        if self.memory_limit is not None or "SIGKILL" not in (self.error or ""):
            return ""
        return (
            "Perhaps the machine was out of memory: with a memory_limit the run says which model "
            "did not fit."
        )

    def raise_if_failed(self) -> RunOutcome:
        """Return the outcome itself if the run succeeded.

        Raises:
          FreshRunError: the run failed.
        """
        if not self.succeeded:
            raise FreshRunError(self)
        return self

    def __repr__(self) -> str:
        s = self.trace.summary()
        counts = f"{s.loads} loads, {s.evictions} evictions, {s.elements} elements"
        return f"RunOutcome({'DONE' if self.succeeded else self.problem} [{counts}])"


def _first_line(text: str | None) -> str:
    return next(iter((text or "").strip().splitlines()), "")


def _gist(error_type: str | None, error: str | None) -> str:
    """Return type and text of an error in one line: the last one of a worker's traceback.

    >>> _gist("ValueError", "no"), _gist("RuntimeError", "Traceback (most …\\nKeyError: 3")
    ('ValueError: no', 'KeyError: 3')
    """
    lines = (error or "").strip().splitlines()
    if lines and lines[0].startswith("Traceback (most"):
        return lines[-1]
    return f"{error_type}: {_first_line(error)}"


def _sentence(text: str | None) -> str:
    line = _first_line(text)
    return f"{line[:1].upper()}{line[1:]}."


def too_small(limit: int, said: str | None = None) -> str:
    """Return the message for a memory limit that is too small for Beam itself."""
    how = f" ({said})" if said else ""
    return (
        f"A memory limit of {in_bytes(limit)} is too small even to start{how}: before the first "
        f"model Beam itself needs about {in_bytes(LEAST_LIMIT)} with one worker, and "
        f"{in_bytes(THREAD_BYTES)} more with each further thread; what the pipeline holds comes "
        "on top. Give a larger memory_limit."
    )
