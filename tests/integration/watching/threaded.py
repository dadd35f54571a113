"""One run with several threads, in a process of its own: how it ended, as one line of JSON."""

from __future__ import annotations

import argparse
import json
import logging
import random
import time
from collections import Counter
from multiprocessing.connection import Connection

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from mmlab import WatchRunner
from mmlab.beam.shared import keep_addresses_in
from tests.handlers import NamedModels, keyed

KEYS = [["K0"], ["K1"], ["K2"], ["K3"]]


class LoadsFor(NamedModels):
    """Takes `load_ms` milliseconds to load its model."""

    def __init__(self, name, load_ms):
        super().__init__(name)
        self.load_ms = load_ms

    def load_model(self):
        time.sleep(self.load_ms / 1e3)
        return super().load_model()


def run(*, watched, threads, hint, load_ms, elements):
    """How the run ended: its error or None, and how many loads the trace has (if watched)."""
    arguments = ["--direct_running_mode=multi_threading", f"--direct_num_workers={threads}"]
    runner = WatchRunner(FnApiRunner(), live=False) if watched else FnApiRunner()
    keys = random.Random(1).choices([key for [key] in KEYS], k=elements)
    handler = keyed(KEYS, hint, handler=lambda name: LoadsFor(name, load_ms))
    pipeline = beam.Pipeline(runner, options=PipelineOptions(arguments))
    _ = (
        pipeline
        | beam.Create([(key, i) for i, key in enumerate(keys)])
        | beam.Reshuffle()
        | "Score" >> RunInference(handler)
    )
    error = None
    try:
        pipeline.run().wait_until_finish()
    except Exception as problem:
        error = problem
    found = {"error": None if error is None else f"{type(error).__name__}: {error}"[-300:]}
    if watched:
        trace = runner.trace
        found["notes"] = list(getattr(error, "__notes__", []))
        found["kinds"] = dict(Counter(event.event for event in trace.events))
    return found


def outcome(setting: dict, folder: str, answer: Connection) -> None:
    """Run in a forked process, with Beam's files in `folder`; answers as `run` does."""
    logging.disable(logging.CRITICAL)
    keep_addresses_in(folder)
    answer.send(run(**setting))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watched", action="store_true")
    for name, usual in (("threads", 2), ("hint", 1), ("load_ms", 0), ("elements", 500)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    logging.disable(logging.CRITICAL)
    print(json.dumps(run(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
