"""Run a Python program and watch every Beam pipeline in it, by the runner that it chose.

The program's arguments, output, exit status and errors are its own. What mmlab says goes to
standard error: how each run stands, in a terminal, and in the end where its trace is. Pipelines
that run in processes which the program starts itself are not watched. Of a program that is killed
there is no trace, but the event log that --log keeps.
"""

from __future__ import annotations

import atexit
import getopt
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from mmlab._text import plural, say

if TYPE_CHECKING:
    from mmlab.trace import Trace
    from mmlab.watching.programs import Traces

HELP = "run a program and watch every Beam pipeline in it"
USAGE = """mmlab run [-o TRACE] [--log FOLDER] [--no-live] SCRIPT [ARGS...]
       mmlab run [-o TRACE] [--log FOLDER] [--no-live] -m MODULE [ARGS...]"""
EXAMPLES = """\
  mmlab run score.py --runner DirectRunner --input scans.csv
  mmlab run -o before.jsonl -m my_package.score
  mmlab run --log gs://bucket/logs score.py --runner FlinkRunner"""

_OPTIONS = ("hmo:", ["help", "output=", "log=", "no-live"])


def split(words: list[str]) -> tuple[list[str], list[list[str]]]:
    """Split the words of the command from the program and its arguments.

    Raises:
      ValueError: an option before the program is not known.

    >>> split(["run", "-o", "t.jsonl", "-m", "score", "-o", "--", "x"])
    (['run', '-o', 't.jsonl', '-m'], [['score', '-o', '--', 'x']])
    """
    if words[:1] != ["run"]:
        return words, []
    try:
        _, program = getopt.getopt(words[1:], *_OPTIONS)
    except getopt.GetoptError as problem:
        raise ValueError(str(problem)) from None
    own = words[: len(words) - len(program)]
    return own[:-1] if own[-1] == "--" else own, [program]


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        metavar="TRACE",
        help="the file of the trace (by default the program's name and .trace.jsonl); "
        "that of a second pipeline ends in -2, and so on; older traces of that name are replaced",
    )
    parser.add_argument("--log", metavar="FOLDER", help="keep event logs there, a path or a URI")
    parser.add_argument("--no-live", action="store_true", help="do not show runs while they go on")
    parser.add_argument("-m", dest="module", action="store_true", help="run a module, not a file")


def begin(options: Namespace, words: Sequence[str]) -> Callable[[], None]:
    from mmlab.watching import main
    from mmlab.watching.programs import watched_pipelines

    if not words or not words[0]:
        raise ValueError(f"give a {'module' if options.module else 'program'} to run, or --help")
    program = (main.module if options.module else main.script)(words[0], words[1:])
    path = _file(f"{program.name}.trace.jsonl" if options.output is None else options.output)
    block = watched_pipelines(live=False if options.no_live else "auto", log=options.log)
    if options.log is not None:
        _check_log(options.log)
    if not _may_be_written(path):
        raise ValueError(f"{path} is there and is no trace: give another file with -o")

    def work() -> None:
        stack = ExitStack()
        traces = stack.enter_context(block)
        # At exit, so that the traces include threads and exit handlers of the program.
        atexit.register(_end, stack, traces, path, os.getpid())
        main.execute(program)

    return work


def _file(output: str) -> Path:
    from mmlab._arguments import file_to_write_later

    return file_to_write_later(output and str(_with_ending(Path(output)))).absolute()


def _with_ending(path: Path) -> Path:
    return path if path.suffix or not path.name else path.with_suffix(".jsonl")


def _check_log(log: str) -> None:
    from mmlab.log.folders import is_remote
    from mmlab.worker.logs import check_log

    if not is_remote(log):  # a remote check would import Beam before the program does
        check_log(log)


def _may_be_written(path: Path) -> bool:
    """Whether `path` does not exist or is an older trace, so that no other file is replaced."""
    from mmlab.events import decode

    if not path.exists():
        return True
    try:
        with path.open("rb") as file:
            decode(file.readline(1_000_000))
    except (OSError, ValueError):
        return False
    return True


def _end(stack: ExitStack, traces: Traces, path: Path, pid: int) -> None:
    """Save the traces and print their paths; a failure leaves the exit status unchanged."""
    if os.getpid() != pid:  # in a process forked by the program
        return
    stack.close()
    try:
        lines = list(_saved(traces, path))
    except Exception as problem:
        lines = [f"the trace could not be saved: {problem}"]
    if sys.stderr is not None:
        say("\n".join(f"mmlab: {line}" for line in lines), to=sys.stderr)


def _saved(traces: Traces, path: Path) -> Iterator[str]:
    if not traces:
        yield "no pipeline was run, so there is no trace"
        return
    names = _free(path)
    for label, trace in zip(traces.labels, traces, strict=True):
        where = trace.save(next(names))
        yield f"{label}: {_in_words(trace)} -> {_relative(where)}"
    yield f"see mmlab summary {_relative(path)}, or mmlab replay {_relative(path)} --open"


def _free(path: Path) -> Iterator[Path]:
    for number in count(1):
        name = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        if _may_be_written(name):
            yield name


def _in_words(trace: Trace) -> str:
    s = trace.summary()
    counts = (
        plural(s.loads, "load"),
        plural(s.evictions, "eviction"),
        plural(s.elements, "element"),
        f"{s.wall_seconds:.1f} s",
    )
    return f"{trace.state}, {', '.join(counts)}"


def _relative(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
