"""A fresh process per run: with torch and Beam imported, a memory limit and a scratch folder.

Beam keeps models after a run, each reload leaves threads and files behind, and a run that is out of
memory must not end the notebook. So experiments run in processes of their own.
"""

from __future__ import annotations

import inspect
import json
import linecache
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineRunner, PipelineState

from mmlab._arguments import parse_bytes, seconds_argument, short
from mmlab._files import absolute, temporary_files
from mmlab.beam.runners import runner_called
from mmlab.events import EndInfo, Event, MemoryLimit, RunEnds
from mmlab.fresh.child import REPORT, Job, Report
from mmlab.fresh.launch import Supervised, start_process
from mmlab.fresh.limits import check_limits_work_here, is_full
from mmlab.fresh.outcome import LEAST_LIMIT, THREAD_BYTES, RunOutcome, too_small
from mmlab.fresh.payload import pickled
from mmlab.fresh.supervisor import LOG, OUTPUT
from mmlab.log.folders import SUFFIX
from mmlab.log.reader import LogReader
from mmlab.reports.shortage import is_out_of_memory
from mmlab.trace import Trace
from mmlab.watching.interrupts import interrupts_held
from mmlab.worker.memory import oom_kills, oom_kills_since

_DEFAULT_RUNNER = "FnApiRunner"
POLL_SECONDS = 0.05
_STALLED_SECONDS = 30.0
"""A run at its limit that uses no processor time for so long waits forever: gRPC for threads that
could not be started, or Python for threads that failed at their start."""
_NO_ROOM_BYTES = 10_000_000
"""With less left to the limit, no further thread can start: gRPC's have a stack of 8 MB."""
_FULL_BYTES = 1_000_000
"""With less left to the limit, nothing can be allocated: the allocator requests as much at once."""
_OUTPUT_BYTES = 200_000
"""Size of the end of a run's output that is kept."""
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, getattr(signal, "SIGBUS", signal.SIGABRT)})
"""Signals of a crash in a library, as opposed to a kill from outside."""
_LAST_WORDS = 20_000
"""Characters at the end of the output in which to look for the reason of a kill."""

OnEvents = Callable[[list[Event]], None]


def run_fresh(
    build: Callable[..., Any],
    *args: Any,
    memory_limit: int | str | None = None,
    options: PipelineOptions | Sequence[str] | None = None,
    runner: PipelineRunner | str | None = None,
    on_events: OnEvents | None = None,
    sample_seconds: float = 0.05,
) -> RunOutcome:
    """Run the pipeline that `build(pipeline, *args)` makes, watched, in a fresh process.

    The process has torch, Beam and mmlab already imported. It has the working directory,
    environment variables and import path of this process, and its own folder for temporary files.
    When it ends, for whatever reason, the folder is removed and all processes that it started are
    ended.

    An interrupt (the notebook's stop button, Ctrl-C) stops the process and is not raised. The
    outcome then has the trace so far, and `interrupted` is set.

    Args:
      build: a function that adds steps, at least one `RunInference`, to the given pipeline. Its
        result is ignored. It may be defined in a notebook.
      args: further arguments for `build`; they must be picklable.
      memory_limit: memory for the models and the run, in bytes or as text ("600MB"), beyond what
        torch and Beam hold from the start. Beam's own share of a run is 60 to 80 MB, and a model
        takes twice its size while it is loaded. The limit applies to each worker process. Linux
        only.
      options: pipeline options, or flags such as `["--direct_num_workers=2"]`.
      runner: a Beam runner that can be pickled, or its name. None for the one that `--runner` in
        `options` names, otherwise for `FnApiRunner`.
      on_events: a function that is called with new events, in the calling thread, at most every
        0.05 seconds; for a live view.
      sample_seconds: seconds between samples of memory.

    Raises:
      TypeError: `build` is not callable, takes other arguments, or cannot be sent to another
        process; `options` or `on_events` has the wrong type.
      ValueError: `memory_limit` is not a number of bytes, or too small to start the run.
      NotImplementedError: this system does not enforce memory limits.
    """
    if on_events is not None and not callable(on_events):
        raise TypeError(f"on_events must be a function of a list of events, got {short(on_events)}")
    run = None
    try:
        with FreshRun(
            build, *args, memory_limit=memory_limit, options=options, runner=runner,
            sample_seconds=sample_seconds,
        ) as run:  # fmt: skip
            return run.wait(on_events)
    except KeyboardInterrupt:
        if run is None or run.outcome is None:
            raise
        return run.outcome


