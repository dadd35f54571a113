"""The process of a run: reads a job from its folder, runs the pipeline, writes a report.

job.pickle     a `Job`, followed by the result of `payload.pickled`
output.txt     all that the run printed
log/           the event log of `WatchRunner`
tmp/           the process's own folder for temporary files
report.json    how it ended; missing when the process was killed
"""

from __future__ import annotations

import faulthandler
import json
import os
import pickle
import random
import signal
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from mmlab._files import whole
from mmlab.fresh.supervisor import JOB, LOG, OUTPUT, SCRATCH, end_descendants, end_with_parent

REPORT = "report.json"
_TRACEBACK_LINES = 40


@dataclass(frozen=True)
class Job:
    """Settings that the process of a run takes from the parent, as plain data.

    Attributes:
      cwd, path, environ: of the parent: working directory, `sys.path`, environment variables.
      memory_limit: bytes that the run may allocate, or None.
      sample_seconds: time between samples of memory.
      torch_threads: threads of PyTorch, or None.
    """

    cwd: str
    path: list[str]
    environ: dict[str, str]
    memory_limit: int | None
    sample_seconds: float
    torch_threads: int | None = None


@dataclass(frozen=True)
class Report:
    """How a run ended, as plain data.

    Attributes:
      phase: the phase that it reached: "unpickle", "limit", "build", "run" or "done".
      error_type, error: type and text of the exception that ended it.
      notes: notes added to the exception.
      traceback: last lines of the traceback.
      frame: file and line of the last frame in the author's code; only for errors while the
        pipeline was built.
    """

    phase: str
    error_type: str | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    traceback: str = ""
    frame: tuple[str, int | None] | None = None


def run(folder: Path) -> None:
    """Run the job of `folder`, write its report, and end all processes that it started."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_with_parent()
    file = (folder / JOB).open("rb")
    job: Job = pickle.load(file)
    _become_like_the_parent(job, folder)
    phase = ["unpickle"]
    try:
        _run(folder, job, file, phase.append)
        report = Report("done")
    except BaseException as error:
        report = _report(phase[-1], error)
    sys.stdout.flush()
    sys.stderr.flush()
    with whole(folder / REPORT) as unfinished:
        unfinished.write_text(json.dumps(asdict(report)))
    end_descendants()


def _become_like_the_parent(job: Job, folder: Path) -> None:
    os.environ.clear()
    os.environ.update(job.environ)
    for variable in ("TMPDIR", "TEMP", "TMP"):
        os.environ[variable] = str(folder / SCRATCH)
    tempfile.tempdir = None
    sys.path[:] = job.path
    sys.argv = ["mmlab"]
    os.chdir(job.cwd)
    output = os.open(folder / OUTPUT, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    faulthandler.enable()
    if job.torch_threads is not None:
        _limit_torch(job.torch_threads)
    # A fork has a copy of its parent's random state; make it differ, as in a new process.
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def _limit_torch(threads: int) -> None:
    """Set the threads of PyTorch in this process and in those that it starts."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _run(folder: Path, job: Job, file: IO[bytes], enter: Callable[[str], None]) -> None:
    import apache_beam as beam

    from mmlab.beam.pipelines import readable_steps
    from mmlab.beam.shared import keep_addresses_in
    from mmlab.fresh.limits import limit_memory
    from mmlab.watching import WatchRunner

    keep_addresses_in(str(folder / SCRATCH))
    with file:
        build, args, options, on = pickle.load(file)
    if job.memory_limit is not None:
        enter("limit")
        limit_memory(job.memory_limit)
    enter("build")
    runner = WatchRunner(on, live=False, log=folder / LOG, sample_seconds=job.sample_seconds)
    pipeline: Any = beam.Pipeline(runner, options=options)
    build(pipeline, *args)
    if not any(readable_steps(pipeline)):
        raise ValueError(
            "build put no RunInference step into the pipeline that it was given: write "
            "pipeline | … | RunInference(handler), and let it return nothing"
        )
    if getattr(pipeline, "result", None) is not None:
        raise ValueError(
            "build ran the pipeline that it was given: leave out `with pipeline:` and "
            "pipeline.run(), only add the steps"
        )
    enter("run")
    pipeline.run().wait_until_finish()


def _report(phase: str, error: BaseException) -> Report:
    kind = type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    from mmlab.watching.errors import PREFIX

    notes = tuple(str(note).removeprefix(PREFIX) for note in getattr(error, "__notes__", ()))
    frame = _author_frame(error) if phase == "build" else None
    return Report(phase, name, str(error), notes, _tail(error), frame)


def _author_frame(error: BaseException) -> tuple[str, int | None] | None:
    """Return the last frame of an error that is in neither a library nor mmlab."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)]
    return (own[-1].filename, own[-1].lineno) if own else None


_LIBRARIES = (
    str(Path(__file__).parents[1]) + os.sep,
    *{sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")},
    "apache_beam/",  # file names in compiled modules
    "<frozen ",
)


def _tail(error: BaseException) -> str:
    """Return the last lines of the traceback, without frames of this module."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    lines = "".join(traceback.format_exception(type(error), error, frames)).splitlines()
    return "\n".join(lines[-_TRACEBACK_LINES:])


def main() -> None:
    """Run the job of a folder, in a Python process started for it."""
    run(Path(sys.argv[-1]))
    os._exit(0)
