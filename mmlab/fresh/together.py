"""Several fresh runs at once: as many as fit in the free memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from mmlab.budget import resident_estimate
from mmlab.checks.memory import memory_left
from mmlab.events import Event
from mmlab.fresh.outcome import RunOutcome
from mmlab.fresh.process import POLL_SECONDS, FreshRun
from mmlab.state import State


def torch_threads(runs: int) -> int:
    """Return the number of PyTorch threads for each of several runs, at least 1.

    >>> torch_threads(10_000)
    1
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // runs)


class Together:
    """Runs at the same time; the next one starts when it fits in the free memory.

    The first starts at once. Each further one starts when the free memory, less what the running
    ones may still need, exceeds the highest resident set size of a run so far. Until a run has
    ended, that size is estimated from the models loaded.

    Args:
      starts: functions that start the runs, in this order.
      on_events: called with the index of a run and its new events, in the calling thread.
      on_end: called with the index of a run that has ended, and its outcome.
      estimate: bytes that a run may need, if known beforehand.
    Attributes:
      states: state of each run so far; empty before it begins.
      outcomes: of the runs that have ended, by index.
      waiting: indices of the runs that have not started.
    """

    def __init__(
        self,
        starts: Sequence[Callable[[], FreshRun]],
        on_events: Callable[[int, list[Event]], None] = lambda place, events: None,
        on_end: Callable[[int, RunOutcome], None] = lambda place, outcome: None,
        estimate: int | None = None,
    ):
        self._starts = starts
        self._estimate = estimate
        self._on_events = on_events
        self._on_end = on_end
        self._running: dict[int, FreshRun] = {}
        self._stopped = False
        self._highest = 0
        self.states = [State() for _ in starts]
        self.outcomes: dict[int, RunOutcome] = {}
        self.waiting = list(range(len(starts)))

    def stop(self) -> None:
        """End all running runs and start no others; may be called from any thread."""
        self._stopped = True
        for run in [*self._running.values()]:
            run.stop()

    def run(self) -> dict[int, RunOutcome]:
        """Run all. An interrupt stops them; it is raised only if no run has begun."""
        with ExitStack() as stack:
            try:
                self._run(stack)
            except KeyboardInterrupt:
                if not self._running and not self.outcomes:
                    raise
                self.stop()
                for place in [*self._running]:
                    self._end(place)
        return self.outcomes

    def _run(self, stack: ExitStack) -> None:
        while self._running or (self.waiting and not self._stopped):
            while self.waiting and not self._stopped and self._has_room():
                place = self.waiting.pop(0)
                self._running[place] = stack.enter_context(self._starts[place]())
                if self._running[place].outcome is not None:  # interrupted during its start
                    self._end(place)
            for place, run in [*self._running.items()]:
                seconds = POLL_SECONDS / len(self._running)
                if self._stopped:
                    run.stop()
                if not run.goes_on(self._taker(place), seconds):
                    self._end(place)

    def _end(self, place: int) -> None:
        outcome = self._running[place].wait(self._taker(place))
        del self._running[place]
        self.outcomes[place] = outcome
        if outcome.interrupted:
            self.stop()
        self._highest = max(self._highest, outcome.trace.summary().peak_rss_bytes or 0)
        self._on_end(place, outcome)

    def _taker(self, place: int) -> Callable[[list[Event]], None]:
        def take(events: list[Event]) -> None:
            self.states[place].add(events)
            self._on_events(place, events)

        return take

    def _has_room(self) -> bool:
        if not self._running:
            return True
        need = self.need
        if need is None:
            return False
        now = [self.states[place].memory.rss or 0 for place in self._running]
        promised = sum(max(0, need - rss) for rss in now)
        return memory_left() - promised > need

    @property
    def need(self) -> int | None:
        """Bytes that a run may need; None while unknown."""
        if self._highest:
            return self._highest
        seen = [need for place in self._running if (need := self._need_of(place)) is not None]
        return max(seen, default=self._estimate)

    def _need_of(self, place: int) -> int | None:
        """Return the bytes that a run may need, from its first load; None before that."""
        state = self.states[place]
        loads = [load for of in state.processes.values() for load in of.loads if load.end_ns]
        firsts = [of.rss.values[0] for of in state.processes.values() if len(of.rss)]
        if not firsts or not loads:
            return None
        sizes = [load.bytes for load in loads if isinstance(load.bytes, int)]
        grown = (state.memory.peak_rss or 0) - min(firsts)
        return resident_estimate(min(firsts), max(sizes, default=grown), len(state.models))
