"""Comparisons of runs of one pipeline: picture, table and verdict."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from mmlab._text import in_megabytes, joined, megabytes, plural, shown_everywhere
from mmlab.draw.comparison import Multiple, draw_comparison, words_of
from mmlab.draw.picture import Picture
from mmlab.draw.sheets import NOTEBOOK, Sheet
from mmlab.events import UNKNOWN, Unknown
from mmlab.fresh.outcome import RunOutcome
from mmlab.lru import thrashes
from mmlab.reports.summary import DIFFERS, Differs, Summary
from mmlab.reports.words import hint_words
from mmlab.trace import Trace

Hint = int | None

_COUNTS = ("loads", "reloads", "evictions", "uses", "elements", "most_resident", "limit")
_ENDS = ("interrupted", "out of memory", "failed", "unknown", "done")
"""Possible ends of a run; of several runs, the table shows the first of these."""
_SHARED = "The runs shared the machine: their seconds cannot be compared."
_UNEVEN = "Batches had other sizes in each run, so loads vary too."
_VARY = "Seconds vary from run to run, loads do not."
_VARY_BOTH = "Batches had other sizes in each run: loads vary like seconds."
_EQUALLY_FAST = 1.1
"""Medians that differ by less than this factor count as equal."""
_EQUAL_RSS = 1.02
"""Peaks of memory that differ by less than this factor count as equal."""


@dataclass(frozen=True)
class HintRuns:
    """All runs of one hint.

    Attributes:
      hint: hint that was given to `build`, or recorded.
      outcomes: one per repeat, in order.
      name: name of the run, used instead of its hint.
    """

    hint: Hint
    outcomes: tuple[RunOutcome, ...]
    name: str | None = None

    @property
    def label(self) -> str:
        return hint_words(self.hint) if self.name is None else self.name

    @property
    def succeeded(self) -> bool:
        """Whether all runs succeeded."""
        return all(outcome.succeeded for outcome in self.outcomes)

    @property
    def ending(self) -> str:
        """`passed`, `out of memory`, `unknown` (by the logs), `stopped` or `failed`."""
        if self.succeeded:
            return "passed"
        if any(outcome.oom for outcome in self.outcomes):
            return "out of memory"
        if all(outcome.ended in ("unknown", "done") for outcome in self.outcomes):
            return "unknown"
        return "stopped" if any(outcome.interrupted for outcome in self.outcomes) else "failed"

    @property
    def problem(self) -> str | None:
        """Why a run failed; None if all runs succeeded."""
        return next((o.problem for o in self.outcomes if not o.succeeded), None)

    @cached_property
    def summaries(self) -> list[Summary]:
        return [outcome.trace.summary() for outcome in self.outcomes]

    @property
    def seconds(self) -> float:
        """Median wall time of the runs, from the submission of the pipeline to its end."""
        return statistics.median(s.wall_seconds for s in self.summaries)

    @property
    def model_bytes(self) -> int | Unknown:
        """Most bytes of models held at once by one process, in any run."""
        known = [s.model_bytes for s in self.summaries if isinstance(s.model_bytes, int)]
        return max(known) if len(known) == len(self.summaries) else UNKNOWN

    @property
    def peak_rss_bytes(self) -> int | None:
        """Median of the highest resident set sizes of one process in a run; None if unknown."""
        peaks = [s.peak_rss_bytes for s in self.summaries if s.peak_rss_bytes is not None]
        return round(statistics.median(peaks)) if len(peaks) == len(self.summaries) else None

    @property
    def thrashes(self) -> bool:
        """Whether, in any run, more than `MOST_RELOADS` of the batches loaded a model again.

        First loads do not count, because no hint avoids them; so the share does not depend on the
        length of the run.
        """
        return any(thrashes(s.reloads, s.uses) for s in self.summaries)

    @property
    def shown(self) -> RunOutcome:
        """The run to draw: a failed run, else the run with the median time."""
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
      rows: the runs of each hint, in the requested order.
      interrupted: whether the comparison was stopped before all hints had run.
      together: whether hints were run at the same time.
      differences: other differences of recorded runs than the hint, each as "elements (48, 96)".
    """

    rows: tuple[HintRuns, ...]
    interrupted: bool = False
    together: bool = False
    differences: tuple[str, ...] = ()

    @property
    def traces(self) -> dict[Hint | str, list[Trace]]:
        """Traces of all runs, including failed ones, by hint or by name of a recorded run."""
        return {
            row.name or row.hint: [outcome.trace for outcome in row.outcomes] for row in self.rows
        }

    @property
    def notes(self) -> list[str]:
        """Limitations of the comparison, in sentences; empty if there are none."""
        return [
            f"{row.label}: the handler that build made has the hint {seen}. Give the argument "
            "hint on to KeyedModelHandler(…, max_models_per_worker_hint=hint)."
            for row in self.rows
            if row.name is None and (seen := _other_hint(row)) is not False
        ]

    def table(self, *, times: bool = False) -> pd.DataFrame:
        """Table of integers, one row per hint. Repeats that differ give the median and the range.

        If batches have a fixed size, the columns are equal on every machine: the end of the runs,
        the counts of `Trace.summary()`, and the most megabytes of models held at once by one
        process.

        Args:
          times: whether to add columns that depend on the machine: milliseconds, percentage of
            them spent loading, megabytes of the highest resident set size of one process.
        """
        rows = {row.label: _table_row(row, times) for row in self.rows}
        named = any(row.name is not None for row in self.rows)
        table = pd.DataFrame.from_dict(rows, orient="index", dtype=object)
        return table.rename_axis("run" if named else "hint")

    @property
    def verdict(self) -> str:
        """One sentence: the fastest, the least memory, the smallest hint that does not thrash.

        A hint thrashes if more than 5% of the batches (`MOST_RELOADS`) reloaded a model that the
        process had held before. Hints with failed runs are not judged. If the bytes of models are
        unknown, the run with the lowest peak RSS has the least memory.
        """
        done = [row for row in self.rows if row.succeeded]
        fastest = None if self.together else _fastest(done)
        parts = [fastest, _least_memory(done), self._calm, _failures(self.rows)]
        sentence = "; ".join(part for part in parts if part)
        if self.interrupted:
            sentence = f"{sentence}; interrupted before the end" if sentence else "interrupted"
        sentence = f"{sentence[:1].upper()}{sentence[1:]}."
        if self.differences:
            sentence += f" The runs differ in more than the hint: {', '.join(self.differences)}."
        return sentence

    @property
    def remark(self) -> str | None:
        """Remark on whether seconds and loads are comparable; None with fewer than two runs."""
        if sum(row.succeeded for row in self.rows) < 2:
            return None
        if self.together:
            return _SHARED if self._have_equal_batches else f"{_SHARED} {_UNEVEN}"
        return _VARY if self._have_equal_batches else _VARY_BOTH

    @property
    def _have_equal_batches(self) -> bool:
        """Whether all successful runs have the same numbers of batches of each size."""
        traces = [o.trace for row in self.rows for o in row.outcomes if o.succeeded]
        return len({tuple(sorted(trace.batches.n.tolist())) for trace in traces}) < 2

    @property
    def _calm(self) -> str | None:
        hints = [row.hint for row in self.rows]
        if self.differences or len(set(hints)) < len(hints):  # another difference may be the cause
            thrashing = [row for row in self.rows if row.succeeded and row.thrashes]
            return f"{_listed(thrashing)} {_thrash(len(thrashing))}" if thrashing else None
        return _smallest_calm(self.rows, whole=not self.interrupted)

    def plot(self, title: str | None = None, *, sheet: Sheet = NOTEBOOK) -> Picture:
        """Draw small multiples, one per hint, with a common scale of time and of memory.

        Args:
          title: replaces the labels of the steps.
          sheet: sizes of the picture: see `mmlab.draw.sheets`.
        """
        runs = [
            Multiple(row.label, _words(row), _short_problem(row), row.shown.trace)
            for row in self.rows
        ]
        steps = dict.fromkeys(model.step for run in runs for model in run.state.models)
        named = any(row.name is not None for row in self.rows)
        what = "recorded runs" if named else "one pipeline under several hints"
        title = title or f"{', '.join(steps)}: {what}"
        words = " ".join(filter(None, [self.verdict, self.remark]))
        figure = draw_comparison(runs, title, words, sheet)
        return Picture(figure, repr(self), pixels_per_inch=sheet.pixels_per_inch)

    def __repr__(self) -> str:
        problems = [f"{row.label}: {row.problem}" for row in self.rows if row.problem]
        calm = self._calm
        judged = [f"{calm[0].upper()}{calm[1:]}."] if calm else []
        judged += [self.remark] if self.together and self.remark else []
        return "\n".join([self.table().to_string(), *judged, *problems, *self.notes])

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.plot()._repr_mimebundle_(include, exclude)


