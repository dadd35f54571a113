"""A pipeline whose only worker is killed.

`python -m tests.integration.watching.killed_worker WAY FOLDER` runs it.

Prints, as JSON, what this process has when the worker is dead, and what came of the run, which
Beam's runner ends only when it is interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from mmlab import WatchRunner
from tests.belongings import Belongings, belongings
from tests.handlers import NamedModels, keyed
from tests.integration.watching.faulty import left, told
from tests.waiting import wait_for


class Deadly(NamedModels):
    """Its worker is killed, as the system's out-of-memory killer would, at element 20."""

    def run_inference(self, batch, model, inference_args=None):
        if 20 in batch:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run_inference(batch, model, inference_args)


def write(answer: Any, folder: str) -> None:
    key, result = answer
    Path(folder, f"{result.example} {key} {result.inference}").touch()


def tell_of_death(before: Belongings, answers: Path) -> None:
    wait_for(lambda: any(answers.iterdir()))
    wait_for(lambda: not belongings(tempfile.gettempdir()).processes)
    names = sorted(path.name for path in answers.iterdir())
    print(json.dumps({"answers": names, "left": left(before)}), flush=True)


def main(way: str, folder: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    answers = Path(folder, "answers")
    before = belongings(tempfile.gettempdir())
    threading.Thread(target=tell_of_death, args=(before, answers), daemon=True).start()
    options = PipelineOptions(["--direct_running_mode=multi_processing", "--direct_num_workers=1"])
    log = Path(folder, "log")
    runner = WatchRunner("FnApiRunner", log=log) if way == "watched" else FnApiRunner()
    error = None
    try:
        with beam.Pipeline(runner, options=options) as pipeline:
            _ = (
                pipeline
                | beam.Create([(f"K{i % 2}", i) for i in range(40)], reshuffle=False)
                | RunInference(keyed([["K0"], ["K1"]], handler=Deadly))
                | beam.Map(write, str(answers))
            )
    except BaseException as problem:
        error = f"{type(problem).__name__}: {problem}"
    said = told(runner.trace) if way == "watched" else {}
    print(json.dumps({**said, "error": error, "left": left(before)}), flush=True)
    os._exit(0)  # Beam's threads still wait for the worker


if __name__ == "__main__":
    main(*sys.argv[1:])
