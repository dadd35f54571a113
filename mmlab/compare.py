"""`compare_hints`: one pipeline under several hints, each in a fresh process."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pandas as pd
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState

from mmlab._arguments import short, whole_number
from mmlab._text import in_bytes, plural, say, shown_everywhere
from mmlab.checks.before_run import check_hint
from mmlab.draw.comparison import Multiple, draw_comparison, words_of
from mmlab.draw.picture import Picture
from mmlab.events import UNKNOWN, Event, MemoryLimit, Unknown
from mmlab.fresh.outcome import FreshRunError, RunOutcome
from mmlab.fresh.process import run_fresh
from mmlab.prediction.recorded import copies_of
from mmlab.prediction.result import MOST_RELOADS
from mmlab.reports.summary import DIFFERS, Differs, Summary
from mmlab.trace import Trace
from mmlab.watching.follow import live_view, quietly
from mmlab.watching.screens import Screen, TerminalScreen, screen_for

Hint = int | None

COUNTS = ("loads", "reloads", "evictions", "uses", "elements", "most_resident", "limit")
ENDS = ("interrupted", "out of memory", "failed", "unknown", "done")
"""How a run can end: of several runs, the first of these is said."""
EQUALLY_FAST = 1.1
"""Medians that differ by less than this factor count as equal."""
EQUAL_RSS = 1.02
"""So do peaks of memory, which differ a little from run to run."""


@dataclass(frozen=True)
class HintRuns:
    """All runs of one hint.

    Attributes:
      hint: as it was given to `build`, or recorded.
      outcomes: one per repeat, in order.
      name: what the run is called instead of its hint.
    """

    hint: Hint
    outcomes: tuple[RunOutcome, ...]
    name: str | None = None

    @property
    def label(self) -> str:
        if self.name is not None:
            return self.name
        return "no hint" if self.hint is None else f"hint {self.hint}"

    @property
    def succeeded(self) -> bool:
        """Whether all its runs did."""
        return all(outcome.succeeded for outcome in self.outcomes)

    @property
    def problem(self) -> str | None:
        """Why it failed; None when all its runs succeeded."""
        return next((o.problem for o in self.outcomes if not o.succeeded), None)

    @cached_property
    def summaries(self) -> list[Summary]:
        return [outcome.trace.summary() for outcome in self.outcomes]

    @property
    def seconds(self) -> float:
        """Median wall time of its runs, from the submission of the pipeline to its end."""
        return statistics.median(s.wall_seconds for s in self.summaries)

    @property
    def model_bytes(self) -> int | Unknown:
        """Most bytes of models that one process held at once, in any run."""
        sizes = [s.model_bytes for s in self.summaries]
        return UNKNOWN if UNKNOWN in sizes else max(sizes)

    @property
    def peak_rss_bytes(self) -> int | None:
        """Median of the highest resident set sizes of one process in a run; None if unknown."""
        peaks = [s.peak_rss_bytes for s in self.summaries]
        return None if None in peaks else round(statistics.median(peaks))

    @property
    def thrashes(self) -> bool:
        """Whether, in any run, more than `MOST_RELOADS` of the batches loaded a model again.

        The first load of a model does not count: no hint saves it. So the share that is judged does
        not depend on how long a run is, as loads for each model would.
        """
        return any(s.reloads > MOST_RELOADS * s.uses for s in self.summaries)

    @property
    def shown(self) -> RunOutcome:
        """The run that pictures show: one that failed, else that of the median time."""
        failed = [outcome for outcome in self.outcomes if not outcome.succeeded]
        if failed:
            return failed[0]
        by_time = sorted(self.outcomes, key=lambda o: o.trace.summary().wall_seconds)
        return by_time[(len(by_time) - 1) // 2]


@shown_everywhere
@dataclass(frozen=True)
class Comparison:
    """One pipeline under several hints. A notebook shows the picture, a terminal the counts.

    Attributes:
      rows: the runs of each hint, in the order that was asked for.
      interrupted: whether it was stopped before all hints had run.
      differences: in what else than the hint recorded runs differ, each as "elements (48, 96)".
    """

    rows: tuple[HintRuns, ...]
    interrupted: bool = False
    differences: tuple[str, ...] = ()

    @property
    def traces(self) -> dict[Hint | str, list[Trace]]:
        """Hint, or name of a recorded run, to the traces of its runs, also of those that failed."""
        return {
            row.name or row.hint: [outcome.trace for outcome in row.outcomes] for row in self.rows
        }

    @property
    def notes(self) -> list[str]:
        """What is odd about the comparison, in sentences; empty when nothing is."""
        return [
            f"{row.label}: the handler that build made has the hint {seen}. Give the argument "
            "hint on to KeyedModelHandler(…, max_models_per_worker_hint=hint)."
            for row in self.rows
            if row.name is None and (seen := _other_hint(row)) is not False
        ]

    def table(self, *, times: bool = False) -> pd.DataFrame:
        """Integers, one row per hint; with repeats, the median and, where runs differ, the range.

        The columns are the same on every machine when batches have a fixed size: how the runs
        ended, the counts of `Trace.summary()`, and the most megabytes of models that one process
        held at once.

        Args:
          times: whether to add what differs from machine to machine: milliseconds, per cent of
            them spent loading, megabytes of the highest resident set size of one process.
        """
        rows = {row.label: _table_row(row, times) for row in self.rows}
        named = any(row.name is not None for row in self.rows)
        table = pd.DataFrame.from_dict(rows, orient="index", dtype=object)
        return table.rename_axis("run" if named else "hint")

    @property
    def verdict(self) -> str:
        """One sentence: the fastest, the least memory, the smallest hint that does not thrash.

        A hint thrashes when more than 5% of the batches (`MOST_RELOADS`) had to load a model that
        the process had held before. Hints whose runs failed are not judged. Where the models' own
        bytes are not known, the least memory is that of the lowest peak RSS.
        """
        done = [row for row in self.rows if row.succeeded]
        parts = [_fastest(done), _least_memory(done), self._calm, _failures(self.rows)]
        sentence = "; ".join(part for part in parts if part)
        if self.interrupted:
            sentence = f"{sentence}; interrupted before the end" if sentence else "interrupted"
        sentence = f"{sentence[:1].upper()}{sentence[1:]}."
        if self.differences:
            sentence += f" The runs differ in more than the hint: {', '.join(self.differences)}."
        return sentence

    @property
    def _calm(self) -> str | None:
        hints = [row.hint for row in self.rows]
        if self.differences or len(set(hints)) < len(hints):  # it may not be the hint's doing
            thrashing = [row for row in self.rows if row.succeeded and row.thrashes]
            return f"{_listed(thrashing)} {_thrash(len(thrashing))}" if thrashing else None
        return _smallest_calm(self.rows, whole=not self.interrupted)

    def plot(self, title: str | None = None) -> Picture:
        """Small multiples, one per hint, on the same seconds and the same scale of memory."""
        runs = [
            Multiple(row.label, _words(row), _short_problem(row), row.shown.trace)
            for row in self.rows
        ]
        steps = dict.fromkeys(model.step for run in runs for model in run.state.models)
        named = any(row.name is not None for row in self.rows)
        what = "recorded runs" if named else "one pipeline under several hints"
        title = title or f"{', '.join(steps)}: {what}"
        return Picture(draw_comparison(runs, title, self.verdict), repr(self))

    def __repr__(self) -> str:
        problems = [f"{row.label}: {row.problem}" for row in self.rows if row.problem]
        calm = self._calm
        judged = [f"{calm[0].upper()}{calm[1:]}."] if calm else []
        return "\n".join([self.table().to_string(), *judged, *problems, *self.notes])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        return self.plot()._repr_mimebundle_(include, exclude)


def compare_hints(
    build: Callable[[Any, Hint], Any],
    hints: Sequence[Hint] = (1, 2, 4, None),
    *,
    repeat: int = 1,
    memory_limit: int | str | None = None,
    options: PipelineOptions | Sequence[str] | None = None,
    live: bool | str = "auto",
    progress: Callable[[str], None] | None = say,
    on_events: Callable[[Hint, list[Event]], None] | None = None,
) -> Comparison:
    """Run the pipeline that `build(pipeline, hint)` makes once per hint, each in a fresh process.

    A hint whose run fails, out of memory or otherwise, is a row of the comparison and not its end.
    Repeats take turns, so that a machine that gets slower is unfair to no hint. An interrupt stops
    the run and returns what was seen until then.

    Args:
      build: adds the steps to the pipeline that it is given, and gives `hint` on to its keyed
        handler: `KeyedModelHandler(…, max_models_per_worker_hint=hint)`.
      hints: positive integers, or None for no limit; each once.
      repeat: runs per hint; with 3 or more, tables show medians and ranges.
      memory_limit: see `run_fresh`.
      options: see `run_fresh`.
      live: whether to draw each run while it goes on, one after another in one place, as
        `WatchRunner` does; the comparison takes its place.
      progress: called with one line per run, or None for silence.
      on_events: called with the hint and its new events while it runs; for a view of your own.

    Raises:
      ValueError: no hints, a hint twice, or one that is not a positive integer; `repeat` is less
        than 1; `memory_limit` cannot be read or is too small.
      TypeError: `hints` is not a sequence, or `build` cannot be sent to another process.
      FreshRunError: no hint came so far that a model was asked for: the mistake is in `build`.
    """
    hints = check_hints(hints, "compare_hints")
    repeat = whole_number("repeat", repeat)
    outcomes: dict[Hint, list[RunOutcome]] = {hint: [] for hint in hints}
    plan = [(number, hint) for number in range(1, repeat + 1) for hint in hints]
    interrupted = False
    try:
        runner = RunHint(build, memory_limit, options, live, progress, on_events)
        with runner.running() as run:
            for done, (number, hint) in enumerate(plan, start=1):
                again = f", run {number} of {repeat}" if repeat > 1 else ""
                name = f"[{done}/{len(plan)}] {HintRuns(hint, ()).label}{again}"
                outcome = run(hint, name)
                outcomes[hint].append(outcome)
                runner.report(name, outcome)
                if outcome.interrupted:
                    break
    except KeyboardInterrupt:  # between two runs
        if not any(outcomes.values()):
            raise
        interrupted = True
    rows = tuple(HintRuns(hint, tuple(runs)) for hint, runs in outcomes.items() if runs)
    every = [outcome for row in rows for outcome in row.outcomes]
    interrupted = interrupted or any(outcome.interrupted for outcome in every)
    if not interrupted and not any(outcome.ran or outcome.oom for outcome in every):
        raise FreshRunError(every[0])
    return Comparison(rows, interrupted)


def compare_traces(traces: Mapping[str, Trace | str | os.PathLike[str]]) -> Comparison:
    """Compare recorded runs, from any runner: aligned at their start, on one scale.

    The verdict says in what the runs differ besides the hint. Where they do, or two have the same
    hint, it names the runs that thrash, and no smallest hint.

    Args:
      traces: name to trace, the path of a saved one, or the log folder of a run.

    Raises:
      TypeError: `traces` is not a dict of names to traces.
      ValueError: it is empty.
      OSError, ValueError: a trace cannot be read; see `Trace.load`.
    """
    if not isinstance(traces, Mapping):
        raise TypeError(f"traces is {short(traces)}: give a dict such as {{'hint 2': trace}}")
    if not traces:
        raise ValueError("traces is empty: give at least one, such as {'hint 2': trace}")
    for name in traces:
        if not isinstance(name, str) or not name.strip():
            raise TypeError(f"a name of traces is {short(name)}: give text")
    read = {
        name: given if isinstance(given, Trace) else Trace.load(given)
        for name, given in traces.items()
    }
    rows = tuple(_recorded_row(name, trace) for name, trace in read.items())
    return Comparison(rows, differences=tuple(_differences([*read.values()])))


def _recorded_row(name: str, trace: Trace) -> HintRuns:
    error_type, _, error = (trace.error or "").partition(": ")
    seen = trace.state != PipelineState.UNKNOWN
    limits = trace.facts(MemoryLimit)
    outcome = RunOutcome(
        trace=trace,
        phase="done" if trace.state == PipelineState.DONE else "run",
        error_type=error_type or None,
        error=error or (f"it ended as {trace.state}" if seen else "its end was not recorded"),
        memory_limit=limits[-1].bytes if limits else None,
    )
    hint = trace.summary().hint
    return HintRuns(hint if isinstance(hint, int) else None, (outcome,), name)


def _differences(traces: Sequence[Trace]) -> Iterator[str]:
    """In what runs differ besides the hint, each as "elements (48, 96)"."""
    facts = {
        "elements": lambda trace: trace.summary().elements,
        "most elements in a batch": lambda trace: int(max(trace.batches.n, default=0)),
        "models": lambda trace: len({(model.step, model.model) for model in trace.models}),
        "processes with models": lambda trace: len(trace.residences_by_process),
        "worker threads that share models": copies_of,
        "machines": lambda trace: ", ".join(sorted({p.host for p in trace.processes})),
        "memory limits": _memory_limit,
    }
    for what, fact in facts.items():
        values = [fact(trace) for trace in traces]
        if len(set(values)) > 1:
            shown = "" if what == "machines" else f" ({', '.join(map(str, values))})"
            yield f"{what}{shown}"


def _memory_limit(trace: Trace) -> str:
    limits = [limit.bytes for limit in trace.facts(MemoryLimit)]
    return in_bytes(max(limits)) if limits else "none"


@dataclass(frozen=True)
class RunHint:
    """Runs `build(pipeline, hint)` in fresh processes, drawn in one place, with a line for each.

    Arguments are those of `compare_hints`.

    Raises:
      TypeError: `progress` or `on_events` is no function.
    """

    build: Callable[[Any, Hint], Any]
    memory_limit: int | str | None
    options: PipelineOptions | Sequence[str] | None
    live: bool | str
    progress: Callable[[str], None] | None
    on_events: Callable[[Hint, list[Event]], None] | None = None

    def __post_init__(self) -> None:
        for name in ("progress", "on_events"):
            function = getattr(self, name)
            if function is not None and not callable(function):
                raise TypeError(f"{name} is {short(function)}: give a function, or None")

    @contextmanager
    def running(self) -> Iterator[Callable[[Hint, str], RunOutcome]]:
        """Give a function of a hint and a name for the run."""
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
            on_events=partial(_show, views),
        )
        if isinstance(screen, TerminalScreen):
            screen.clear()
        return outcome

    def report(self, name: str, outcome: RunOutcome) -> None:
        """Report a run that has ended.

        Raises:
          FreshRunError: the fresh process could not read `build`.
        """
        if self.progress is not None:
            self.progress(f"{name}: {_line(outcome)}")
        if outcome.phase == "unpickle":
            raise FreshRunError(outcome)


def check_hints(hints: Any, call: str) -> list[Hint]:
    """Hints to run, as a list.

    Args:
      call: the public function that they were given to.

    Raises:
      TypeError, ValueError: it is no sequence of different hints.
    """
    if not isinstance(hints, Iterable) or isinstance(hints, str):
        raise TypeError(f"hints is {hints!r}: give several, such as (1, 2, 4, None)")
    listed = list(hints)
    if not listed:
        raise ValueError("hints is empty: give at least one, such as (1, 2, 4, None)")
    for place, hint in enumerate(listed):
        check_hint(hint, call)
        if hint in listed[:place]:
            raise ValueError(f"the hint {hint} is there twice: give each once, and repeat=")
    return listed


@contextmanager
def _shown(live: bool | str) -> Iterator[Screen | None]:
    """A screen for the runs, which is empty afterwards: the comparison shows them all."""
    screen = screen_for(live, "")
    try:
        yield screen
    finally:
        if screen is not None:
            quietly(screen.clear)()


def _show(views: Sequence[Callable[[list[Event]], None]], events: list[Event]) -> None:
    for view in views:
        view(events)


def _line(outcome: RunOutcome) -> str:
    if outcome.out_of_memory is not None:
        return outcome.out_of_memory.what
    if outcome.problem is not None:
        return outcome.problem
    s = outcome.trace.summary()
    loads = f"{plural(s.loads, 'load')} ({plural(s.reloads, 'reload')})"
    return f"{loads}, {plural(s.evictions, 'eviction')}, {plural(s.elements, 'element')}"


# Tables and words


def _table_row(row: HintRuns, times: bool) -> dict[str, Any]:
    cells: dict[str, Any] = {"ended": min((o.ended for o in row.outcomes), key=ENDS.index)}
    for name in COUNTS:
        cells[name] = _cell(getattr(s, name) for s in row.summaries)
    cells["model MB"] = _cell(_mega(s.model_bytes) for s in row.summaries)
    if times:
        cells["ms"] = _cell(round(s.wall_seconds * 1000) for s in row.summaries)
        cells["% loading"] = _cell(round(s.loading_share * 100) for s in row.summaries)
        cells["peak RSS MB"] = _cell(_mega(s.peak_rss_bytes) for s in row.summaries)
    return cells


def _mega(n: int | None | Unknown) -> int | None:
    return round(n / 1e6) if isinstance(n, int) else None


def _cell(values: Iterable[int | Unknown | Differs | None]) -> int | str:
    """The value, or the median and the range of several that differ.

    >>> _cell([24, 24]), _cell([24, 31, 26]), _cell([None]), _cell([UNKNOWN]), _cell([2, DIFFERS])
    (24, '26 (24–31)', '–', 'unknown', 'differs')
    """
    given = list(values)
    for other in (DIFFERS, UNKNOWN):
        if other in given:
            return str(other)
    known = [value for value in given if value is not None]
    if not known:
        return "–"
    middle = round(statistics.median(known))
    least, most = min(known), max(known)
    return middle if least == most else f"{middle} ({least}–{most})"


def _short_problem(row: HintRuns) -> str | None:
    unfit = row.shown.out_of_memory
    return row.problem if unfit is None else unfit.what


def _words(row: HintRuns) -> str:
    seconds = sorted(s.wall_seconds for s in row.summaries)
    spread = None
    if len(seconds) > 1:
        spread = f"{row.seconds:.1f} s ({seconds[0]:.1f}–{seconds[-1]:.1f})"
    return words_of(row.shown.trace, seconds=spread)


def _other_hint(row: HintRuns) -> Hint | bool:
    """The hint that the handler really had, where it is another; False where it is the same."""
    models = row.shown.trace.models
    if not models or any(model.hint == row.hint for model in models):
        return False
    return models[0].hint


def _fastest(done: Sequence[HintRuns]) -> str | None:
    if len(done) < 2:
        return None
    best = min(row.seconds for row in done)
    fast = [row for row in done if row.seconds <= best * EQUALLY_FAST]
    if len(fast) == len(done):
        return f"all are about as fast ({best:.1f} s)"
    verb = "is" if len(fast) == 1 else "are"
    return f"{_listed(fast)} {verb} the fastest ({best:.1f} s)"


def _least_memory(done: Sequence[HintRuns]) -> str | None:
    if len(done) < 2:
        return None
    if any(row.model_bytes is UNKNOWN for row in done):
        return _least_rss(done)
    least = min(row.model_bytes for row in done)
    small = [row for row in done if row.model_bytes == least]
    if len(small) == len(done):
        return f"all hold the same models ({least / 1e6:,.0f} MB)"
    verb = "holds" if len(small) == 1 else "hold"
    return f"{_listed(small)} {verb} the least ({least / 1e6:,.0f} MB of models)"


def _least_rss(done: Sequence[HintRuns]) -> str | None:
    if any(row.peak_rss_bytes is None for row in done):
        return None
    least = min(row.peak_rss_bytes for row in done)
    small = [row for row in done if row.peak_rss_bytes <= least * EQUAL_RSS]
    if len(small) == len(done):
        return f"all have about the same peak RSS ({least / 1e6:,.0f} MB)"
    verb = "has" if len(small) == 1 else "have"
    return f"{_listed(small)} {verb} the lowest peak RSS ({least / 1e6:,.0f} MB)"


def _smallest_calm(rows: Sequence[HintRuns], whole: bool) -> str | None:
    """Which hint is the smallest that does not thrash, among those that could be judged.

    A larger hint never loads more, so that N - 1 thrashes says it of all below N.
    """
    judged = [row for row in rows if row.succeeded]
    calm = [row for row in judged if not row.thrashes]
    wild = [row.hint for row in judged if row.thrashes]
    if not judged:
        return None
    if not calm:
        return f"{_listed(judged)} {_thrash(len(judged))}"
    smallest = min(calm, key=lambda row: float("inf") if row.hint is None else row.hint).hint
    if smallest is None:
        only = "only " if whole and wild and len(judged) == len(rows) else ""
        return f"{only}without a hint nothing thrashes"
    sure = smallest == 1 or smallest - 1 in wild
    among = "" if sure else ", of those that ran"
    return f"{smallest} is the smallest hint that does not thrash{among}"


def _thrash(n: int) -> str:
    return {1: "thrashes", 2: "both thrash"}.get(n, "all thrash")


def _failures(rows: Sequence[HintRuns]) -> str | None:
    failed = [row for row in rows if not row.succeeded]
    stopped = [row for row in failed if any(o.interrupted for o in row.outcomes)]
    memory = [row for row in failed if any(o.oom for o in row.outcomes)]
    unknown = [row for row in failed if all(o.ended in ("unknown", "done") for o in row.outcomes)]
    other = [row for row in failed if row not in [*memory, *stopped, *unknown]]
    passed = [row for row in rows if row.succeeded]
    parts = [f"{_listed(passed)} passed"] if memory and passed else []
    parts += [f"{_listed(memory)} ran out of memory"] if memory else []
    parts += [f"{_listed(other)} failed"] if other else []
    parts += [f"the end of {_listed(unknown)} was not recorded"] if unknown else []
    return " and ".join(parts) or None


def _listed(rows: Sequence[HintRuns]) -> str:
    """
    >>> _listed([HintRuns(1, ()), HintRuns(2, ()), HintRuns(None, ())])
    'hint 1, hint 2 and the run without a hint'
    """
    unnamed = "the run without a hint"
    *first, last = [unnamed if row.hint is None and row.name is None else row.label for row in rows]
    return f"{', '.join(first)} and {last}" if first else last