# Tables and words


def _table_row(row: HintRuns, times: bool) -> dict[str, Any]:
    cells: dict[str, Any] = {"ended": min((o.ended for o in row.outcomes), key=_ENDS.index)}
    for name in _COUNTS:
        cells[name] = _cell(getattr(s, name) for s in row.summaries)
    cells["model MB"] = _cell(megabytes(s.model_bytes) for s in row.summaries)
    if times:
        cells["ms"] = _cell(round(s.wall_seconds * 1000) for s in row.summaries)
        cells["% loading"] = _cell(round(s.loading_share * 100) for s in row.summaries)
        cells["peak RSS MB"] = _cell(megabytes(s.peak_rss_bytes) for s in row.summaries)
    return cells


def _cell(values: Iterable[int | Unknown | Differs | None]) -> int | str:
    """Describe a value, or the median and the range of values that differ.

    >>> _cell([24, 24]), _cell([24, 31, 26]), _cell([None]), _cell([UNKNOWN]), _cell([2, DIFFERS])
    (24, '26 (24–31)', '–', 'unknown', 'differs')
    """
    given = list(values)
    for other in (DIFFERS, UNKNOWN):
        if other in given:
            return str(other)
    known = [value for value in given if isinstance(value, int)]
    if not known:
        return "–"
    middle = round(statistics.median(known))
    least, most = min(known), max(known)
    return middle if least == most else f"{middle} ({least}–{most})"


