"""What watching costs: watched against unwatched, beside two profilers.

Prints medians and ratios. Run it with `make bench`. Two ways to measure, because each misses what
the other sees: batches of one run that take turns (precise: on a busy machine whole runs differ by
more than what is measured), and whole runs in fresh processes (all there is to pay, from the first
import to the trace).
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
from collections.abc import Callable, Sequence
from pathlib import Path

logging.disable(logging.WARNING)

import apache_beam as beam  # noqa: E402
import torch  # noqa: E402
from apache_beam.ml.inference.base import KeyModelMapping, RunInference  # noqa: E402
from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor  # noqa: E402
from apache_beam.runners.portability.fn_api_runner import FnApiRunner  # noqa: E402
from viztracer import VizTracer  # noqa: E402

from mmlab import WatchRunner, lessons  # noqa: E402
from mmlab.transforms import FixedBatches  # noqa: E402
from mmlab.worker import handler as watching  # noqa: E402
from mmlab.worker.recorder import Log, Site, close_recorder, recorder_for  # noqa: E402

BATCHES = 5_000
TURNS = 20_000
BATCHES_A_TURN = 10  # in a row, because a watched run finds our code in the processor's cache
ROUNDS = 5
EVENTS = 100_000


class Small(torch.nn.Linear):
    """A model so small that everything around it shows."""

    def __init__(self) -> None:
        super().__init__(8, 2)


def seconds(
    runner: beam.runners.runner.PipelineRunner,
    models: list[KeyModelMapping],
    example: torch.Tensor,
    batches: int,
) -> float:
    """Seconds of a run of batches of one element, whose keys take turns."""
    keys = [key for mapping in models for key in mapping.keys]
    elements = [(keys[i % len(keys)], example) for i in range(batches)]
    began = time.perf_counter()
    with beam.Pipeline(runner) as pipeline:
        _ = (
            pipeline
            | beam.Create(elements, reshuffle=False)
            | RunInference(FixedBatches(models, batch_size=1))
        )
    return time.perf_counter() - began


def small(
    runner: beam.runners.runner.PipelineRunner, weights: str, batches: int = BATCHES
) -> float:
    models = [
        KeyModelMapping([f"KEY_{i}"], PytorchModelHandlerTensor(weights, Small)) for i in range(4)
    ]
    return seconds(runner, models, torch.zeros(8), batches)


def unwatched(weights: str) -> float:
    return small(FnApiRunner(), weights)


def watched(weights: str) -> float:
    return small(WatchRunner("FnApiRunner"), weights)


def with_cprofile(weights: str) -> float:
    profile = cProfile.Profile()
    profile.enable()
    try:
        return small(FnApiRunner(), weights)
    finally:
        profile.disable()


def with_viztracer(weights: str) -> float:
    tracer = VizTracer(verbose=0, tracer_entries=5_000_000)
    tracer.start()
    try:
        return small(FnApiRunner(), weights)
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
    small(FnApiRunner(), weights, batches=100)
    return WAYS[way](weights)


def weights_in(folder: str) -> str:
    weights = str(Path(folder, "small.pt"))
    torch.save(Small().state_dict(), weights)
    return weights


def whole_runs() -> None:
    """Each run has a process of its own, so that none inherits what another one left behind."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.bench.bench_watch"])
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        weights = weights_in(folder)
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        with context.Pool(1, maxtasksperchild=1) as processes:
            for number in range(ROUNDS):
                print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
                for name in chance.sample(list(WAYS), len(WAYS)):
                    times[name].append(processes.apply(once, (name, weights)))
    print(f"whole runs: {BATCHES:,} batches, 4 models of 18 weights, median of {ROUNDS} rounds")
    for name, mine in times.items():
        ratios = [own / bare for own, bare in zip(mine, times["unwatched"], strict=True)]
        print(
            f"  {name:<10} {statistics.median(mine):6.2f} s   × {statistics.median(ratios):.3f} of "
            f"the unwatched run of its round ({min(ratios):.3f} to {max(ratios):.3f})"
        )


