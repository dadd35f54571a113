"""`explore()`: controls for a pipeline of several models, a Run button, and the live picture."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import pandas as pd

from mmlab._arguments import parse_bytes
from mmlab._faults import survived
from mmlab._text import megabytes, shown_everywhere
from mmlab.compare.comparison import Comparison, Hint, HintRuns
from mmlab.compare.hints import check_hints
from mmlab.compare.race import Race
from mmlab.draw.live import LivePicture
from mmlab.draw.picture import Picture
from mmlab.draw.sheets import NOTEBOOK, PROJECTOR_RACE, Sheet
from mmlab.events import Event
from mmlab.explorer.projector import live_pair, names_of, pair
from mmlab.explorer.setting import Setting, build
from mmlab.fit import Fit, Search
from mmlab.fresh import launch
from mmlab.fresh.outcome import RunOutcome
from mmlab.fresh.process import FreshRun
from mmlab.fresh.together import torch_threads
from mmlab.page.build import ReplayPage
from mmlab.trace import Trace
from mmlab.watching.follow import live_view, quietly
from mmlab.watching.screens import LEAVE_PICTURE, Drawn, NotebookScreen, Screen, in_notebook

_COLUMNS = ("loads", "reloads", "evictions", "elements", "most_resident", "limit")


@dataclass(frozen=True)
class Run:
    """One run of the explorer.

    Attributes:
      setting: setting of the run.
      outcome: outcome of the run.
    """

    setting: Setting
    outcome: RunOutcome

    @property
    def trace(self) -> Trace:
        return self.outcome.trace

    def row(self, *, times: bool = False) -> dict[str, Any]:
        """Integers and words; with one worker, equal on every machine.

        Args:
          times: see `Explorer.table`.
        """
        s, setting = self.outcome.trace.summary(), self.setting
        counts = {name: getattr(s, name) for name in _COLUMNS}
        row = {
            "hint": setting.hint,
            "models": f"{setting.models} × {setting.megabytes} MB",
            "order": setting.order,
            "group": setting.group,
            "batch": setting.batch_size,
            "workers": _workers(setting),
            "ended": self.outcome.ended,
            **counts,
        }
        if times:
            peak = s.peak_rss_bytes
            row["seconds"] = f"{s.wall_seconds:.1f}"
            row["peak MB"] = "unknown" if peak is None else megabytes(peak)
        return {name: "–" if value is None else value for name, value in row.items()}


def explore(*, projector: bool = False, **setting: Any) -> Explorer:
    """Show controls for a pipeline of several models, and a live picture of its use of memory.

    Each run is a real Beam pipeline with real PyTorch models, in a fresh process. In code,
    `explorer.run(hint=4)` does the same as the button *Run*, and waits for the end of the run.

    Args:
      projector: whether to draw for a screen of 1280 × 720 pixels seen from a distance: in large
        type, with a full-screen button, and with the previous run beside the new one.
      setting: initial values of the controls; see `mmlab.explorer.setting.Setting`.

    Raises:
      TypeError: `Setting` has no such field, or a value has the wrong type.
      ValueError: a value is not allowed; the message lists the allowed values.
    """
    _check_names("explore", setting)
    return Explorer(Setting(**setting), projector=projector)


def _check_names(what: str, setting: dict[str, Any]) -> None:
    known = [field.name for field in fields(Setting)]
    for name in setting:
        if name not in known:
            raise TypeError(f"{what} has no {name!r}: it has {', '.join(known)}")


_SHOW_TABLE, _COUNT = "show the table of the runs", "count the elements of a run"
"""Descriptions of steps that are skipped if mmlab itself fails; see `survived`."""


@shown_everywhere
class Explorer:
    """The result of `explore`. A notebook shows the controls, the picture, and the runs so far.

    Attributes:
      runs: all runs in order, including interrupted and failed runs.
    """

    def __init__(self, setting: Setting, *, projector: bool = False):
        # Imported here because workers import mmlab too, and need no widgets.
        from mmlab.explorer.panel import Panel, Pressed

        self.runs: list[Run] = []
        self._projector = projector
        self._running = threading.Lock()
        self._stop_asked = threading.Event()
        self._ongoing: FreshRun | Race | None = None
        self._thread: threading.Thread | None = None
        self._screen = _LatestScreen()
        self._table = _TableScreen(projector)
        self._again = _AgainScreen()
        self._panel = Panel(
            setting,
            Pressed(
                run=lambda: self._start(self._run),
                race=lambda: self._start(self._race),
                fit=lambda: self._start(self._fit_hint),
                stop=self.stop,
                picture=lambda number: self._again.show(self._picture_of(number)),
                replay=lambda number: self._again.show(self.runs[number - 1].trace.replay()),
            ),
            projector=projector,
        )
        launch.warm_up()

    @property
    def setting(self) -> Setting:
        """The setting of the controls.

        Raises:
          ValueError: the values of the controls cannot be combined.
        """
        return self._panel.setting()

    def run(self, *, live: bool = True, **changes: Any) -> RunOutcome:
        """Run the setting of the controls, with changes, and wait; draw below the running cell.

        Args:
          live: whether to draw.
          changes: see `mmlab.explorer.setting.Setting`; the controls do not change.

        Raises:
          RuntimeError: another run has not ended.
          TypeError, ValueError: see `explore`.
        """
        _check_names("explorer.run", changes)
        setting = replace(self.setting, **changes)
        text = f"The explorer's timeline: {_describe(setting)}"
        return self._run(setting, NotebookScreen(text) if live else None)

    def race(self, hints: Sequence[Hint] | None = None, **changes: Any) -> Comparison:
        """Run the setting under several hints at once, and compare the runs; draw below the cell.

        See `mmlab.compare_hints` with `together=True`. The runs are added to those of the
        explorer.

        Args:
          hints: by default None and those of 1, 2 and 4 that are below the number of models.
          changes: see `run`.

        Raises:
          RuntimeError: another run has not ended.
          TypeError, ValueError: see `explore` and `mmlab.compare_hints`.
        """
        _check_names("explorer.race", changes)
        setting = replace(self.setting, **changes)
        text = f"The explorer's race: {_describe(setting, hint=False)}"
        return self._race(setting, NotebookScreen(text), hints)

    def fit_hint(self, **changes: Any) -> Fit:
        """Find the highest hint that passes under the setting's memory limit, by running it.

        See `mmlab.fit_hint`. The runs are added to those of the explorer.

        Args:
          changes: see `run`.

        Raises:
          ValueError: the setting has no memory limit.
          RuntimeError: another run has not ended.
          TypeError, ValueError: see `explore`.
        """
        _check_names("explorer.fit_hint", changes)
        setting = replace(self.setting, **changes)
        return self._fit_hint(setting, NotebookScreen("The explorer's timeline while it searches"))

    def stop(self) -> None:
        """Stop the current run, if any; its events are kept."""
        self._stop_asked.set()
        ongoing = self._ongoing
        if ongoing is not None:
            ongoing.stop()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait at most `seconds` for a run started by a click. Returns whether no run is left."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return not self._running.locked()

    def table(self, *, times: bool = False) -> pd.DataFrame:
        """The runs so far, one row each.

        Args:
          times: whether to add columns that depend on the machine: seconds, and megabytes of the
            highest resident set size of one process.
        """
        rows = [run.row(times=times) for run in self.runs]
        table = pd.DataFrame(rows, index=range(1, len(rows) + 1), dtype=object)
        return table.rename_axis("run")

    def _start(self, what: Callable[[Setting, Screen | None], Any]) -> None:
        if self._running.locked():
            return
        try:
            setting = self.setting
        except ValueError as problem:
            self._panel.say(str(problem), wrong=True)
            return

        def do() -> None:
            with suppress(Exception):  # the panel has shown the error
                what(setting, self._screen)

        self._thread = threading.Thread(target=do, name="mmlab-explorer", daemon=True)
        self._thread.start()

    def _fit_hint(self, setting: Setting, screen: Screen | None) -> Fit:
        limit = parse_bytes(setting.memory_limit)
        if limit is None:
            raise ValueError(
                "memory_limit must be a number of bytes or text such as '300MB', got None"
            )
        with self._alone():
            search = Search(
                lambda hint, _: self._run_alone(replace(setting, hint=hint), screen), None
            )
            fit = search.fit(limit)
            self._panel.say(fit.verdict, wrong=not fit.found)
            return fit

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._running.acquire(blocking=False):
            raise RuntimeError("a run is going on: wait for its end, or stop it")
        try:
            self._stop_asked.clear()
            yield
        finally:
            self._running.release()

    def _run(self, setting: Setting, screen: Screen | None) -> RunOutcome:
        with self._alone():
            return self._run_alone(setting, screen)

    def _run_alone(self, setting: Setting, screen: Screen | None) -> RunOutcome:
        if not in_notebook():
            screen = None
        try:
            self._panel.begin(setting)
            outcome = self._outcome(setting, screen)
            self._add([Run(setting, outcome)])
            if screen is not None:
                with survived(LEAVE_PICTURE):
                    self._leave_picture(screen)
        except BaseException as error:
            self._panel.end(_words_of(error))
            raise
        if outcome.interrupted:
            self._panel.stopped(outcome.trace.summary().elements)
        else:
            self._panel.end(_panel_words(outcome), out_of_memory=outcome.oom)
        return outcome

    def _add(self, runs: Sequence[Run]) -> None:
        self.runs += runs
        with survived(_SHOW_TABLE):
            self._table.show(self.table(times=True))
            self._panel.offer([_describe(run.setting) for run in self.runs])

    def _race(
        self, setting: Setting, screen: Screen | None, hints: Sequence[Hint] | None = None
    ) -> Comparison:
        chosen = _race_hints(setting) if hints is None else check_hints(hints, "explorer.race")
        settings = [replace(setting, hint=hint) for hint in chosen]
        with self._alone():
            try:
                self._panel.begin(setting, len(settings))
                comparison = self._race_alone(settings, screen if in_notebook() else None)
            except BaseException as error:
                self._panel.end(_words_of(error))
                raise
            if comparison.interrupted:
                every = (o for row in comparison.rows for o in row.outcomes)
                self._panel.stopped(sum(o.trace.summary().elements for o in every))
            else:
                self._panel.end(None)
            return comparison

    def _race_alone(self, settings: Sequence[Setting], screen: Screen | None) -> Comparison:
        threads = torch_threads(len(settings))
        count = quietly(self._panel.count, _COUNT)
        race = Race(
            _describe(settings[0], hint=False),
            [HintRuns(setting.hint, ()).label for setting in settings],
            [partial(_started, setting, threads) for setting in settings],
            screen,
            on_events=lambda place, events: count(events),
            estimate=settings[0].resident_estimate,
            sheet=self._race_sheet,
        )
        self._ongoing = race
        try:
            if self._stop_asked.is_set():
                race.stop()
            outcomes = race.run()
        finally:
            self._ongoing = None
        runs = [Run(settings[place], outcomes[place]) for place in sorted(outcomes)]
        self._add(runs)
        rows = tuple(HintRuns(run.setting.hint, (run.outcome,)) for run in runs)
        stopped = len(runs) < len(settings) or any(run.outcome.interrupted for run in runs)
        comparison = Comparison(rows, stopped, together=True)
        if screen is not None and rows:
            with survived(LEAVE_PICTURE):
                screen.leave(comparison.plot(sheet=self._race_sheet))
        return comparison

    @property
    def _race_sheet(self) -> Sheet:
        return PROJECTOR_RACE if self._projector else NOTEBOOK

    def _live_view(self, setting: Setting, screen: Screen) -> Callable[[list[Event]], None]:
        if not self._projector:
            return live_view(_describe(setting), screen)
        before = self.runs[-1:]
        settings = [_parts_of(each) for each in (*(run.setting for run in before), setting)]
        title, labels = names_of(settings, len(self.runs) + 1)
        return live_pair(before[0].outcome if before else None, title, labels, screen)

    def _leave_picture(self, screen: Screen) -> None:
        """Leave the last picture of the last run; text if the run ended without events."""
        run = self.runs[-1]
        if not run.trace.events:
            screen.show(
                LivePicture(f"{_describe(run.setting)}: {run.outcome.ended} before it began")
            )
        elif not self._projector:
            screen.finish(run.trace, _describe(run.setting))
        else:
            runs = [each for each in self.runs[-2:-1] if each.trace.events] + [run]
            title, labels = names_of([_parts_of(each.setting) for each in runs], len(self.runs))
            screen.leave(pair([each.outcome for each in runs], title, labels))

    def _picture_of(self, number: int) -> Picture:
        run = self.runs[number - 1]
        return run.trace.timeline(title=_describe(run.setting))

    def _outcome(self, setting: Setting, screen: Screen | None) -> RunOutcome:
        views = [] if screen is None else [self._live_view(setting, screen)]
        views.append(quietly(self._panel.count, _COUNT))

        def show(events: list[Event]) -> None:
            for view in views:
                view(events)

        with _started(setting) as fresh:
            self._ongoing = fresh
            if self._stop_asked.is_set():
                fresh.stop()
            try:
                return fresh.wait(show)
            finally:
                self._ongoing = None

    def _ipython_display_(self) -> None:
        # Earlier cells keep their output: this cell gets new displays.
        self._panel.display()
        self._screen.move()
        if self.runs:
            self._leave_picture(self._screen)
        else:
            self._screen.show(LivePicture("Press Run"))
        self._table.move(self.table(times=True))
        self._panel.display_shelf()
        self._again.move()

    def __repr__(self) -> str:
        return f"Explorer({_describe(self.setting)}; {len(self.runs)} runs so far)"


def _panel_words(outcome: RunOutcome) -> str | None:
    """Describe why a run failed. Out of memory, leave out the advice: there is a button for it."""
    unfit = outcome.out_of_memory
    return outcome.problem if unfit is None else f"{unfit.what} {unfit.where}".strip()


def _words_of(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "The run was interrupted."
    return f"{type(error).__name__}: {error}"


def _started(setting: Setting, torch_threads: int | None = None) -> FreshRun:
    return FreshRun(
        build, setting, memory_limit=setting.memory_limit, options=setting.options,
        torch_threads=torch_threads,
    )  # fmt: skip


def _race_hints(setting: Setting) -> list[Hint]:
    """Hints that make a difference: a hint of at least the number of models is no hint.

    >>> _race_hints(Setting(models=3))
    [1, 2, None]
    """
    return [*(hint for hint in (1, 2, 4) if hint < setting.models), None]


def _describe(setting: Setting, *, hint: bool = True) -> str:
    """Describe a setting in one line.

    >>> _describe(Setting(hint=None, threads=2))
    'no hint, 4 models of 64 MB, round robin, 2 threads'
    """
    return ", ".join(_parts_of(setting)[0 if hint else 1 :])


def _parts_of(setting: Setting) -> list[str]:
    """Parts of the description of a setting; the hint comes first."""
    parts = [
        HintRuns(setting.hint, ()).label,
        f"{setting.models} models of {setting.megabytes} MB",
        setting.order,
    ]
    if setting.batch_size > 1:
        parts.append(f"batches of {setting.batch_size}")
    if setting.group != "off":
        parts.append(f"grouped {setting.group}")
    if _workers(setting) != "1":
        parts.append(_workers(setting))
    if setting.memory_limit is not None:
        parts.append(f"limit {setting.memory_limit}")
    return parts


def _workers(setting: Setting) -> str:
    if setting.processes > 1:
        return f"{setting.processes} processes"
    return f"{setting.threads} threads" if setting.threads > 1 else "1"


class _LatestScreen:
    """The picture of runs started by clicks, in the last cell that showed the explorer."""

    def __init__(self) -> None:
        self.move()

    def move(self) -> None:
        self._screen = NotebookScreen("The explorer's timeline")

    def wait(self, picture: Drawn) -> None:
        self._screen.wait(picture)

    def show(self, picture: Drawn) -> None:
        self._screen.show(picture)

    def finish(self, trace: Trace, title: str | None = None) -> None:
        self._screen.finish(trace, title)

    def leave(self, picture: Picture) -> None:
        self._screen.leave(picture)

    def clear(self) -> None:
        self._screen.clear()


class _AgainScreen:
    """The display of an earlier run, below the table."""

    def __init__(self) -> None:
        self._handle: Any = None

    def move(self) -> None:
        """Show below the running cell from now on."""
        from IPython.display import display

        nothing = {"text/html": "", "text/plain": ""}
        self._handle = display(nothing, raw=True, display_id=True)

    def show(self, thing: Picture | ReplayPage) -> None:
        if self._handle is not None:
            data, metadata = thing._repr_mimebundle_()
            self._handle.update(data, raw=True, metadata=metadata)


class _TableScreen:
    """The table of runs below the picture; it is kept in the saved notebook.

    Args:
      projector: whether to show only the runs of the picture.
    """

    def __init__(self, projector: bool) -> None:
        self._projector = projector
        self._handle: Any = None

    def move(self, table: pd.DataFrame) -> None:
        """Show the table below the running cell from now on."""
        from IPython.display import display

        self._handle = display(self._data_of(table), raw=True, display_id=True)

    def show(self, table: pd.DataFrame) -> None:
        if self._handle is not None:
            self._handle.update(self._data_of(table), raw=True)

    def _data_of(self, table: pd.DataFrame) -> dict[str, str]:
        """Data of the columns that fit, and on a projector of the rows that fit."""
        left_out = ["elements", "most_resident"]
        if self._projector:
            table, left_out = table[-2:], [*left_out, "ended", "limit", "workers", "batch", "group"]
        shown = table.drop(columns=left_out, errors="ignore")
        html = shown.to_html(escape=True, index_names=False) if len(table) else ""
        return {"text/html": html, "text/plain": "The explorer's runs: explorer.table()"}