def _check_build(build: Any, args: Sequence[Any]) -> None:
    if not callable(build):
        raise TypeError(f"build must be a function build(pipeline, …), got {short(build)}")
    try:
        signature = inspect.signature(build)
    except (TypeError, ValueError):
        return  # some C functions have no signature
    try:
        signature.bind(None, *args)
    except TypeError as problem:
        call = ", ".join(["pipeline", *map(short, args)])
        raise TypeError(f"build is called as build({call}), but {problem}") from None


def _checked_options(options: Any) -> PipelineOptions | None:
    if options is None or isinstance(options, PipelineOptions):
        return options
    if isinstance(options, list | tuple) and all(isinstance(flag, str) for flag in options):
        return PipelineOptions(list(options))
    raise TypeError(
        "options must be PipelineOptions, or a list of flags such as ['--direct_num_workers=2'], "
        f"got {short(options)}"
    )


def _named_runner(runner: Any, options: PipelineOptions | None) -> PipelineRunner | str:
    """Return the explicit runner of a run: comparisons must not depend on the machine's default.

    Raises:
      TypeError: it is neither a runner nor a name.
      ValueError: Beam has no runner of that name.
    """
    if runner is None:
        named: PipelineRunner | str | None = None
        if options is not None:
            named = options.view_as(StandardOptions).runner
        return named or _DEFAULT_RUNNER
    if isinstance(runner, str):
        runner_called(runner)
        return runner
    if isinstance(runner, PipelineRunner):
        return runner
    raise TypeError(
        f'runner must be a Beam runner, its name or None, got {short(runner)}: give "FnApiRunner"'
    )


