"""`WatchRunner`: any Beam runner, with every `RunInference` of its pipelines watched."""

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
from typing import TYPE_CHECKING, Any

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.pipeline import Pipeline
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState

from mmlab._arguments import check_live, path_argument, seconds_argument, short
from mmlab._extras import extra_for
from mmlab.beam import internals
from mmlab.beam.cards import ModelCard, model_cards
from mmlab.beam.internals import BeamChangedError, InferenceStep
from mmlab.checks.before_run import check_step, explain, worth_a_warning
from mmlab.events import (
    UNOBSERVED,
    Dropped,
    EndInfo,
    RunBegins,
    RunEnds,
    RunInfo,
    Unobserved,
)
from mmlab.log.reader import LogReader
from mmlab.trace import Trace
from mmlab.watching.interrupts import interrupts_held
from mmlab.watching.places import shows_by_itself
from mmlab.worker.failures import OnFailure
from mmlab.worker.handler import is_watched, mark_timeouts, watched
from mmlab.worker.logs import new_log
from mmlab.worker.memory import oom_kills, oom_kills_since
from mmlab.worker.recorder import Log, close_recorder, describe, recorder_for

if TYPE_CHECKING:
    from mmlab.watching.view import LiveView


class WatchWarning(UserWarning):
    """Something about the watched pipeline that its author should know."""


