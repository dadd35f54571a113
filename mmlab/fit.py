"""`fit_hint`: the highest hint with which a pipeline passes under a memory limit, by running it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from apache_beam.options.pipeline_options import PipelineOptions

from mmlab._arguments import parse_bytes, whole_number
from mmlab._text import in_bytes, joined, megabytes, plural, say, shown_everywhere
from mmlab.compare.comparison import Comparison, Hint, HintRuns
from mmlab.compare.hints import RunHint, check_hints
from mmlab.draw.picture import Picture
from mmlab.fresh.outcome import FreshRunError, RunOutcome
from mmlab.prediction.recorded import copies_of
from mmlab.watching.screens import in_notebook

_CONFIRM = 2
"""Further runs that the answer must pass, since one run says little about a hint near the limit."""
_MOST_ABOVE = 4
"""Number of skipped hints to run if the search finds no hint that passes: reloads leave memory
behind, so that hint 1 may fail where hint 3 passes."""

_MOST_CONFLICTS = 4
"""Maximum repeats of a run that failed by a conflict of threads, not out of memory."""

_PROMISE = (
    "Other data, more threads, a second run in the same process or another machine may need more "
    "memory than these runs: leave a buffer."
)


@shown_everywhere
@dataclass(frozen=True)
class Fit:
    """The result of `fit_hint`. A notebook shows the picture of the runs, a terminal their table.

    Attributes:
      found: whether a hint passed all its runs.
      hint: the highest hint that passed; None if the run without a hint passed, or if none was
        found.
      runs: hint and outcome of each run, in order.
      memory_limit: memory limit of each process of a run, bytes.
      interrupted: whether the search was stopped before the end; then no hint is found.
    """

    found: bool
    hint: Hint
    runs: tuple[tuple[Hint, RunOutcome], ...]
    memory_limit: int
    interrupted: bool = False

    @property
    def sharp(self) -> bool:
        """Whether there is a hint up to which all runs passed and above which all runs failed.

        Runs that failed by a conflict of threads are left out.
        """
        passed = [_rank(hint) for hint, outcome in self.runs if outcome.succeeded]
        failed = [_rank(hint) for hint, outcome in self.runs if _failed_to_fit(outcome)]
        return not passed or not failed or max(passed) < min(failed)

    @property
    def comparison(self) -> Comparison:
        """Comparison of the hints that ran."""
        by_hint: dict[Hint, list[RunOutcome]] = {}
        for hint, outcome in sorted(self.runs, key=lambda run: _rank(run[0])):
            by_hint.setdefault(hint, []).append(outcome)
        rows = tuple(HintRuns(hint, tuple(outcomes)) for hint, outcomes in by_hint.items())
        return Comparison(rows, self.interrupted)

    def table(self) -> pd.DataFrame:
        """Table with one row per run: hint, end, loads, peak RSS of a process, seconds."""
        rows = []
        for hint, outcome in self.runs:
            s = outcome.trace.summary()
            peak = s.peak_rss_bytes
            rows.append(
                {
                    "hint": "none" if hint is None else hint,
                    "ended": _words(outcome),
                    "loads": s.loads,
                    "peak RSS MB": "unknown" if peak is None else megabytes(peak),
                    "seconds": round(s.wall_seconds, 1),
                }
            )
        return pd.DataFrame(rows, index=range(1, len(rows) + 1), dtype=object).rename_axis("run")

    @property
    def verdict(self) -> str:
        """Result of the search in sentences, which state only what runs have shown."""
        under = f"under a memory limit of {in_bytes(self.memory_limit)}"
        if self.interrupted:
            return f"Interrupted after {plural(len(self.runs), 'run')}: nothing is found yet."
        if not self.found:
            words = f"No hint that was run passes {under}: give more memory, or smaller models."
            return " ".join([words, *self._other_problems])
        n = sum(hint == self.hint and o.succeeded for hint, o in self.runs)
        label = "Without a hint" if self.hint is None else f"With hint {self.hint}"
        words = f"{label}, {n} of {plural(n, 'run')} passed {under}"
        words += "." if self.hint is None else "; no higher hint passed each of its runs."
        uneven = [] if self.sharp else [self._uneven]
        return " ".join([words, *uneven, *self._other_problems])

    @property
    def _other_problems(self) -> list[str]:
        other = ((hint, o) for hint, o in self.runs if _failed_otherwise(o))
        failed = {hint: o.trace.notes[0] if o.conflict else o.problem for hint, o in other}
        return [f"{HintRuns(hint, ()).label}: {problem}" for hint, problem in failed.items()]

    @property
    def _uneven(self) -> str:
        """Name the hints that failed at or below a hint that passed."""
        passed = max(_rank(hint) for hint, outcome in self.runs if outcome.succeeded)
        failed = {h: None for h, o in self.runs if _failed_to_fit(o) and _rank(h) <= passed}
        names = joined(HintRuns(hint, ()).label for hint in sorted(failed, key=_rank))
        return f"There is no sharp boundary: {names} failed, and a hint as high or higher passed."

    def plot(self, title: str | None = None) -> Picture:
        """Draw the comparison of the hints that ran; its text is the same on every machine."""
        ended = [f"  {HintRuns(hint, ()).label}: {_words(o)}" for hint, o in self.runs]
        return Picture(
            self.comparison.plot(title).figure, "\n".join([self.verdict, *ended, _PROMISE])
        )

    def __repr__(self) -> str:
        return "\n".join([self.verdict, self.table().to_string(), _PROMISE])

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.plot()._repr_mimebundle_(include, exclude)


def fit_hint(
    build: Callable[[Any, Hint], Any],
    *,
    memory_limit: int | str,
    hints: Sequence[Hint] | None = None,
    confirm: int = _CONFIRM,
    options: PipelineOptions | Sequence[str] | None = None,
    live: bool | str = "auto",
    progress: Callable[[str], None] | None = say,
) -> Fit:
    """Find the highest hint with which a pipeline passes under a memory limit, by running it.

    The first run has the highest hint. A run that is out of memory shows how many models it held,
    and the search continues up and down from there, until a hint passes and the next higher one
    fails. The next lower hint is run too, and the answer must pass again, because reloads leave
    memory behind: a lower hint may fail where a higher one passes.

    Args:
      build: see `compare_hints`.
      memory_limit: limit of each process; see `run_fresh`.
      hints: the hints to choose from; by default 1 to the number of models, and None.
      confirm: number of further runs that the answer must pass.
      options: see `run_fresh`.
      live: see `compare_hints`.
      progress: callback with one line of text per run; None to print nothing.

    Raises:
      ValueError, TypeError, NotImplementedError: see `compare_hints`.
      FreshRunError: the first run failed for another reason than memory. Later failures become
        rows of the result.
    """
    limit = parse_bytes(memory_limit)
    if limit is None:
        raise ValueError("memory_limit must be a number of bytes or text such as '1GB', got None")
    chosen = None if hints is None else sorted(check_hints(hints, "fit_hint"), key=_rank)
    confirm = whole_number("confirm", confirm, least=0)
    runner = RunHint(build, limit, options, live, progress)
    with runner.running() as run, _bar() as show:
        return Search(run, chosen, confirm, show, runner.report).fit(limit)


def _rank(hint: Hint) -> float:
    return float("inf") if hint is None else hint


def _words(outcome: RunOutcome) -> str:
    if outcome.conflict and not outcome.interrupted:
        return "failed by a conflict of threads"
    return "passed" if outcome.succeeded else outcome.ended


def _failed_to_fit(outcome: RunOutcome) -> bool:
    return not outcome.succeeded and not outcome.conflict


def _failed_otherwise(outcome: RunOutcome) -> bool:
    """Whether a run failed for another reason than memory."""
    return not (outcome.succeeded or outcome.oom or outcome.starved or outcome.interrupted)


class _Stopped(Exception):
    """The search was interrupted."""


@dataclass
class Search:
    """Searches for the highest hint whose runs pass.

    Args:
      run: function that runs the pipeline once, given a hint and a name for progress.
      hints: hints to choose from, ascending; by default 1 to the number of models (known
        after the first run), and None.
      confirm: number of further runs that the answer must pass.
      show: callback with the number of finished runs and an estimate of all runs.
      report: callback with the name and the outcome of each finished run.

    Attributes:
      runs: hint and outcome of each run so far.
    """

    run: Callable[[Hint, str], RunOutcome]
    hints: list[Hint] | None
    confirm: int = _CONFIRM
    show: Callable[[int, int], None] = lambda done, total: None
    report: Callable[[str, RunOutcome], None] = lambda name, outcome: None
    runs: list[tuple[Hint, RunOutcome]] = field(default_factory=list)

    def fit(self, memory_limit: int) -> Fit:
        """Run the search."""
        try:
            found, hint = self._search()
        except (_Stopped, KeyboardInterrupt):
            if not self.runs:
                raise
            return Fit(False, None, tuple(self.runs), memory_limit, interrupted=True)
        self.show(len(self.runs), len(self.runs))
        return Fit(found, hint, tuple(self.runs), memory_limit)

    def _search(self) -> tuple[bool, Hint]:
        top = None if self.hints is None else self.hints[-1]
        first = self._outcome(top)
        hints = self.hints = self.hints or _hints_of(first)
        place = len(hints) - 1
        unfit = first.out_of_memory
        if unfit is not None and unfit.alone and copies_of(first.trace) == 1:
            return False, None
        if not first.succeeded:
            place = self._highest_that_passes(hints, _guess(hints, first))
        while place >= 0:
            if self._passes_again(hints[place]):
                return True, hints[place]
            place -= 1
        return False, None

    def _highest_that_passes(self, hints: Sequence[Hint], guess: int) -> int:
        """Run hints, and return the index of the highest that passes once; -1 if none does."""
        passes, fails, step = -1, len(hints) - 1, 1
        while fails - passes > 1:
            place = guess if passes < guess < fails else (passes + fails) // 2
            if self._outcome(hints[place]).succeeded:
                passes, guess = place, place + step
            else:
                fails, guess = place, place - step
            step *= 2
        if passes < 0:
            return self._one_that_was_skipped(hints)
        if passes > 0:
            self._outcome(hints[passes - 1])
        return passes

    def _one_that_was_skipped(self, hints: Sequence[Hint]) -> int:
        ran = {hint for hint, _ in self.runs}
        skipped = [place for place, hint in enumerate(hints) if hint not in ran]
        for place in skipped[:_MOST_ABOVE]:
            if self._outcome(hints[place]).succeeded:
                return place
        return -1

    def _passes_again(self, hint: Hint) -> bool:
        if not self._outcome(hint).succeeded:
            return False
        return all(self._run(hint).succeeded for _ in range(self.confirm))

    def _outcome(self, hint: Hint) -> RunOutcome:
        """Outcome of the first run of a hint."""
        tells = (outcome for had, outcome in self.runs if had == hint and not outcome.conflict)
        ran = next(tells, None)
        return self._run(hint) if ran is None else ran

    def _run(self, hint: Hint) -> RunOutcome:
        done = len(self.runs)
        self.show(done, max(done + 1, self._expected))
        name = f"[{done + 1}] {HintRuns(hint, ()).label}"
        outcome = self.run(hint, name)
        self.runs.append((hint, outcome))
        self.report(name, outcome)
        if outcome.interrupted:
            raise _Stopped
        if outcome.conflict and self._conflicts(hint) <= _MOST_CONFLICTS:
            return self._run(hint)
        if _failed_otherwise(outcome) and len(self.runs) == 1:
            raise FreshRunError(outcome)
        return outcome

    def _conflicts(self, hint: Hint) -> int:
        return sum(outcome.conflict for ran, outcome in self.runs if ran == hint)

    @property
    def _expected(self) -> int:
        """Estimate of all runs: a few to find the hint, its neighbour, and repeats."""
        hints = 8 if self.hints is None else len(self.hints)
        return 2 + hints.bit_length() + self.confirm


def _hints_of(outcome: RunOutcome) -> list[Hint]:
    """Hints whose limit is below the number of models (higher ones are no limit), and None."""
    models = outcome.trace.models
    steps = {model.step for model in models if model.keys}
    most = max((sum(m.step == step for m in models) for step in steps), default=1)
    return [*range(1, -(-most // copies_of(outcome.trace))), None]


def _guess(hints: Sequence[Hint], outcome: RunOutcome) -> int:
    """Index of a hint that keeps as many models as a run held when it was out of memory."""
    unfit = outcome.out_of_memory
    held = 0 if unfit is None else unfit.held // copies_of(outcome.trace)
    below = [place for place, hint in enumerate(hints[:-1]) if _rank(hint) <= held]
    return below[-1] if below else 0


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """Progress bar of the search in a notebook; nothing elsewhere."""
    if not in_notebook():
        yield lambda done, total: None
        return
    from IPython.display import display

    nothing = {"text/html": "", "text/plain": ""}  # what the saved notebook keeps
    handle = display(nothing, raw=True, display_id=True)

    def show(done: int, total: int) -> None:
        bar = f'<progress max="{total}" value="{done}" style="width: 60ex"></progress>'
        words = f"{plural(done, 'run')} of about {total}"
        handle.update({**nothing, "text/html": f"{bar} {words}"}, raw=True)

    try:
        yield show
    finally:
        handle.update(nothing, raw=True)