class FreshRun:
    """A run in a fresh process in the background.

    The arguments are those of `run_fresh`. Use it in a `with` statement, which stops the run at its
    end and cleans up. `stop` may be called from any thread, such as that of a button. An interrupt
    while the process is started gives an interrupted run without events.

    Args:
      torch_threads: threads of PyTorch, for runs that share the cores; None keeps the setting.
    Attributes:
      pid: process id of the run; None if it was interrupted before the process started.
      folder: folder with the run's log and output; it exists until the run is over.
    """

    def __init__(
        self,
        build: Callable[..., Any],
        *args: Any,
        memory_limit: int | str | None = None,
        options: PipelineOptions | Sequence[str] | None = None,
        runner: PipelineRunner | str | None = None,
        sample_seconds: float = 0.05,
        torch_threads: int | None = None,
    ):
        self._memory_limit = parse_bytes(memory_limit)
        if self._memory_limit is not None:
            check_limits_work_here()
            if self._memory_limit < LEAST_LIMIT:
                raise ValueError(too_small(self._memory_limit))
        _check_build(build, args)
        options = _checked_options(options)
        runner = _named_runner(runner, options)
        self._least_limit = _least_limit(options)
        seconds_argument("sample_seconds", sample_seconds)
        self._began_ns = time.time_ns()
        self._oom_kills = oom_kills()
        self._interrupted = False
        self._outcome: RunOutcome | None = None
        self._reader: LogReader | None = None
        self._events: list[Event] = []
        self._unseen: list[Event] = []
        self._loaded = False
        self._stalled = False
        self._busy = (time.monotonic(), 0.0)
        self._process: Supervised  # not set if the outcome is known at once
        self.pid: int | None = None
        with temporary_files():
            self.folder = Path(tempfile.gettempdir(), f"mmlab-run-{uuid.uuid4().hex}")
        try:
            job = Job(
                cwd=str(absolute(Path())),
                path=[str(absolute(Path(entry))) for entry in sys.path],
                environ=dict(os.environ),
                memory_limit=self._memory_limit,
                sample_seconds=sample_seconds,
                torch_threads=torch_threads,
            )
            sent = pickle.dumps(job) + pickled(build, args, options, runner)
            self._process = start_process(self.folder, sent)
            self.pid = self._process.pid
        except KeyboardInterrupt:
            self._interrupted = True
            self._outcome = self._collect(None)

    @property
    def log_folder(self) -> Path | None:
        """The folder of the run's event log, for another reader; None until it exists."""
        return next((path.parent for path in (self.folder / LOG).glob(f"*/*{SUFFIX}")), None)

    @property
    def outcome(self) -> RunOutcome | None:
        """The outcome of the run; None while it runs."""
        return self._outcome

    def poll(self) -> list[Event]:
        """Return the events since the last call of `poll` or `wait` by any caller."""
        with interrupts_held():  # inside the reader, an interrupt would lose events
            self._read()
        return self._new_events()

    def _read(self) -> None:
        if self._reader is None:
            if (folder := self.log_folder) is None:
                return
            self._reader = LogReader(folder)
        events = self._reader.poll()
        self._events += events
        self._unseen += events
        self._loaded = self._loaded or any(event.event == "load_begin" for event in events)

    def _new_events(self) -> list[Event]:
        events, self._unseen = self._unseen, []
        return events

    def stop(self) -> None:
        """End the process and all that it started; `wait` then returns the outcome so far."""
        if self._outcome is None:
            self._interrupted = True
            self._process.kill()

    def goes_on(self, on_events: OnEvents | None = None, seconds: float = POLL_SECONDS) -> bool:
        """Wait at most `seconds` for the end, and pass new events to `on_events`.

        Returns:
          Whether it still runs; if not, `wait` returns at once.
        """
        if self._outcome is not None or self._process.wait(seconds):
            return False
        events = self.poll()
        if events and on_events is not None:
            on_events(events)
        if not self._stalled and self._has_stalled(self._process.pid):
            self._stalled = True
            self._process.kill()
        return True

    def wait(self, on_events: OnEvents | None = None) -> RunOutcome:
        """Wait for the end and return the outcome; an interrupt stops the run and is not raised."""
        if self._outcome is not None:
            return self._outcome
        try:
            while self.goes_on(on_events):
                pass
        except KeyboardInterrupt:
            self.stop()
        finally:
            outcome = self._finish()
        events = self._new_events()
        if on_events is not None and events:
            try:
                on_events(events)
            except KeyboardInterrupt:  # the run is over; the caller still gets it
                self._outcome = outcome = replace(outcome, interrupted=True)
        return outcome

    def _has_stalled(self, pid: int) -> bool:
        if self._memory_limit is None:
            return False
        now, used = time.monotonic(), _waiting_after(pid)
        if used is None or used - self._busy[1] > 0.02 * (now - self._busy[0]):
            self._busy = (now, used or 0.0)
        if used is None or now - self._busy[0] <= _STALLED_SECONDS:
            return False
        self._busy = (now, used)
        if self._loaded:  # a run may wait for its source with memory full of models
            return is_full(pid, _FULL_BYTES)
        # A worker process that could not start a thread prints that, and may have ended by now.
        return is_full(pid, _NO_ROOM_BYTES) or _reason(_tail_of(self.folder / OUTPUT)) is not None

    def _finish(self) -> RunOutcome:
        """End the run, collect its outcome, and have the folder removed."""
        outcome = None
        try:
            with interrupts_held(every=True):
                try:
                    if not self._process.wait(0):
                        self.stop()
                        self._process.wait(None)
                    self._read()
                    outcome = self._collect(self._process.exit_code())
                finally:
                    self._process.close()
                    # The supervisor has removed it, unless it was killed.
                    shutil.rmtree(self.folder, ignore_errors=True)
        except KeyboardInterrupt:
            self._interrupted = True
        self._outcome = replace(outcome or self._collect(None), interrupted=self._interrupted)
        return self._outcome

    def _report(self, code: int | None, output: str) -> Report:
        """Return the report of the process, or one made from its exit code and output."""
        report = _read_report(self.folder)
        phase = "run" if self._events else "build"
        if self._interrupted and (report is None or report.phase != "done"):
            return Report(phase, "KeyboardInterrupt", "interrupted")
        if report is not None:
            return report
        if self._stalled:
            waited = "out of memory: the run waited for what its limit had no room for"
            return Report("run" if self._loaded else "limit", "Stalled", waited)
        reason = _reason(output[-_LAST_WORDS:]) if self._memory_limit else None
        if code == -signal.SIGKILL and oom_kills_since(self._oom_kills):
            reason = "the kernel counted an out-of-memory kill during the run"
        return _report_of_the_killed(code, "limit" if self._starved(code) else phase, reason)

    def _collect(self, code: int | None) -> RunOutcome:
        ended_ns = time.time_ns()
        output = _tail_of(self.folder / OUTPUT)
        report = self._report(code, output)
        first = min((event.t_ns for event in self._events), default=None)
        trace = self._trace(report, ended_ns)
        return RunOutcome(
            trace=trace,
            phase=report.phase,
            error_type=report.error_type,
            error=report.error,
            notes=tuple(report.notes),
            traceback=report.traceback,
            place=_place(report.frame),
            output=output,
            seconds=(ended_ns - self._began_ns) / 1e9,
            first_event_seconds=None if first is None else (first - self._began_ns) / 1e9,
            interrupted=self._interrupted,
            memory_limit=self._memory_limit,
        )

    def _starved(self, code: int | None) -> bool:
        """Whether it crashed before the first model with a limit too small for Beam itself.

        Some libraries crash when an allocation fails.
        """
        crashed = code is not None and -code in _CRASHES
        too_little = self._memory_limit is not None and self._memory_limit < self._least_limit
        return crashed and too_little and not self._loaded

    def _trace(self, report: Report, ended_ns: int) -> Trace:
        """Return the trace, with events that only the parent can add: the limit, a missing end."""
        added: list[Event] = []
        if self._events:
            first = min(self._events, key=lambda event: event.t_ns)
            if self._memory_limit is not None:
                limit = MemoryLimit(bytes=self._memory_limit, **_stamp(first, first.t_ns))
                added.append(limit)
            if report.phase != "done" and not any(e.event == "end" for e in self._events):
                state = PipelineState.CANCELLED if self._interrupted else PipelineState.FAILED
                last_ns = max(ended_ns, *(event.t_ns for event in self._events))
                error = f"{report.error_type}: {report.error}"
                end = RunEnds(info=EndInfo(state), error=error, **_stamp(first, last_ns))
                added.append(end)
        torn = self._reader.torn if self._reader is not None else 0
        return Trace([*self._events, *added], torn=torn)

    def __enter__(self) -> FreshRun:
        return self

    def __exit__(self, *_: object) -> None:
        if self._outcome is None:
            self.stop()
            self._finish()