class Turns:
    """The batches of one watched run, which take turns at random: unwatched, watched or profiled.

    Args:
      ways: how the batches are to run. Profilers have runs of their own: even while they are off,
        they make the code of others slower.

    Attributes:
      microseconds: of a batch of each turn, from one batch to the next.
    """

    def __init__(self, ways: Sequence[str]) -> None:
        profile, tracer = cProfile.Profile(), VizTracer(verbose=0, tracer_entries=1_000_000)
        switches = {
            "unwatched": (_nothing, _nothing),
            "watched": (_nothing, _nothing),
            "cProfile": (profile.enable, profile.disable),
            "VizTracer": (tracer.start, tracer.stop),
        }
        self._switches = {way: switches[way] for way in ways}
        self._chance = random.Random(1)
        self._to_come: list[str] = []
        self._way, self._began, self._batches = "unwatched", 0.0, 0
        self.microseconds: list[tuple[str, float]] = []

    def measure(self, run: Callable[[], object]) -> None:
        keyed, alone = watching._KeyedInference.__call__, watching._Inference.__call__

        def batch(method: watching._Watched, *args: object) -> object:
            self._next()
            return (keyed if self._way == "watched" else _bare)(method, *args)

        def model(method: watching._Watched, *args: object) -> object:
            return (alone if self._way == "watched" else _bare)(method, *args)

        watching._KeyedInference.__call__, watching._Inference.__call__ = batch, model
        try:
            run()
        finally:
            self._switches[self._way][1]()
            watching._KeyedInference.__call__, watching._Inference.__call__ = keyed, alone

    def _next(self) -> None:
        self._batches += 1
        if self._batches % BATCHES_A_TURN:
            return
        seconds = time.perf_counter() - self._began
        self.microseconds.append((self._way, seconds / BATCHES_A_TURN * 1e6))
        self._switches[self._way][1]()
        if not self._to_come:
            self._to_come = self._chance.sample(list(self._switches), len(self._switches))
        self._way = self._to_come.pop()
        self._switches[self._way][0]()
        self._began = time.perf_counter()

    def rounds(self) -> list[dict[str, float]]:
        """Each way once in every round; what came before the first one is no turn."""
        turns, n = self.microseconds[1:], len(self._switches)
        return [dict(turns[i : i + n]) for i in range(0, len(turns) - n + 1, n)]


def _nothing() -> None:
    pass


def _bare(method: watching._Watched, *args: object) -> object:
    return method.original(*args)


def in_turns() -> None:
    with tempfile.TemporaryDirectory() as folder:
        weights = weights_in(folder)
        runs: dict[str, Callable[[int], object]] = {
            "the lessons' models of 64 MB": lambda batches: seconds(
                WatchRunner("FnApiRunner"), lessons.mapping(), torch.zeros(64), batches
            ),
            "models of 18 weights": lambda batches: small(
                WatchRunner("FnApiRunner"), weights, batches
            ),
        }
        for what, run in runs.items():
            print(f"{TURNS:,} batches of {what} take turns", file=sys.stderr)
            run(200)
            for ways in (["watched"], ["cProfile", "VizTracer"]):
                turns = Turns(["unwatched", *ways])
                turns.measure(lambda run=run: run(TURNS))
                report(what, ways, turns.rounds())


def report(what: str, ways: list[str], rounds: list[dict[str, float]]) -> None:
    bare = statistics.median(turn["unwatched"] for turn in rounds)
    print(f"{what}: {TURNS:,} batches of 1 element take turns, {bare:,.0f} µs each when unwatched")
    for way in ways:
        more = sorted(turn[way] - turn["unwatched"] for turn in rounds)
        # The error of a median, from what lies between the 16th and the 84th percentile.
        error = 1.25 * (more[len(more) * 84 // 100] - more[len(more) * 16 // 100]) / 2
        error /= len(more) ** 0.5
        ratio = 1 + statistics.median(more) / bare
        print(f"  {way:<10} × {ratio:.3f}, {statistics.median(more):+.0f} ± {error:.0f} µs a batch")


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
                recorder.use_begins(site, 0, 1, {"KEY_1": 1})
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
    in_turns()
    whole_runs()