class WatchRunner(PipelineRunner):
    """Runs pipelines on another runner and records what happens to their models.

    `beam.Pipeline(WatchRunner())` is the whole change: results, counters and errors stay those of
    the other runner.

    Args:
      runner: a Beam runner, or None for `FnApiRunner`, which runs in this process.
      live: whether to show the run while it goes on: as a picture under the running cell of a
        notebook, whose last frame stays, or as one line in a terminal. "auto" keeps quiet where
        output is captured.
      log: a folder that keeps the event logs, one folder per run in it; every worker must be able
        to write there. A path, on a disk that all machines see, or a URI of any file system that
        Beam knows (`gs://…`, `s3://…`, `hdfs://…`). None keeps them in a temporary folder until
        the run has ended. New folders are private to their owner.
      sample_seconds: time between samples of memory in each worker.
      check: whether to refuse, before the run, what would surely fail in a worker (hints that are
        not positive integers, weights that are missing), and to warn of what `mmlab.preflight`
        finds beside it.

    Raises:
      TypeError: `runner` is not a Beam runner, `log` no path, `sample_seconds` no number.
      ValueError: `sample_seconds` is not positive, or `live` is not True, False or "auto".
    """

    title_suffix = ""
    """Tells the pictures of several runs apart; see `mmlab.watching.programs`."""

    def __init__(
        self,
        runner: PipelineRunner | None = None,
        *,
        live: bool | str = "auto",
        log: str | os.PathLike[str] | None = None,
        sample_seconds: float = 0.05,
        check: bool = True,
    ):
        if runner is not None and not isinstance(runner, PipelineRunner):
            raise TypeError(
                f"WatchRunner wraps a Beam runner, such as FnApiRunner(), not {runner!r}"
            )
        check_live(live)
        if check not in (True, False):
            raise ValueError(f"check is {short(check)}: give True or False")
        self._runner = runner or FnApiRunner()
        self._live = live
        if log is not None:
            path_argument("log", log, "a folder")
        self._log_folder = log
        self._sample_seconds = seconds_argument("sample_seconds", sample_seconds)
        self._check = check
        self._last: _Run | None = None

    @property
    def trace(self) -> Trace:
        """The trace of the last run, whether it succeeded or failed."""
        if self._last is None:
            raise RuntimeError("this WatchRunner has not run a pipeline to its end yet")
        return self._last.trace

    @property
    def has_run(self) -> bool:
        """Whether a run has ended, and `trace` is there."""
        return self._last is not None

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> WatchedResult:
        """Run `pipeline` on the wrapped runner, watched.

        Raises:
          ValueError, FileNotFoundError: what `check` refuses.
          OSError: the log folder cannot be written.
        """
        _validate(options, self._runner)
        found = _find_steps(pipeline)
        steps = [step for step, _ in found.steps]
        if self._check:
            self._look_before(found, options)
        _warn_of_template(options)
        _warn_of_dask(self._runner)
        run = _Run(self, pipeline, new_log(self._log_folder, self._sample_seconds))
        run.begin([card for _, cards in found.steps for card in cards], _sharing(steps))
        for label, reason in found.hidden.items():
            run.cannot_watch(label, f"not watched: {reason}")
        if not found.steps and not found.hidden:
            run.cannot_watch(None, "steps")
        run.show(self._live, [*(step.label for step in steps), *found.hidden])
        with run.ending_on_error(), _handlers_swapped(steps, run.log) as restore:
            result = self._runner.run_pipeline(pipeline, options)
            return WatchedResult(result, run, restore)

    def _look_before(self, found: _Found, options: PipelineOptions) -> None:
        here = internals.runs_here(self._runner)
        for step, cards in found.steps:
            check_step(step, cards, files_are_here=here)
        steps = [step for step, _ in found.steps]
        try:
            said = [str(problem) for problem in worth_a_warning(steps, options, runs_here=here)]
        except Exception as error:  # whatever an author's handler says of itself, it shall run
            said = [f"the pipeline was not looked at before its run: {describe(error)}"]
        for sentence in said:
            warnings.warn(sentence, WatchWarning, stacklevel=4)

    # The rest is the wrapped runner's.

    def is_fnapi_compatible(self) -> bool:
        return self._runner.is_fnapi_compatible()

    def default_environment(self, options: PipelineOptions) -> Any:
        return self._runner.default_environment(options)

    def default_pickle_library_override(self) -> Any:
        return self._runner.default_pickle_library_override()

    def apply(self, transform: Any, input: Any, options: PipelineOptions) -> Any:
        return self._runner.apply(transform, input, options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_runner":
            raise AttributeError(name)
        return getattr(self._runner, name)


class WatchedResult(PipelineResult):
    """The wrapped runner's result, and the trace.

    Attributes:
      pipeline: the pipeline that ran.
    """

    def __init__(self, result: PipelineResult, run: _Run, restore: Any):
        super().__init__(result.state)
        self._result = result
        self._run = run
        self._restore = restore
        self.pipeline = run.pipeline
        if PipelineState.is_terminal(result.state):
            self._finish()

    @property
    def trace(self) -> Trace:
        """What happened; while the pipeline still runs, what has happened so far."""
        return self._run.trace if self._run.ended else Trace.load(self._run.log.folder)

    @property
    def state(self) -> str:
        return self._result.state

    def wait_until_finish(self, *args: Any, **kwargs: Any) -> Any:
        with self._run.ending_on_error():
            state = self._result.wait_until_finish(*args, **kwargs)
        if PipelineState.is_terminal(self._result.state):
            self._finish()
        return state

    def cancel(self) -> Any:
        answer = self._result.cancel()
        if PipelineState.is_terminal(self._result.state):
            self._finish()
        return answer

    def metrics(self) -> Any:
        return self._result.metrics()

    def aggregated_values(self, *args: Any, **kwargs: Any) -> Any:
        return self._result.aggregated_values(*args, **kwargs)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._result)})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_result":
            raise AttributeError(name)
        return getattr(self._result, name)

    def _finish(self) -> None:
        if not self._run.ended:
            self._restore()
            self._run.end(self._result.state, result=self._result)


@dataclass
class _Run:
    """One run of one pipeline, from submission to its trace."""

    runner: WatchRunner
    pipeline: Pipeline
    log: Log
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
        _say_unwatched(self.log, step, why.rstrip("."))
        if internals.runs_here(self.runner):
            recorder_for(self.log).start_sampling()

    def show(self, live: bool | str, labels: Iterable[str]) -> None:
        """Show the run of these steps while it goes on, from now until it ends."""
        if live is False or (live == "auto" and not shows_by_itself()):
            return  # what draws takes a while to import
        with extra_for("live=True"):
            from mmlab.watching.screens import screen_for
            from mmlab.watching.view import LiveView

        title = (", ".join(labels) or "the pipeline") + self.runner.title_suffix
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
                if self.runner._log_folder is None:
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
        self.runner._last = self
        if self.view is not None:
            self.view.finish(lambda: self.trace)


@dataclass(frozen=True)
class _Found:
    """The `RunInference` steps of a pipeline.

    Attributes:
      steps: each with the cards of its models.
      hidden: label to the reason, of those that cannot be watched.
    """

    steps: list[tuple[InferenceStep, list[ModelCard]]]
    hidden: dict[str, str]


