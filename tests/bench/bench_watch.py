"""What watching costs: watched against unwatched, beside two profilers, each in a fresh process.

Prints medians and ratios. Run it with `make bench`.
"""

from __future__ import annotations

import cProfile
import logging
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

logging.disable(logging.WARNING)

import apache_beam as beam  # noqa: E402
import torch  # noqa: E402
from apache_beam.ml.inference.base import KeyModelMapping, RunInference  # noqa: E402
from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor  # noqa: E402
from apache_beam.runners.portability.fn_api_runner import FnApiRunner  # noqa: E402
from viztracer import VizTracer  # noqa: E402

from mmlab import WatchRunner  # noqa: E402
from mmlab.lab.batches import FixedBatches  # noqa: E402
from mmlab.watching.recorder import Log, Site, close_recorder, recorder_for  # noqa: E402

BATCHES = 5_000
ROUNDS = 9
EVENTS = 100_000


class Small(torch.nn.Linear):
    """A model so small that everything around it shows."""

    def __init__(self) -> None:
        super().__init__(8, 2)


def seconds(
    runner: beam.runners.runner.PipelineRunner, weights: str, batches: int = BATCHES
) -> float:
    handlers = [
        KeyModelMapping([f"KEY_{i}"], PytorchModelHandlerTensor(weights, Small)) for i in range(4)
    ]
    elements = [(f"KEY_{i % 4}", torch.zeros(8)) for i in range(batches)]
    began = time.perf_counter()
    with beam.Pipeline(runner) as pipeline:
        _ = (
            pipeline
            | beam.Create(elements, reshuffle=False)
            | RunInference(FixedBatches(handlers, batch_size=1))
        )
    return time.perf_counter() - began


def unwatched(weights: str) -> float:
    return seconds(FnApiRunner(), weights)


def watched(weights: str) -> float:
    return seconds(WatchRunner(), weights)


def with_cprofile(weights: str) -> float:
    profile = cProfile.Profile()
    profile.enable()
    try:
        return seconds(FnApiRunner(), weights)
    finally:
        profile.disable()


def with_viztracer(weights: str) -> float:
    tracer = VizTracer(verbose=0, tracer_entries=5_000_000)
    tracer.start()
    try:
        return seconds(FnApiRunner(), weights)
    finally:
        tracer.stop()
        tracer.clear()


WAYS = {
    "unwatched": unwatched,
    "watched": watched,
    "cProfile": with_cprofile,
    "VizTracer": with_viztracer,
}


def once(way: str, weights: str) -> float:
    """Seconds of one run, after a short one that makes what is made only once."""
    seconds(FnApiRunner(), weights, batches=100)
    return WAYS[way](weights)


def pipelines() -> None:
    """Each run has a process of its own, so that none inherits what another one left behind."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.bench.bench_watch"])
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder, "small.pt"))
        torch.save(Small().state_dict(), weights)
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        with context.Pool(1, maxtasksperchild=1) as processes:
            for number in range(ROUNDS):
                print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
                for name in chance.sample(list(WAYS), len(WAYS)):
                    times[name].append(processes.apply(once, (name, weights)))
    print(f"{BATCHES:,} batches of 1 element, 4 models, median of {ROUNDS} rounds")
    for name, mine in times.items():
        ratios = [own / bare for own, bare in zip(mine, times["unwatched"], strict=True)]
        print(
            f"  {name:<10} {statistics.median(mine):6.2f} s   × {statistics.median(ratios):.3f} of "
            f"the unwatched run of its round ({min(ratios):.3f} to {max(ratios):.3f})"
        )


def events() -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Log(folder, "bench")
        recorder, site = recorder_for(log), Site("Classify", "CONFIG_1", "KEY_1")
        line = b"x" * 200 + b"\n"
        fd = os.open(Path(folder, "bare"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        ours, bare = [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            for _ in range(EVENTS):
                recorder.use_begins(site, 1, 1, ',"keys":{"KEY_1":1}')
            ours.append((time.perf_counter() - began) / EVENTS * 1e6)
            began = time.perf_counter()
            for _ in range(EVENTS):
                os.write(fd, line)
            bare.append((time.perf_counter() - began) / EVENTS * 1e6)
        os.close(fd)
        close_recorder(log)
    event, write = statistics.median(ours), statistics.median(bare)
    print(f"one event {event:.2f} µs, one bare os.write of 200 bytes {write:.2f} µs: "
          f"× {event / write:.2f}")  # fmt: skip


if __name__ == "__main__":
    events()
    pipelines()
