"""`watched_pipelines`: watch every pipeline that is run, on its own runner."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, overload

from mmlab._arguments import check_live, path_argument
from mmlab._text import plural, shown_everywhere
from mmlab.beam.hook import around_runs

if TYPE_CHECKING:
    from mmlab.trace import Trace
    from mmlab.watching.runner import WatchRunner

_ANONYMOUS = "the pipeline"
"""Label of a pipeline without a watched step."""


@shown_everywhere
class Traces(Sequence["Trace"]):
    """Traces of the pipelines that were run, in the order in which their runs began.

    A pipeline that is still running has its trace so far. A pipeline that failed before it began
    has no trace.
    """

    def __init__(self) -> None:
        self._runs: list[_Watched] = []

    @property
    def labels(self) -> list[str]:
        """Labels of the runs: their steps, and a number in brackets from the second run on.

        The live picture of a run has the same label.
        """
        return [run.label for run in self._begun()]

    def __len__(self) -> int:
        return len(self._begun())

    @overload
    def __getitem__(self, place: int) -> Trace: ...
    @overload
    def __getitem__(self, place: slice) -> list[Trace]: ...
    def __getitem__(self, place: int | slice) -> Trace | list[Trace]:
        runs = self._begun()[place]
        return [run.trace() for run in runs] if isinstance(runs, list) else runs.trace()

    def __repr__(self) -> str:
        labels = ", ".join(self.labels)
        return f"{plural(len(self), 'watched pipeline')}{': ' if labels else ''}{labels}"

    def _begun(self) -> list[_Watched]:
        return [run for run in self._runs if run.read is not None]


class _Watched:
    """One run.

    Attributes:
      number: of the run in its block, from 1.
      read: returns its trace; None until the run has begun.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.read: Callable[[], Trace] | None = None

    @property
    def suffix(self) -> str:
        return f" ({self.number})" if self.number > 1 else ""

    @property
    def label(self) -> str:
        steps = dict.fromkeys(model.step for model in self.trace().models if model.step)
        return (", ".join(steps) or _ANONYMOUS) + self.suffix

    def trace(self) -> Trace:
        if self.read is None:
            raise RuntimeError("this run has not begun")
        return self.read()


def watched_pipelines(
    *, live: bool | str = "auto", log: str | os.PathLike[str] | None = None
) -> AbstractContextManager[Traces]:
    """Watch every pipeline that is run in a `with` block, on its own runner.

    This applies to the whole process, including pipelines of other threads and pipelines that a
    DoFn of a watched pipeline runs in this process. Each has its own trace. Pipelines of processes
    that the block starts are not watched. Blocks may be nested: each has the traces of the runs in
    it, and the innermost block decides how a run is shown.

        with mmlab.watched_pipelines() as traces:
            main()
        traces[0].timeline()

    Nothing is checked before a run (see `check` of `WatchRunner`): programs fail as they do
    unwatched.

    Args:
      live: whether each run is shown live; see `WatchRunner`.
      log: a folder that keeps the event logs, one folder per run in it; see `WatchRunner`.

    Returns:
      A context manager that returns the `Traces`, a sequence that grows with each run.

    Raises:
      TypeError, ValueError: `live` is not True, False or "auto", or `log` is not a path.
    """
    check_live(live)
    if log is not None:
        path_argument("log", log, "a folder")
    return _watching(live, log)


_blocks: list[Traces] = []
_running = threading.local()


@contextmanager
def watched_cell() -> Iterator[Traces]:
    """Like `watched_pipelines`; also watches later runs of pipelines created in the block."""
    made: weakref.WeakSet[Any] = weakref.WeakSet()
    try:
        with _watching("auto", None, made) as traces:
            yield traces
    finally:
        for pipeline in made:
            if not _is_for_others(pipeline.runner):
                pipeline.runner = _watcher(pipeline.runner, "auto", None, "")


@contextmanager
def _watching(
    live: bool | str,
    log: str | os.PathLike[str] | None,
    made: weakref.WeakSet[Any] | None = None,
) -> Iterator[Traces]:
    """Watch the runs in the block; collect in `made` pipelines created in it and not run."""
    traces = Traces()
    not_run: weakref.WeakSet[Any] = weakref.WeakSet() if made is None else made

    def around(pipeline: Any, run: Callable[[], Any]) -> Any:
        not_run.discard(pipeline)
        return _watch(pipeline, run, live, log)

    _blocks.append(traces)
    try:
        with around_runs(around, not_run.add):
            yield traces
    finally:
        _blocks.remove(traces)


def _watch(
    pipeline: Any, run: Callable[[], Any], live: bool | str, log: str | os.PathLike[str] | None
) -> Any:
    own = pipeline.runner
    if _is_for_others(own) or own in _watchers():
        return run()
    watched = _noted()
    watcher = _watcher(own, live, log, watched.suffix)
    before = watcher._last  # a WatchRunner of the program may have an earlier run
    pipeline.runner = watcher
    _watchers().append(watcher)
    try:
        result = run()
    except BaseException:
        last = watcher._last
        if last is not None and last is not before:
            watched.read = lambda: last.trace
        raise
    finally:
        _watchers().remove(watcher)
        pipeline.runner = own
    watched.read = lambda: result.trace
    return result


def _noted() -> _Watched:
    """Add a new run to all active blocks and return it."""
    blocks = list(_blocks)
    watched = _Watched(len(blocks[-1]._runs) + 1 if blocks else 1)
    for block in blocks:
        block._runs.append(watched)
    return watched


def _watchers() -> list[Any]:
    """Return this thread's active watchers: Beam runs some pipelines by running a copy of them."""
    if not hasattr(_running, "watchers"):
        _running.watchers = []
    watchers: list[Any] = _running.watchers
    return watchers


def _is_for_others(runner: Any) -> bool:
    """Whether a runner runs a pipeline by creating others, which are watched themselves."""
    return type(runner).__name__ == "InteractiveRunner"


def _watcher(
    runner: Any, live: bool | str, log: str | os.PathLike[str] | None, suffix: str
) -> WatchRunner:
    from mmlab.watching.runner import WatchRunner

    if isinstance(runner, WatchRunner):
        return runner
    # The same class name, because Beam depends on it in some places.
    kind = type(type(runner).__name__, (WatchRunner,), {"title_suffix": suffix})
    watcher: WatchRunner = kind(runner, live=live, log=log, check=False)
    return watcher
