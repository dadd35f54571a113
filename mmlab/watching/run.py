"""One run of one pipeline, from submission to its trace."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any

from apache_beam.pipeline import Pipeline
from apache_beam.runners.runner import PipelineState

from mmlab.beam import internals
from mmlab.beam.cards import ModelCard
from mmlab.checks.before_run import explain
from mmlab.events import Dropped, EndInfo, RunBegins, RunEnds, RunInfo
from mmlab.log.reader import LogReader
from mmlab.trace import Trace
from mmlab.watching.interrupts import interrupts_held
from mmlab.watching.screens import screen_for
from mmlab.watching.steps import say_unwatched
from mmlab.watching.view import LiveView
from mmlab.watching.warning import WatchWarning
from mmlab.worker.memory import oom_kills, oom_kills_since
from mmlab.worker.recorder import Log, close_recorder, describe, recorder_for


@dataclass
class Run:
    """One run of one pipeline, from submission to its trace.

    Attributes:
      pipeline: what runs.
      log: where its events go.
      keeps_log: whether the log stays when the run has ended.
      here: whether its workers are on this machine.
      on_end: called with the run when it has ended.
    """

    pipeline: Pipeline
    log: Log
    keeps_log: bool
    here: bool
    on_end: Callable[[Run], None]
    reader: LogReader | None = None
    lost: int = 0
    view: LiveView | None = None
    oom_kills: int | None = field(default_factory=oom_kills)

    @property
    def ended(self) -> bool:
        return self.reader is not None

    @cached_property
    def trace(self) -> Trace:
        """The trace of a run that has ended; parsed when it is first asked for."""
        events = self.reader.parse()
        if self.lost and events:  # by this process, up to the end: the log could not say so
            last = max(events, key=attrgetter("t_ns"))
            stamp = {"run": last.run, "host": last.host, "pid": os.getpid(), "tid": last.tid}
            events.append(Dropped(**stamp, t_ns=last.t_ns, n=self.lost))
        return Trace(events, torn=self.reader.torn)

    def begin(self, cards: list[ModelCard], sharing: list[list[str]]) -> None:
        info = RunInfo(
            models=tuple(card.traced for card in cards),
            python=sys.version.split()[0],
            sharing=tuple(map(tuple, sharing)),
        )
        recorder_for(self.log).emit(RunBegins(info=info))

    def _element_counts(self, result: Any) -> dict[str, int]:
        # Counts adorn the diagram: a runner that counts in another way must not fail the run.
        try:
            return internals.element_counts(self.pipeline, result)
        except Exception:
            return {}

    def cannot_watch(self, step: str | None, why: str) -> None:
        """Say so, and watch what is left: the memory of this process."""
        say_unwatched(self.log, step, why.rstrip("."))
        if self.here:
            recorder_for(self.log).start_sampling()

    def show(self, live: bool | str, labels: Iterable[str]) -> None:
        """Show the run of these steps while it goes on, from now until it ends."""
        title = ", ".join(labels) or "the pipeline"
        screen = screen_for(live, f"Timeline of {title}, drawn while it ran")
        self.view = None if screen is None else LiveView(self.log.folder, title, screen)

    @contextmanager
    def ending_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if not self.ended:
                interrupted = any(isinstance(e, KeyboardInterrupt) for e in _chain(error))
                state = PipelineState.CANCELLED if interrupted else PipelineState.FAILED
                self.end(state, error=error)
                _add_notes(error, explain(self.trace.events))
            raise

    def end(self, state: str, *, result: Any = None, error: BaseException | None = None) -> None:
        """End the recording, and leave the last picture; an interrupt waits until it stands."""
        with interrupts_held():
            try:
                self._end(state, result, error)
            finally:
                if not self.keeps_log:
                    shutil.rmtree(self.log.folder, ignore_errors=True)

    def _end(self, state: str, result: Any, error: BaseException | None) -> None:
        recorder = recorder_for(self.log)
        recorder.stop_sampling()
        killed = oom_kills_since(self.oom_kills)
        info = EndInfo(state, self._element_counts(result), killed)
        recorder.emit(RunEnds(info=info, error=describe(error) if error else None))
        close_recorder(self.log)
        self.lost = recorder.lost
        self.reader = LogReader(self.log.folder)
        with suppress(OSError):  # whatever became of the log, the pipeline's own result stands
            self.reader.fetch_all()
        self.on_end(self)
        if self.view is not None:
            self.view.finish(lambda: self.trace)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that led to it: Beam wraps an interrupt into one of its own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _add_notes(error: BaseException, sentences: list[str]) -> None:
    if hasattr(error, "add_note"):  # Python 3.11 and later
        with suppress(Exception):  # an author's exception may have an add_note of its own
            for sentence in sentences:
                error.add_note(sentence)
    else:
        for sentence in sentences:
            warnings.warn(sentence, WatchWarning, stacklevel=3)
