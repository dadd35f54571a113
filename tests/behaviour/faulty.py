"""Runs that something goes wrong with, each in a process of its own.

`python -m tests.behaviour.faulty KIND [ARGUMENT...]` prints what came of it, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import time
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

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
    runner = WatchRunner(log=log)
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
    runner = WatchRunner() if way == "watched" else FnApiRunner()
    before = belongings(tempfile.gettempdir())
    error = None
    try:
        run(runner, keyed([["a"]], handler=Slow), ["a"] * 100)
    except BaseException as problem:
        error = f"{type(problem).__name__}: {problem}"
    said = told(runner.trace) if way == "watched" else {}
    return {**said, "error": error, "left": left(before), "watchers": watchers()}


def reloads(way: str, times: str) -> dict[str, Any]:
    """Two models take turns in one place; says what the process has left after so many loads."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    runner = WatchRunner() if way == "watched" else FnApiRunner()
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
    from tests.behaviour import faulty

    faulty.main(*sys.argv[1:])
