"""One run of one pipeline, from submission to its trace."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from apache_beam.pipeline import Pipeline
from apache_beam.runners.runner import PipelineResult, PipelineState

from mmlab._extras import extra_for
from mmlab._faults import describe, survived
from mmlab.beam.cards import ModelCard
from mmlab.beam.counts import element_counts
from mmlab.beam.pipelines import InferenceStep, collection_before_batching, collection_name
from mmlab.events import Dropped, EndInfo, RunBegins, RunEnds, RunInfo
from mmlab.log.reader import LogReader
from mmlab.reports.failure import explain
from mmlab.trace import Trace
from mmlab.watching.errors import add_notes, chain, leave_frames_out
from mmlab.watching.interrupts import interrupts_held
from mmlab.watching.places import shows_by_itself
from mmlab.watching.steps import say_unwatched
from mmlab.worker.memory import oom_kills, oom_kills_since
from mmlab.worker.recorder import Log, close_recorder, recorder_for

if TYPE_CHECKING:
    from mmlab.watching.view import LiveView


@dataclass
class Run:
    """One run of one pipeline, from submission to its trace.

    Attributes:
      pipeline: the pipeline.
      log: where its events go.
      keeps_log: whether the log is kept after the run.
      steps: its watched steps.
      here: whether its workers are on this machine.
      on_end: called with the run when it has ended.
    """

    pipeline: Pipeline
    steps: Sequence[InferenceStep]
    log: Log
    keeps_log: bool
    here: bool
    on_end: Callable[[Run], None]
    reader: LogReader | None = None
    lost: int = 0
    view: LiveView | None = None
    oom_kills: int | None = field(default_factory=oom_kills)
    _ending: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        # Registered before workers start in this process, so called after they have stopped.
        atexit.register(self._forget)

    @property
    def ended(self) -> bool:
        return self.reader is not None

    @cached_property
    def trace(self) -> Trace:
        """The trace of a run that has ended; parsed on first access."""
        if self.reader is None:
            raise RuntimeError("the run has not ended yet")
        events = self.reader.parse()
        if self.lost and events:  # events of this process that its log could not report
            last = max(events, key=attrgetter("t_ns"))
            lost = Dropped(
                run=last.run, host=last.host, pid=os.getpid(), tid=last.tid, t_ns=last.t_ns,
                n=self.lost,
            )  # fmt: skip
            events.append(lost)
        return Trace(events, torn=self.reader.torn)

    def begin(self, cards: list[ModelCard], sharing: list[list[str]]) -> None:
        info = RunInfo(
            models=tuple(card.traced for card in cards),
            python=sys.version.split()[0],
            sharing=tuple(map(tuple, sharing)),
        )
        recorder_for(self.log).emit(RunBegins(info=info))

    def _element_counts(self, result: Any) -> dict[str, int]:
        # A runner with other counters, or whose service has ended, must not fail the run.
        with survived("count the elements of the pipeline"):
            return element_counts(self.pipeline, result)
        return {}

    def _reached(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return the elements that reached the model of each step, if the runner counts them."""
        before = {}
        with survived("count the elements that came to models"):
            before = {
                step.label: collection
                for step in self.steps
                if (collection := collection_before_batching(step)) is not None
            }
        names = {step: collection_name(of) for step, of in before.items()}
        return {step: counts[name] for step, name in names.items() if name in counts}

    def cannot_watch(self, step: str | None, why: str) -> None:
        """Report that a step cannot be watched; the memory of this process still is."""
        say_unwatched(self.log, step, why.rstrip("."))
        if self.here:
            recorder_for(self.log).start_sampling()

    def show(self, live: bool | str, title: str) -> None:
        """Show the run live until it ends."""
        if live is False or (live == "auto" and not shows_by_itself()):
            return  # do not import the drawing code, which is slow
        with extra_for("live=True"):
            from mmlab.watching.screens import screen_for
            from mmlab.watching.view import LiveView

        screen = screen_for(live, f"Timeline of {title}, drawn while it ran")
        self.view = None if screen is None else LiveView(self.log.folder, title, screen)

    @contextmanager
    def ending_on_error(self, result: PipelineResult | None = None) -> Iterator[None]:
        """End the run with an error raised in the block, and add mmlab's notes to that error.

        Args:
          result: of the wrapped runner, if there is one.
        """
        try:
            yield
        except BaseException as error:
            leave_frames_out(error)
            if not self.ended:
                self.end(_state_after(error, result), error=error)
            with survived("explain an error"):  # it may override add_note
                add_notes(error, explain(self.trace.events))
            raise

    def end(self, state: str, *, result: Any = None, error: BaseException | None = None) -> None:
        """End the recording and show the last picture; an interrupt is delayed until then."""
        with interrupts_held(), self._ending:
            if self.ended:
                return
            try:
                self._end(state, result, error)
            finally:
                atexit.unregister(self._forget)
                self._forget()

    def _forget(self) -> None:
        if not self.keeps_log:
            shutil.rmtree(self.log.folder, ignore_errors=True)

    def _end(self, state: str, result: Any, error: BaseException | None) -> None:
        recorder = recorder_for(self.log)
        recorder.stop_sampling()
        killed = oom_kills_since(self.oom_kills)
        counts = self._element_counts(result)
        info = EndInfo(state, counts, killed, self._reached(counts), elsewhere=not self.here)
        recorder.emit(RunEnds(info=info, error=describe(error) if error else None))
        close_recorder(self.log)
        self.lost = recorder.lost
        self.reader = LogReader(self.log.folder)
        with survived("read the log of a run"):  # it may be damaged or deleted
            self.reader.fetch_all()
        self.on_end(self)
        if self.view is not None:
            self.view.finish(lambda: self.trace)


def _state_after(error: BaseException, result: PipelineResult | None) -> str:
    if any(isinstance(one, KeyboardInterrupt) for one in chain(error)):
        return PipelineState.CANCELLED
    with survived("ask the runner how the job ended"):  # its service may have ended
        if result is not None and PipelineState.is_terminal(state := result.state):
            return PipelineState.FAILED if state == PipelineState.DONE else state
    return PipelineState.FAILED