def _find_steps(pipeline: Pipeline) -> _Found:
    readable, changes = internals.readable_steps(pipeline)
    hidden = {label: str(change) for label, change in changes.items()}
    steps = []
    for step in readable:
        try:
            steps.append((step, model_cards(step.handler, step.label)))
        except BeamChangedError as change:
            hidden[step.label] = str(change)
        except Exception as error:  # an author's handler may do anything when it is looked at
            hidden[step.label] = f"its model handler cannot be read: {describe(error)}"
    return _Found(steps, hidden)


@contextmanager
def _handlers_swapped(steps: list[InferenceStep], log: Log) -> Iterator[Any]:
    """Watched handlers in the place of the authors' own.

    They go back when the returned function is called: a runner that only submits the pipeline may
    read the handlers until it has ended. On an error they go back at once.
    """

    own_callbacks: list[Callable[[], None]] = []

    def restore() -> None:
        for step in steps:
            internals.replace_handler(step, step.handler)
        for put_back in own_callbacks:
            put_back()

    try:
        for step in steps:
            if _swap(step, log) and step.catching is not None:
                own_callbacks += _watch_failures(step, log)
        yield restore
    except BaseException:
        restore()
        raise


def _watch_failures(step: InferenceStep, log: Log) -> list[Callable[[], None]]:
    """Record what goes to the dead letters of a step. Returns what puts back what it replaces."""
    try:
        return [
            internals.replace_failure_callback(step, lambda own: OnFailure(own, log, step.label))
        ]
    except BeamChangedError:
        _say_unwatched(log, step.label, "dead letters")
        return []


def _swap(step: InferenceStep, log: Log) -> bool:
    """Replace the handler of a step by a watched one. Returns whether that could be done."""
    unwatched = None
    if step.uses_model_manager:
        recorder_for(log).emit(Unobserved(step=step.label, what="model manager"))
    if is_watched(step.handler):
        unwatched = "watched"
    else:
        try:
            handler = watched(step.handler, log, step.label)
            if step.catching is not None:
                mark_timeouts(handler)
            internals.replace_handler(step, handler)
        except Exception:  # it runs unwatched
            internals.replace_handler(step, step.handler)
            unwatched = "handler"
    if unwatched is not None:
        _say_unwatched(log, step.label, unwatched)
    elif internals.hides_hint(step.handler):
        _say_unwatched(log, step.label, "hint")
    return unwatched is None


def _validate(options: PipelineOptions, runner: PipelineRunner) -> None:
    """What Beam asks of the options when it is given `runner` itself: it goes by the class's name.

    Raises:
      ValueError: Beam's own.
    """
    errors = PipelineOptionsValidator(options, runner).validate()
    if errors:
        raise ValueError("\n".join(["Pipeline has validations errors: ", *errors]))


def _sharing(steps: list[InferenceStep]) -> list[list[str]]:
    """Labels of steps that Beam gives the same models: those with one `model_identifier`."""
    groups: dict[str, list[str]] = {}
    for step in steps:
        if (tag := step.shared_as) is not None:
            groups.setdefault(tag, []).append(step.label)
    return [labels for labels in groups.values() if len(labels) > 1]


def _say_unwatched(log: Log, step: str | None, what: str) -> None:
    recorder_for(log).emit(Unobserved(step=step, what=what))
    said = UNOBSERVED.get(what, what)
    warnings.warn(f"{step}: {said}" if step else said, WatchWarning, stacklevel=3)


def _warn_of_template(options: PipelineOptions) -> None:
    if options.view_as(GoogleCloudOptions).template_location:
        warnings.warn(
            "A template runs later and more than once, and this run ends when it is written: its "
            "jobs are not watched. Wrap the handler with mmlab.watch(handler, log=...) instead.",
            WatchWarning,
            stacklevel=3,
        )


def _warn_of_dask(runner: PipelineRunner) -> None:
    if type(runner).__module__.startswith("apache_beam.runners.dask"):
        warnings.warn(
            "The DaskRunner of apache-beam 2.77 drops what a step emits when its bundle ends, "
            "watched or not: predictions of batches that were not full are missing from the "
            "result. Count them before you rely on it.",
            WatchWarning,
            stacklevel=3,
        )


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
