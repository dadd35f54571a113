"""`compare_hints`: one pipeline under several hints, each in a fresh process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineRunner

from mmlab._arguments import short, whole_number
from mmlab._faults import survived
from mmlab._text import say
from mmlab.checks.steps import check_hint
from mmlab.compare.comparison import Comparison, Hint, HintRuns, line_of
from mmlab.compare.race import Race
from mmlab.events import Event
from mmlab.fresh.outcome import FreshRunError, RunOutcome
from mmlab.fresh.process import FreshRun, run_fresh
from mmlab.fresh.together import torch_threads
from mmlab.watching.follow import live_view
from mmlab.watching.screens import Screen, TerminalScreen, screen_for


def compare_hints(
    build: Callable[[Any, Hint], Any],
    hints: Sequence[Hint] = (1, 2, 4, None),
    *,
    repeat: int = 1,
    together: bool = False,
    memory_limit: int | str | None = None,
    options: PipelineOptions | Sequence[str] | None = None,
    runner: PipelineRunner | str | None = None,
    live: bool | str = "auto",
    progress: Callable[[str], None] | None = say,
    on_events: Callable[[Hint, list[Event]], None] | None = None,
) -> Comparison:
    """Run the pipeline built by `build(pipeline, hint)` under each hint, in fresh processes.

    A run that fails, out of memory or otherwise, becomes a row of the comparison; the other hints
    still run. Repeats run in turns (every hint once, then every hint again), so that a machine that
    gets slower affects all hints equally. An interrupt stops the current run; the comparison then
    contains the runs until then.

    Args:
      build: a function that adds steps to `pipeline`, and passes `hint` to its keyed handler:
        `KeyedModelHandler(…, max_models_per_worker_hint=hint)`.
      hints: positive integers, or None for no limit; each once.
      repeat: runs per hint; with 3 or more, tables show medians and ranges.
      together: whether to run all hints at the same time, drawn on one screen with one clock: a
        race. Their seconds cannot be compared, since the runs share the machine and PyTorch's
        threads. If there is not enough memory for all, fewer run at once.
      memory_limit: see `run_fresh`.
      options: see `run_fresh`.
      runner: see `run_fresh`.
      live: whether to draw the runs live; see `WatchRunner`.
      progress: callback with one line of text per run; None to print nothing.
      on_events: callback with the hint and its new events, for your own view.

    Raises:
      ValueError: no hints, a hint twice, or one that is not a positive integer; `repeat` is less
        than 1; `memory_limit` cannot be read or is too small.
      TypeError: `hints` is not a sequence, or `build` cannot be sent to another process.
      FreshRunError: no run used a model, so the mistake is in `build`.
    """
    hints = check_hints(hints, "compare_hints")
    repeat = whole_number("repeat", repeat)
    runs = RunHint(build, memory_limit, options, live, progress, on_events, runner)
    outcomes: dict[Hint, list[RunOutcome]] = {hint: [] for hint in hints}
    run_all = _all_together if together else _one_after_another
    interrupted = False
    try:
        for hint, outcome in run_all(runs, hints, repeat):
            outcomes[hint].append(outcome)
    except KeyboardInterrupt:  # between two runs
        if not any(outcomes.values()):
            raise
        interrupted = True
    return _compared(outcomes, interrupted, together)


def _compared(
    outcomes: Mapping[Hint, Sequence[RunOutcome]], interrupted: bool, together: bool
) -> Comparison:
    rows = tuple(HintRuns(hint, tuple(ran)) for hint, ran in outcomes.items() if ran)
    every = [outcome for row in rows for outcome in row.outcomes]
    interrupted = interrupted or any(outcome.interrupted for outcome in every)
    if not interrupted and not any(outcome.ran or outcome.oom for outcome in every):
        raise FreshRunError(every[0])
    return Comparison(rows, interrupted, together)


def _one_after_another(
    runner: RunHint, hints: Sequence[Hint], repeat: int
) -> Iterator[tuple[Hint, RunOutcome]]:
    plan = [(number, hint) for number in range(1, repeat + 1) for hint in hints]
    with runner.running() as run:
        for done, (number, hint) in enumerate(plan, start=1):
            name = f"[{done}/{len(plan)}] {_name(hint, number, repeat)}"
            outcome = run(hint, name)
            yield hint, outcome
            runner.report(name, outcome)
            if outcome.interrupted:
                return


def _all_together(
    runner: RunHint, hints: Sequence[Hint], repeat: int
) -> Iterator[tuple[Hint, RunOutcome]]:
    for number in range(1, repeat + 1):
        names = [_name(hint, number, repeat) for hint in hints]
        outcomes = runner.race(hints, names)
        yield from outcomes.items()
        if len(outcomes) < len(hints) or any(one.interrupted for one in outcomes.values()):
            return


def _name(hint: Hint, number: int, repeat: int) -> str:
    return f"{HintRuns(hint, ()).label}{f', run {number} of {repeat}' if repeat > 1 else ''}"


@dataclass(frozen=True)
class RunHint:
    """Runs `build(pipeline, hint)` in fresh processes, with one picture and a line per run.

    The arguments are those of `compare_hints`.

    Raises:
      TypeError: `progress` or `on_events` is not callable.
    """

    build: Callable[[Any, Hint], Any]
    memory_limit: int | str | None
    options: PipelineOptions | Sequence[str] | None
    live: bool | str
    progress: Callable[[str], None] | None
    on_events: Callable[[Hint, list[Event]], None] | None = None
    runner: PipelineRunner | str | None = None

    def __post_init__(self) -> None:
        for name in ("progress", "on_events"):
            function = getattr(self, name)
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a function or None, got {short(function)}")

    @contextmanager
    def running(self) -> Iterator[Callable[[Hint, str], RunOutcome]]:
        """Context with a function that runs a hint, given the hint and a name for the run."""
        with _shown(self.live) as screen:
            yield partial(self._run, screen)

    def _run(self, screen: Screen | None, hint: Hint, name: str) -> RunOutcome:
        views = [] if screen is None else [live_view(name, screen)]
        if self.on_events is not None:
            views.append(partial(self.on_events, hint))
        outcome = run_fresh(
            self.build,
            hint,
            memory_limit=self.memory_limit,
            options=self.options,
            runner=self.runner,
            on_events=partial(_show, views),
        )
        if isinstance(screen, TerminalScreen):
            screen.clear()
        return outcome

    def race(self, hints: Sequence[Hint], names: Sequence[str]) -> dict[Hint, RunOutcome]:
        """Run several hints at once. Returns the outcomes of the hints that ran."""
        threads = torch_threads(len(hints))

        def start(hint: Hint) -> FreshRun:
            return FreshRun(
                self.build, hint, memory_limit=self.memory_limit, options=self.options,
                runner=self.runner, torch_threads=threads,
            )  # fmt: skip

        def take(place: int, events: list[Event]) -> None:
            if self.on_events is not None:
                self.on_events(hints[place], events)

        ended: list[int] = []

        def end(place: int, outcome: RunOutcome) -> None:
            ended.append(place)
            if isinstance(screen, TerminalScreen):
                screen.clear()
            self.report(f"[{len(ended)}/{len(hints)}] {names[place]}", outcome)

        starts = [partial(start, hint) for hint in hints]
        with _shown(self.live) as screen:
            race = Race("One pipeline under several hints", names, starts, screen, take, end)
            outcomes = race.run()
        return {hints[place]: outcomes[place] for place in sorted(outcomes)}

    def report(self, name: str, outcome: RunOutcome) -> None:
        """Report the end of a run.

        Raises:
          FreshRunError: the fresh process could not load `build`.
        """
        if self.progress is not None:
            self.progress(f"{name}: {line_of(outcome)}")
        if outcome.phase == "unpickle":
            raise FreshRunError(outcome)


def check_hints(hints: Any, call: str) -> list[Hint]:
    """Return hints as a list.

    Args:
      call: name of the public function, for errors.

    Raises:
      TypeError, ValueError: `hints` is not a sequence of different hints.
    """
    if not isinstance(hints, Iterable) or isinstance(hints, str):
        raise TypeError(f"hints must be a sequence such as (1, 2, 4, None), got {short(hints)}")
    listed = list(hints)
    if not listed:
        raise ValueError("hints must have at least one hint, such as (1, 2, 4, None), got none")
    for place, hint in enumerate(listed):
        check_hint(hint, call)
        if hint in listed[:place]:
            raise ValueError(f"the hint {hint} is there twice: give each once, and repeat=")
    return listed


@contextmanager
def _shown(live: bool | str) -> Iterator[Screen | None]:
    """A screen for the live runs; it is cleared afterwards, since the comparison shows all runs."""
    screen = screen_for(live, "")
    try:
        yield screen
    finally:
        if screen is not None:
            with survived("clear the live picture"):
                screen.clear()


def _show(views: Sequence[Callable[[list[Event]], None]], events: list[Event]) -> None:
    for view in views:
        view(events)
