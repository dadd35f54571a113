"""`WatchRunner`: any Beam runner, with every `RunInference` of its pipelines watched."""

from __future__ import annotations

import os
import warnings
from typing import Any

from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.pipeline import Pipeline
from apache_beam.runners.runner import PipelineRunner

from mmlab._arguments import check_live, path_argument, seconds_argument, short
from mmlab._faults import describe
from mmlab.beam.runners import (
    chosen_runner,
    gets_what_was_built,
    is_runner,
    runner_called,
    runs_here,
)
from mmlab.checks.steps import check_step, worth_a_warning
from mmlab.trace import Trace
from mmlab.watching.result import WatchedResult
from mmlab.watching.run import Run
from mmlab.watching.steps import Found, find_steps, handlers_swapped, sharing
from mmlab.watching.warning import WatchWarning
from mmlab.worker.logs import new_log


class WatchRunner(PipelineRunner):
    """Runs pipelines on another runner and records what happens to their models.

    Use it as `beam.Pipeline(WatchRunner())`. Results, counters and errors are those of the other
    runner.

    Args:
      runner: a Beam runner or its name ("PrismRunner"). None for the runner that `beam.Pipeline()`
        uses with the same options: the one that `--runner` names, otherwise Beam's choice, which
        is `FnApiRunner` in a notebook, and in a script Prism if it is available.
      live: whether to show the run live: as a picture below a notebook cell, which stays after the
        run, or as one line in a terminal. "auto" shows nothing if output is captured.
      log: a folder that keeps the event logs, one folder per run in it; every worker must be able
        to write there. A path, on a disk that all machines can access, or a URI of any file system
        that Beam knows (`gs://…`, `s3://…`, `hdfs://…`). None keeps the logs in a temporary folder
        until the run has ended. New folders are private to their owner.
      sample_seconds: seconds between samples of memory in each worker.
      check: whether to raise, before the run, for what would certainly fail in a worker (hints
        that are not positive integers, missing weights), and to warn about other problems found by
        `mmlab.preflight`.

    Raises:
      TypeError: `runner` is not a Beam runner, `log` is not a path, or `sample_seconds` is not a
        number.
      ValueError: Beam knows no runner of that name, `sample_seconds` is not positive, or `live` is
        not True, False or "auto".
    """

    title_suffix = ""
    """Suffix of the title, to distinguish several runs; see `mmlab.watching.programs`."""

    def __init__(
        self,
        runner: PipelineRunner | str | None = None,
        *,
        live: bool | str = "auto",
        log: str | os.PathLike[str] | None = None,
        sample_seconds: float = 0.05,
        check: bool = True,
    ):
        if isinstance(runner, str):
            runner = runner_called(runner)
        if runner is not None and not isinstance(runner, PipelineRunner):
            raise TypeError(
                "runner must be a Beam runner, its name or None, "
                f'got {short(runner)}: give FnApiRunner() or "FnApiRunner"'
            )
        check_live(live)
        if check not in (True, False):
            raise ValueError(f"check must be True or False, got {short(check)}")
        self._given = runner
        self._made: dict[str, PipelineRunner] = {}
        self._options: PipelineOptions | None = None
        self._chosen: PipelineRunner | None = None
        self._live = live
        if log is not None:
            path_argument("log", log, "a folder")
        self._log_folder = log
        self._sample_seconds = seconds_argument("sample_seconds", sample_seconds)
        self._check = check
        self._last: Run | None = None

    @property
    def _runner(self) -> PipelineRunner:
        """The wrapped runner; if none was given, that of the latest pipeline's options."""
        if self._given is not None:
            return self._given
        if self._chosen is None:
            self._chosen = self._choose()
        return self._chosen

    def _choose(self) -> PipelineRunner:
        wanted = chosen_runner(self._options)
        if isinstance(wanted, str):
            # Cached, because InteractiveRunner sets its notebook flag on the runner before the run.
            wanted = self._made.get(wanted) or self._made.setdefault(wanted, runner_called(wanted))
        if isinstance(wanted, WatchRunner):  # --runner=mmlab.WatchRunner
            return runner_called(StandardOptions.DEFAULT_RUNNER)
        return wanted

    def _see(self, options: PipelineOptions) -> None:
        """Store the options of the pipeline that is built or run.

        Their runner is read only once, because portable runners remove it when they run.
        """
        if options is not self._options:
            self._options, self._chosen = options, None

    @property
    def trace(self) -> Trace:
        """The trace of the last run, whether it succeeded or failed."""
        if self._last is None:
            raise RuntimeError("this WatchRunner has not run a pipeline to its end yet")
        return self._last.trace

    @property
    def has_run(self) -> bool:
        """Whether a run has ended, so that `trace` can be read."""
        return self._last is not None

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> WatchedResult:
        """Run `pipeline` on the wrapped runner, watched.

        Raises:
          ValueError, FileNotFoundError: raised by `check`.
          OSError: the log folder cannot be written.
        """
        self._see(options)
        _warn_of_another(self._given, options)
        _validate(options, self._runner)
        found = find_steps(pipeline)
        steps = [step for step, _ in found.steps]
        if self._check:
            self._look_before(found, options)
        _warn_of_template(options)
        here = runs_here(self._runner, options)
        if not here and self._log_folder is None and found.steps:
            _warn_of_no_log(self._runner)
        _warn_of_dask(self._runner)
        run = Run(
            pipeline,
            steps,
            new_log(self._log_folder, self._sample_seconds),
            keeps_log=self._log_folder is not None,
            here=here,
            on_end=self._ended,
        )
        run.begin([card for _, cards in found.steps for card in cards], sharing(steps))
        for label, reason in found.hidden.items():
            run.cannot_watch(label, f"not watched: {reason}")
        if not found.steps and not found.hidden:
            run.cannot_watch(None, "steps")
        labels = [*(step.label for step in steps), *found.hidden]
        run.show(self._live, (", ".join(labels) or "the pipeline") + self.title_suffix)
        with run.ending_on_error(), handlers_swapped(steps, run.log) as restore:
            result = self._runner.run_pipeline(pipeline, options)
            return WatchedResult(result, run, restore)

    def _look_before(self, found: Found, options: PipelineOptions) -> None:
        here = runs_here(self._runner, options)
        for step, cards in found.steps:
            check_step(step, cards, files_are_here=here)
        steps = [step for step, _ in found.steps]
        try:
            said = [str(problem) for problem in worth_a_warning(steps, options, runs_here=here)]
        except Exception as error:  # errors of the author's handler must not prevent the run
            said = [f"the pipeline was not looked at before its run: {describe(error)}"]
        for sentence in said:
            warnings.warn(sentence, WatchWarning, stacklevel=4)

    def _ended(self, run: Run) -> None:
        self._last = run

    # Forwarded to the wrapped runner

    def is_fnapi_compatible(self) -> bool:
        if self._options is None:
            return bool(self._runner.is_fnapi_compatible())
        return gets_what_was_built(self._runner, self._options)

    def default_environment(self, options: PipelineOptions) -> Any:
        self._see(options)
        return self._runner.default_environment(options)

    def default_pickle_library_override(self) -> Any:
        return self._runner.default_pickle_library_override()

    def apply(self, transform: Any, input: Any, options: PipelineOptions) -> Any:
        """Expand a transform as the wrapped runner does; Beam calls it for each step."""
        self._see(options)
        return self._runner.apply(transform, input, options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_given", "_chosen"):
            raise AttributeError(name)
        return getattr(self._runner, name)


def _validate(options: PipelineOptions, runner: PipelineRunner) -> None:
    """Validate the options as Beam does for `runner` itself, which depends on its class name.

    Raises:
      ValueError: raised by Beam.
    """
    errors = PipelineOptionsValidator(options, runner).validate()
    if errors:
        raise ValueError("\n".join(["Pipeline has validations errors: ", *errors]))


def _warn_of_another(given: PipelineRunner | None, options: PipelineOptions) -> None:
    named = options.view_as(StandardOptions).runner
    if given is None or named is None or is_runner(given, named):
        return
    name = named if isinstance(named, str) else type(named).__name__
    warnings.warn(
        f"WatchRunner was given {type(given).__name__}, and --runner says {name}: the pipeline "
        f"runs on {type(given).__name__}. Leave one of them out.",
        WatchWarning,
        stacklevel=3,
    )


def _warn_of_no_log(runner: PipelineRunner) -> None:
    if _is_dask(runner):  # without a client, its workers are local processes
        return
    warnings.warn(
        f"The log is in a temporary folder of this machine, and workers of "
        f"{type(runner).__name__} may be elsewhere: what they cannot write is missing from the "
        "trace. To watch them, give log= a folder or URI that every worker can write to.",
        WatchWarning,
        stacklevel=3,
    )


def _warn_of_template(options: PipelineOptions) -> None:
    if options.view_as(GoogleCloudOptions).template_location:
        warnings.warn(
            "A template runs later and more than once, and this run ends when it is written: its "
            "jobs are not watched. Wrap the handler with mmlab.watch(handler, log=...) instead.",
            WatchWarning,
            stacklevel=3,
        )


def _is_dask(runner: PipelineRunner) -> bool:
    return type(runner).__module__.startswith("apache_beam.runners.dask")


def _warn_of_dask(runner: PipelineRunner) -> None:
    if _is_dask(runner):
        warnings.warn(
            "The DaskRunner of apache-beam 2.77 drops what a step emits when its bundle ends, "
            "watched or not: predictions of batches that were not full are missing from the "
            "result. Count them before you rely on it.",
            WatchWarning,
            stacklevel=3,
        )
