"""Runs that something goes wrong with, each in a process of its own.

`python -m tests.integration.watching.faulty KIND [ARGUMENT...]` prints what came of it, as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import mmlab
from mmlab import WatchRunner
from mmlab.trace import Trace
from tests.belongings import belongings
from tests.handlers import NamedModels, keyed

COLLECTED: list[str] = []


def collect(result: Any) -> None:
    COLLECTED.append(repr(result))


def run(runner: Any, handler: Any, keys: list[str]) -> list[str]:
    """The answers to elements `(key, i)`, in their order."""
    COLLECTED.clear()
    with beam.Pipeline(runner) as pipeline:
        elements = [(key, i) for i, key in enumerate(keys)]
        _ = (
            pipeline
            | beam.Create(elements, reshuffle=False)
            | "Score" >> RunInference(handler)
            | beam.Map(collect)
        )
    return list(COLLECTED)


def told(trace: Trace) -> dict[str, Any]:
    """What a trace says about itself."""
    return {
        "state": trace.state,
        "uses": trace.summary().uses,
        "events": len(trace.events),
        "dropped": trace.dropped,
        "torn": trace.torn,
        "notes": trace.notes,
    }


def full(log: str) -> dict[str, Any]:
    """No file may grow beyond 5,000 bytes: what the log needs for the first few batches."""
    import resource

    keys = ["a", "b"] * 50
    unwatched = run(FnApiRunner(), keyed([["a"], ["b"]], 2), keys)
    runner = WatchRunner("FnApiRunner", log=log)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
    watched = run(runner, keyed([["a"], ["b"]], 2), keys)
    same = sum(map(str.__eq__, watched, unwatched))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return {"same": same, **told(runner.trace)}


class Slow(NamedModels):
    def run_inference(self, batch, model, inference_args=None):
        print("use", flush=True)
        time.sleep(0.2)
        return super().run_inference(batch, model, inference_args)


def interrupted(way: str) -> dict[str, Any]:
    """Somebody presses Ctrl-C while a model works; says what the process has left then."""
    runner = WatchRunner("FnApiRunner") if way == "watched" else FnApiRunner()
    before = belongings(tempfile.gettempdir())
    error = None
    try:
        run(runner, keyed([["a"]], handler=Slow), ["a"] * 100)
    except BaseException as problem:
        error = f"{type(problem).__name__}: {problem}"
    said = told(runner.trace) if way == "watched" else {}
    return {**said, "error": error, "left": left(before), "watchers": watchers()}


class Befallen(NamedModels):
    """Something happens while it works on element 20."""

    def __init__(self, fault: Callable[[], Any], name: str):
        super().__init__(name)
        self._fault = fault

    def run_inference(self, batch, model, inference_args=None):
        if 20 in batch:
            self._fault()
        return super().run_inference(batch, model, inference_args)


def befalls(fault: Callable[[], Any], log: Path | None = None) -> dict[str, Any]:
    """What a run of 40 elements gives, and what it leaves, when that happens to it."""
    raised: list[str] = []
    threading.excepthook = lambda problem: raised.append(f"{problem.thread}: {problem.exc_value}")
    runners = {"unwatched": FnApiRunner(), "watched": WatchRunner("FnApiRunner", log=log)}
    ways = {}
    for way, runner in runners.items():
        before, error = belongings(tempfile.gettempdir()), None
        try:
            run(runner, keyed([["a"], ["b"]], 1, handler=partial(Befallen, fault)), ["a", "b"] * 20)
        except BaseException as problem:
            error = f"{type(problem).__name__}: {problem}"
        ways[way] = {"answers": list(COLLECTED), "error": error, "left": left(before)}
    trace = runners["watched"].trace
    errors = [use.error for residence in trace.residences for use in residence.uses if use.error]
    return {
        **ways, **told(trace), "errors": errors, "raised": raised, "watchers": watchers()
    }  # fmt: skip


def each_fault(folder: str) -> dict[str, Any]:
    """All that can happen to the log of a run in this process, one after the other."""
    run(FnApiRunner(), keyed([["a"]]), ["a"])  # leaves what Beam keeps of its first run
    root = Path(folder)
    return {
        "removed": log_removed(root / "removed"),
        "interrupted": befalls(interrupt),
        "read-only": log_closed(root / "read-only", 0o500),
        "closed": log_closed(root / "closed", 0o000),
        "refused": log_refused(root / "refused"),
    }


def interrupt() -> None:
    raise KeyboardInterrupt


def log_removed(log: Path) -> dict[str, Any]:
    outcome = befalls(partial(shutil.rmtree, log, ignore_errors=True), log)
    return {**outcome, "is_there": log.exists()}


def log_closed(log: Path, mode: int) -> dict[str, Any]:
    """The run's own folder loses permissions, which it has again at the end."""
    outcome = befalls(partial(give, log, mode), log)
    [folder] = log.iterdir()
    binds = not can_write(folder)
    give(log, 0o700)
    return {**outcome, "binds": binds, "log": str(folder)}


def give(log: Path, mode: int) -> None:
    for folder in log.glob("*"):  # none there while the run is unwatched
        folder.chmod(mode)


def log_refused(log: Path) -> dict[str, Any]:
    """Nobody may write into the folder for logs, from the beginning."""
    log.mkdir(mode=0o500)
    COLLECTED.clear()
    before, said = belongings(tempfile.gettempdir()), []
    for call in (
        lambda: run(WatchRunner("FnApiRunner", log=log), keyed([["a"]]), ["a"]),
        lambda: run(WatchRunner("FnApiRunner", log=log / "new" / "one"), keyed([["a"]]), ["a"]),
        lambda: mmlab.watch(NamedModels(), log),
    ):
        try:
            call()
        except OSError as problem:
            said.append(f"{type(problem).__name__}: {problem}")
    return {
        "binds": not can_write(log), "said": said, "uses": len(COLLECTED), "left": left(before),
        "watchers": watchers(),
    }  # fmt: skip


def can_write(folder: Path) -> bool:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def reloads(way: str, times: str) -> dict[str, Any]:
    """Two models take turns in one place; says what the process has left after so many loads."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    runner = WatchRunner("FnApiRunner") if way == "watched" else FnApiRunner()
    before = belongings(tempfile.gettempdir())
    answers = run(runner, keyed([["a"], ["b"]], 1), ["a", "b"] * (int(times) // 2))
    said = told(runner.trace) if way == "watched" else {}
    loads = runner.trace.summary().loads if way == "watched" else None
    return {**said, "loads": loads, "answers": len(answers), "left": left(before),
            "watchers": watchers()}  # fmt: skip


def left(before: Any) -> dict[str, int]:
    more = belongings(tempfile.gettempdir()).beyond(before)
    return {name: found if isinstance(found, int) else len(found) for name, found in more.items()}


def watchers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mmlab")]


def main(kind: str, *arguments: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(json.dumps(globals()[kind](*arguments)), flush=True)
    os._exit(0)  # Beam's threads may still wait for a worker that was interrupted


if __name__ == "__main__":
    # As a module that can be imported: what is pickled by value would collect into a copy.
    from tests.integration.watching import faulty

    faulty.main(*sys.argv[1:])