def _short_problem(row: HintRuns) -> str | None:
    unfit = row.shown.out_of_memory
    return row.problem if unfit is None else unfit.what


def _words(row: HintRuns) -> list[str]:
    seconds = sorted(s.wall_seconds for s in row.summaries)
    spread = None
    if len(seconds) > 1:
        spread = f"{row.seconds:.1f} s ({seconds[0]:.1f}–{seconds[-1]:.1f})"
    return words_of(row.shown.trace, seconds=spread)


def _other_hint(row: HintRuns) -> Hint | Unknown | bool:
    """The actual hint of the handler if it differs from the row's; False if it does not."""
    models = row.shown.trace.models
    if not models or any(model.hint == row.hint for model in models):
        return False
    return models[0].hint


def _fastest(done: Sequence[HintRuns]) -> str | None:
    if len(done) < 2:
        return None
    best = min(row.seconds for row in done)
    fast = [row for row in done if row.seconds <= best * _EQUALLY_FAST]
    if len(fast) == len(done):
        return f"all are about as fast ({best:.1f} s)"
    verb = "is" if len(fast) == 1 else "are"
    return f"{_listed(fast)} {verb} the fastest ({best:.1f} s)"


def _least_memory(done: Sequence[HintRuns]) -> str | None:
    if len(done) < 2:
        return None
    sizes = [row.model_bytes for row in done if isinstance(row.model_bytes, int)]
    if len(sizes) < len(done):
        return _least_rss(done)
    least = min(sizes)
    small = [row for row in done if row.model_bytes == least]
    if len(small) == len(done):
        return f"all hold the same models ({in_megabytes(least)})"
    verb = "holds" if len(small) == 1 else "hold"
    return f"{_listed(small)} {verb} the least ({in_megabytes(least)} of models)"


def _least_rss(done: Sequence[HintRuns]) -> str | None:
    peaks = [row.peak_rss_bytes for row in done if row.peak_rss_bytes is not None]
    if len(peaks) < len(done):
        return None
    least = min(peaks)
    small = [row for row, peak in zip(done, peaks, strict=True) if peak <= least * _EQUAL_RSS]
    if len(small) == len(done):
        return f"all have about the same peak RSS ({in_megabytes(least)})"
    verb = "has" if len(small) == 1 else "have"
    return f"{_listed(small)} {verb} the lowest peak RSS ({in_megabytes(least)})"


def _smallest_calm(rows: Sequence[HintRuns], whole: bool) -> str | None:
    """Name the smallest hint that does not thrash, among the hints that could be judged.

    A larger hint never loads more: if N - 1 thrashes, all hints below N thrash.
    """
    judged = [row for row in rows if row.succeeded]
    calm = [row.hint for row in judged if not row.thrashes]
    wild = [row.hint for row in judged if row.thrashes]
    if not calm:
        return f"{_listed(judged)} {_thrash(len(judged))}" if judged else None
    numbers = [hint for hint in calm if hint is not None]
    if numbers:
        return _smallest_hint(min(numbers), wild)
    only = "only " if whole and wild and len(judged) == len(rows) else ""
    return f"{only}without a hint nothing thrashes"


def _smallest_hint(smallest: int, wild: Sequence[Hint]) -> str:
    among = "" if smallest == 1 or smallest - 1 in wild else ", of those that ran"
    return f"{smallest} is the smallest hint that does not thrash{among}"


def _thrash(n: int) -> str:
    return {1: "thrashes", 2: "both thrash"}.get(n, "all thrash")


def _failures(rows: Sequence[HintRuns]) -> str | None:
    said = {
        "out of memory": "{} ran out of memory",
        "failed": "{} failed",
        "unknown": "the end of {} was not recorded",
    }
    if any(row.ending == "out of memory" for row in rows):
        said = {"passed": "{} passed", **said}
    of = {ending: [row for row in rows if row.ending == ending] for ending in said}
    parts = [said[ending].format(_listed(those)) for ending, those in of.items() if those]
    return " and ".join(parts) or None


def _listed(rows: Sequence[HintRuns]) -> str:
    """
    >>> _listed([HintRuns(1, ()), HintRuns(2, ()), HintRuns(None, ())])
    'hint 1, hint 2 and the run without a hint'
    """
    unnamed = "the run without a hint"
    return joined(unnamed if row.hint is None and row.name is None else row.label for row in rows)


def line_of(outcome: RunOutcome) -> str:
    """Describe a run in one line: its counts, or why it failed."""
    if outcome.out_of_memory is not None:
        return outcome.out_of_memory.what
    if outcome.problem is not None:
        return outcome.problem
    s = outcome.trace.summary()
    loads = f"{plural(s.loads, 'load')} ({plural(s.reloads, 'reload')})"
    return f"{loads}, {plural(s.evictions, 'eviction')}, {plural(s.elements, 'element')}"
