"""What became of a run in a fresh process, and its failure in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from apache_beam.runners.runner import PipelineState

from mmlab._text import in_bytes, shown_everywhere
from mmlab.events import Conflicts
from mmlab.reports.shortage import OutOfMemory, is_out_of_memory, out_of_memory
from mmlab.trace import Trace

LEAST_LIMIT = 80_000_000
"""What Beam needs for a run with one worker, before the first model."""
THREAD_BYTES = 50_000_000
"""What it needs for each further worker thread."""


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
    """What became of a run in a fresh process.

    Attributes:
      trace: what happened to the models, up to the last moment, also of a killed process.
      phase: how far it came: "unpickle", "limit", "build", "run" or "done".
      error_type, error: of the exception that ended it; None when it succeeded.
      notes: what mmlab added to the exception.
      traceback: its last lines.
      place: of a `build` that failed, the line of its author's code that the error came from.
      output: the end of what the run printed and logged.
      seconds: from the request to the end of the process.
      first_event_seconds: from the request to the first event of the run; None when it had none.
      interrupted: whether it was stopped from outside.
      memory_limit: bytes that it was allowed to take, or None.
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
        """Whether the pipeline came so far that it asked for a model."""
        return self.succeeded or bool(self.trace.of_kind("load_begin"))

    @cached_property
    def out_of_memory(self) -> OutOfMemory | None:
        """Which model did not fit, what was held, what to change; None when memory was no issue."""
        return None if self.interrupted else out_of_memory(self.trace)

    @property
    def oom(self) -> bool:
        """Whether it ran out of memory."""
        return self.out_of_memory is not None

    @property
    def conflict(self) -> bool:
        """Whether it failed because two threads changed Beam's model manager at once.

        That is chance: the same run may pass. Memory has no part in it.
        """
        return not self.succeeded and not self.oom and bool(self.trace.facts(Conflicts))

    @property
    def starved(self) -> bool:
        """Whether the memory limit ended it before the first model."""
        if self.memory_limit is None or self.ran or self.phase == "unpickle":
            return False
        ended = self.error_type == "Stalled" or (self.error_type, self.phase) == ("Killed", "limit")
        return ended or is_out_of_memory(self.error)

    @property
    def ended(self) -> str:
        """ "done", "interrupted", "out of memory" or "failed"; "unknown" where nothing tells."""
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
        """Why it failed and what to change, in sentences; None when it succeeded."""
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
        """The outcome itself, when the run succeeded.

        Raises:
          FreshRunError: it did not.
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
    """Type and text of an error in one line, the last one where the text is a worker's traceback.

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
    """What to say of a memory limit under which not even Beam itself can run."""
    how = f" ({said})" if said else ""
    return (
        f"A memory limit of {in_bytes(limit)} is too small even to start{how}: before the first "
        f"model Beam itself needs about {in_bytes(LEAST_LIMIT)} with one worker, and "
        f"{in_bytes(THREAD_BYTES)} more with each further thread; what the pipeline holds comes "
        "on top. Give a larger memory_limit."
    )