def _waiting_after(pid: int) -> float | None:
    """Return the processor seconds that a process has used if it is now waiting, else None."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return times.user + times.system if process.status() == psutil.STATUS_SLEEPING else None
    except psutil.Error:
        return None


def _stamp(like: Event, t_ns: int) -> dict[str, Any]:
    return {"run": like.run, "host": like.host, "pid": like.pid, "tid": like.tid, "t_ns": t_ns}


# Results


def _read_report(folder: Path) -> Report | None:
    try:
        return Report(**json.loads((folder / REPORT).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _least_limit(options: PipelineOptions | None) -> int:
    """Return the bytes that Beam itself needs with the number of threads in the options."""
    direct = (options or PipelineOptions([])).view_as(DirectOptions)
    threads = 1
    if direct.direct_running_mode == "multi_threading":
        threads = direct.direct_num_workers or os.cpu_count() or 1
    return LEAST_LIMIT + (threads - 1) * THREAD_BYTES


def _report_of_the_killed(code: int | None, phase: str, reason: str | None) -> Report:
    if code is None or code >= 0:
        return Report(phase, "Ended", "the process ended without saying how")
    because = f": {reason}" if reason else ""
    return Report(
        phase, "Killed", f"the process was ended by {signal.Signals(-code).name}{because}"
    )


def _reason(output: str) -> str | None:
    """Return the last output line about memory; the C++ library prints one before it aborts."""
    lines = reversed(output.splitlines())
    return next((line.strip()[:200] for line in lines if is_out_of_memory(line)), None)


def _tail_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _OUTPUT_BYTES, 0))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return text if size <= _OUTPUT_BYTES else f"…{text}"


def _place(frame: Sequence[Any] | None) -> str:
    """Return the author's file, line number and line of code.

    Only this process, the notebook's kernel, has the source of its cells.
    """
    if frame is None:
        return ""
    file, number = frame
    line = linecache.getline(file, number).strip()
    return f"{_name_of(file)}, line {number}{f': {line}' if line else ''}"


def _name_of(file: str) -> str:
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython is not None else None
    try:
        kind, name = shell.compile.format_code_name(file)
    except (AttributeError, TypeError):
        return Path(file).name
    return f"{kind.lower()} {name}" if kind == "Cell" else Path(file).name
