"""`explore()`: controls over a pipeline of several models, a Run button, and the live picture."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from typing import Any

import pandas as pd

from mmlab._arguments import parse_bytes
from mmlab._text import shown_everywhere
from mmlab.draw.live import LivePicture
from mmlab.events import Event
from mmlab.explorer.setting import Setting, build
from mmlab.fit import Fit, Search
from mmlab.fresh import launch
from mmlab.fresh.outcome import RunOutcome
from mmlab.fresh.process import FreshRun
from mmlab.trace import Trace
from mmlab.watching.follow import live_view, quietly
from mmlab.watching.screens import NotebookScreen, Screen, in_notebook

COLUMNS = ("loads", "reloads", "evictions", "elements", "most_resident", "limit")


@dataclass(frozen=True)
class Run:
    """One run of the explorer.

    Attributes:
      setting: what ran.
      outcome: what became of it.
    """

    setting: Setting
    outcome: RunOutcome

    def row(self) -> dict[str, Any]:
        """Integers and words, the same on every machine as long as one worker ran."""
        s, setting = self.outcome.trace.summary(), self.setting
        counts = {name: getattr(s, name) for name in COLUMNS}
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
        return {name: "–" if value is None else value for name, value in row.items()}


def explore(**setting: Any) -> Explorer:
    """Controls for a pipeline of several models; Run shows live what it does to memory.

    Each run is a real Beam pipeline with real PyTorch models, in a fresh process. Without a click
    there is `explorer.run(hint=4)`, which does the same and waits.

    Args:
      setting: where the controls stand at first; see `mmlab.Setting`.

    Raises:
      TypeError: `Setting` has no such part.
      ValueError: a value is not possible; the message says which are.
    """
    _check_names("explore", setting)
    return Explorer(Setting(**setting))


def _check_names(what: str, setting: dict[str, Any]) -> None:
    known = [field.name for field in fields(Setting)]
    for name in setting:
        if name not in known:
            raise TypeError(f"{what} has no {name!r}: it has {', '.join(known)}")


@shown_everywhere
class Explorer:
    """What `explore` returns. A notebook shows the controls, the picture, and the runs so far.

    Attributes:
      runs: all that ran, in their order, interrupted and failed ones included.
    """

    def __init__(self, setting: Setting):
        # Workers import mmlab too, and need no widgets.
        from mmlab.explorer.panel import Panel

        self.runs: list[Run] = []
        self._running = threading.Lock()
        self._stop_asked = threading.Event()
        self._fresh: FreshRun | None = None
        self._thread: threading.Thread | None = None
        self._screen = _LatestScreen()
        self._table = _TableScreen()
        self._panel = Panel(
            setting, on_run=self._run_pressed, on_stop=self.stop, on_fit=self._fit_pressed
        )
        launch.warm_up()

    @property
    def setting(self) -> Setting:
        """Where the controls stand.

        Raises:
          ValueError: they ask for what cannot be.
        """
        return self._panel.setting()

    def run(self, **changes: Any) -> RunOutcome:
        """Run the setting of the controls, with changes, and wait; draws under the running cell.

        Args:
          changes: see `mmlab.Setting`; the controls stay where they are.

        Raises:
          RuntimeError: another run is going on.
          TypeError, ValueError: see `explore`.
        """
        _check_names("explorer.run", changes)
        setting = replace(self.setting, **changes)
        return self._run(setting, NotebookScreen(f"The explorer's timeline: {describe(setting)}"))

    def fit_hint(self, **changes: Any) -> Fit:
        """Find the highest hint that passes under the setting's memory limit, by runs.

        See `mmlab.fit_hint`; each of its runs becomes one of the explorer's.

        Args:
          changes: see `run`.

        Raises:
          ValueError: the setting has no memory limit.
          RuntimeError: another run is going on.
          TypeError, ValueError: see `explore`.
        """
        _check_names("explorer.fit_hint", changes)
        setting = replace(self.setting, **changes)
        return self._fit_hint(setting, NotebookScreen("The explorer's timeline while it searches"))

    def stop(self) -> None:
        """End the run that is going on, if there is one; what was seen stays."""
        self._stop_asked.set()
        fresh = self._fresh
        if fresh is not None:
            fresh.stop()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the run that a click began, at most so long. Returns whether none goes on."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return not self._running.locked()

    def table(self) -> pd.DataFrame:
        """The runs so far, one row each."""
        rows = [run.row() for run in self.runs]
        table = pd.DataFrame(rows, index=range(1, len(rows) + 1), dtype=object)
        return table.rename_axis("run")

    def _run_pressed(self) -> None:
        self._start(self._run)

    def _fit_pressed(self) -> None:
        self._start(self._fit_hint)

    def _start(self, what: Callable[[Setting, Screen | None], Any]) -> None:
        if self._running.locked():
            return
        try:
            setting = self.setting
        except ValueError as problem:
            self._panel.say(str(problem), wrong=True)
            return

        def do() -> None:
            with suppress(Exception):  # the panel has said what it was
                what(setting, self._screen)

        self._thread = threading.Thread(target=do, name="mmlab-explorer", daemon=True)
        self._thread.start()

    def _fit_hint(self, setting: Setting, screen: Screen | None) -> Fit:
        limit = parse_bytes(setting.memory_limit)
        if limit is None:
            raise ValueError("memory_limit is None: fit_hint needs one, such as '300MB'")
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
            self.runs.append(Run(setting, outcome))
            if screen is not None:
                quietly(_leave_picture)(screen, self.runs[-1])
            quietly(self._table.show)(self.table())
        except BaseException as error:
            self._panel.end(_words_of(error))
            raise
        self._panel.end(_panel_words(outcome), out_of_memory=outcome.oom)
        return outcome

    def _outcome(self, setting: Setting, screen: Screen | None) -> RunOutcome:
        views = [quietly(self._panel.count)]
        if screen is not None:
            views.append(live_view(describe(setting), screen))

        def show(events: list[Event]) -> None:
            for view in views:
                view(events)

        with FreshRun(
            build, setting, memory_limit=setting.memory_limit, options=setting.options
        ) as fresh:
            self._fresh = fresh
            if self._stop_asked.is_set():
                fresh.stop()
            try:
                return fresh.wait(show)
            finally:
                self._fresh = None

    def _ipython_display_(self) -> None:
        # What an earlier cell shows stays there: this one has places of its own.
        self._panel.display()
        self._screen.move()
        if self.runs:
            _leave_picture(self._screen, self.runs[-1])
        else:
            self._screen.show(LivePicture("Press Run"))
        self._table.move()
        self._table.show(self.table())

    def __repr__(self) -> str:
        return f"Explorer({describe(self.setting)}; {len(self.runs)} runs so far)"


def _leave_picture(screen: Screen, run: Run) -> None:
    """Leave the last picture of a run; of one that was ended before anything was seen, words."""
    if run.outcome.trace.events:
        screen.finish(run.outcome.trace, describe(run.setting))
    else:
        screen.show(LivePicture(f"{describe(run.setting)}: {run.outcome.ended} before it began"))


def _panel_words(outcome: RunOutcome) -> str | None:
    """Why a run failed; where memory ran out, without what to call: there is a button."""
    unfit = outcome.out_of_memory
    return outcome.problem if unfit is None else f"{unfit.what} {unfit.where}".strip()


def _words_of(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "The run was interrupted."
    return f"{type(error).__name__}: {error}"


def describe(setting: Setting) -> str:
    """A setting in one line.

    >>> describe(Setting(hint=None, threads=2))
    'no hint, 4 models of 64 MB, round robin, 2 threads'
    """
    parts = [
        "no hint" if setting.hint is None else f"hint {setting.hint}",
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
    return ", ".join(parts)


def _workers(setting: Setting) -> str:
    if setting.processes > 1:
        return f"{setting.processes} processes"
    return f"{setting.threads} threads" if setting.threads > 1 else "1"


class _LatestScreen:
    """The picture of the runs that clicks begin, in the cell that showed the explorer last."""

    def __init__(self) -> None:
        self.move()

    def move(self) -> None:
        self._screen = NotebookScreen("The explorer's timeline")

    def wait(self, picture: LivePicture) -> None:
        self._screen.wait(picture)

    def show(self, picture: LivePicture) -> None:
        self._screen.show(picture)

    def finish(self, trace: Trace, title: str | None = None) -> None:
        self._screen.finish(trace, title)

    def clear(self) -> None:
        self._screen.clear()


class _TableScreen:
    """The runs so far, in their place below the picture; they stay in the saved notebook."""

    def __init__(self) -> None:
        self.move()

    def move(self) -> None:
        self._handle: Any = None

    def show(self, table: pd.DataFrame) -> None:
        if not in_notebook():
            return
        from IPython.display import display

        html = table.to_html(escape=True) if len(table) else ""
        data = {"text/html": html, "text/plain": "The explorer's runs: explorer.table()"}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)
