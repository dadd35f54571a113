"""Functions that build pipelines, for fresh processes; models of a size that memory shows."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import subprocess
import time
from pathlib import Path

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference

from mmlab import GroupByModel
from tests.handlers import NamedModels, keyed
from tests.waiting import wait_for

NEVER_SECONDS = 900
"""What sleeps so long is ended by something else, on the slowest machine too."""
NAP = "MMLAB_TEST_NAP"
"""The environment variable that says how long the processes of a `Runaway` sleep."""
MEGABYTES = 20
COHORTS = [["a", "b"], ["c"], ["d", "e"], ["f"]]
"""Four models; two of them answer two keys."""


class TorchModels(NamedModels):
    """Models of 20 MB that take nothing from disk."""

    megabytes = MEGABYTES

    def load_model(self):
        from tests.integration.weights import Weights  # other runs have no PyTorch

        return Weights(self.megabytes)

    def run_inference(self, batch, model, inference_args=None):
        return [float(model.weights[0, 0]) for _ in batch]


class HugeModels(TorchModels):
    """Models of 60 MB: one more than the room that is left, whatever else needs room."""

    megabytes = 60


def turns(n):
    """Keys that take turns, so that neighbours ask for different models."""
    keys = [key for cohort in COHORTS for key in cohort]
    return [(keys[i % len(keys)], i) for i in range(n)]


def models_in_turn(pipeline, hint, n=18, handler=TorchModels, group=None):
    """`n` elements whose keys take turns, grouped by nothing, "key" or "model"."""
    keyed_handler = keyed(COHORTS, hint, handler=handler)
    pairs = pipeline | beam.Create(turns(n), reshuffle=False)
    if group == "key":
        pairs = pairs | beam.GroupByKey() | beam.FlatMap(lambda kv: [(kv[0], v) for v in kv[1]])
    if group == "model":
        pairs = pairs | GroupByModel(keyed_handler)
    _ = pairs | "Score" >> RunInference(keyed_handler)


def small_models(pipeline, hint, n=12):
    models_in_turn(pipeline, hint, n, NamedModels)


def thrashing(pipeline):
    """Two models and a hint of 1, as small as it can be: each of six elements is a load."""
    pairs = pipeline | beam.Create([("a", 0), ("b", 1)] * 3, reshuffle=False)
    _ = pairs | "Score" >> RunInference(keyed([["a"], ["b"]], 1))


def huge_models(pipeline, hint, n=18):
    models_in_turn(pipeline, hint, n, HugeModels)


class Sleepy(NamedModels):
    """Never ends with element 3, with a child process of its own beside it."""

    def run_inference(self, batch, model, inference_args=None):
        if 3 in batch:
            os.spawnlp(os.P_NOWAIT, "sleep", "sleep", str(NEVER_SECONDS))
            time.sleep(NEVER_SECONDS)
        return super().run_inference(batch, model, inference_args)


def sleepy(pipeline, hint):
    models_in_turn(pipeline, hint, handler=Sleepy)


class Hangs(NamedModels):
    """Hangs in a library at element 3, and lets no other thread of Python work meanwhile."""

    def run_inference(self, batch, model, inference_args=None):
        if 3 in batch:
            ctypes.PyDLL(None).sleep(NEVER_SECONDS)
        return super().run_inference(batch, model, inference_args)


def hangs(pipeline, hint):
    models_in_turn(pipeline, hint, handler=Hangs)


class Killed(NamedModels):
    def run_inference(self, batch, model, inference_args=None):
        if 3 in batch:
            os.kill(os.getpid(), 9)
        return super().run_inference(batch, model, inference_args)


def killed(pipeline, hint):
    models_in_turn(pipeline, hint, handler=Killed)


class Failing(NamedModels):
    def run_inference(self, batch, model, inference_args=None):
        raise RuntimeError("the model has gone mad")


def failing(pipeline, hint):
    print("said before")
    models_in_turn(pipeline, hint, handler=Failing)


def after_a_source(pipeline, source, hint=2, n=6):
    """Elements that wait for `source`, a function of one element that returns it."""
    pairs = pipeline | beam.Create(turns(n), reshuffle=False) | "Source" >> beam.Map(source)
    _ = pairs | "Score" >> RunInference(keyed(COHORTS, hint))


def slow(pair, seconds=1.0):
    """Waits a while, with nothing done."""
    time.sleep(seconds)
    return pair


def full(pair):
    """Takes all the memory that there is, and waits for more, as gRPC does."""
    held = []
    for size in (8 << 20, 1 << 20, 1 << 16):
        try:
            while True:
                held.append(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE))
        except OSError:
            pass
    time.sleep(NEVER_SECONDS)
    return pair


class Fills(NamedModels):
    def run_inference(self, batch, model, inference_args=None):
        return full(super().run_inference(batch, model, inference_args))


def filled(pipeline):
    models_in_turn(pipeline, 1, handler=Fills)


class Waits(NamedModels):
    def run_inference(self, batch, model, inference_args=None):
        return slow(super().run_inference(batch, model, inference_args), 0.8)


def sleepy_for_a_while(pipeline):
    models_in_turn(pipeline, 1, handler=Waits)


def threadless(pair):
    """Says what Python says of a thread that could not be started, and waits for it, with room."""
    print("RuntimeError: can't start new thread", flush=True)
    time.sleep(NEVER_SECONDS)
    return pair


def divides_by_zero(pair):
    return pair[1] / 0


class Runaway(NamedModels):
    """Starts a process in a session of its own, whose own child outlives it; then goes on."""

    def run_inference(self, batch, model, inference_args=None):
        if 3 in batch:
            nap = os.environ[NAP]
            command = f"sleep {nap} & (setsid sleep {nap} &) ; exit"
            subprocess.Popen(["sh", "-c", command], start_new_session=True).wait()
            subprocess.Popen(["sleep", nap], start_new_session=True)
            self.then()
        return super().run_inference(batch, model, inference_args)

    def then(self):
        pass


class RunawayWaiting(Runaway):
    def then(self):
        time.sleep(NEVER_SECONDS)


class RunawayKilled(Runaway):
    def then(self):
        os.kill(os.getpid(), 9)


def runaway(pipeline, handler=Runaway):
    models_in_turn(pipeline, 2, handler=handler)


class Aborting(NamedModels):
    """Ends as C++ does when there is no memory: says so, and aborts."""

    def run_inference(self, batch, model, inference_args=None):
        if 3 in batch:
            os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
            os.abort()
        return super().run_inference(batch, model, inference_args)


def aborting(pipeline, hint):
    models_in_turn(pipeline, hint, handler=Aborting)


def meeting(pipeline, hint, folder, runs):
    """After its first model is loaded, each run waits until `runs` of them have come so far."""

    def wait(result):
        Path(folder, str(hint)).touch()
        wait_for(lambda: len([*Path(folder).iterdir()]) >= runs)
        return result

    keyed_handler = keyed(COHORTS, hint, handler=TorchModels)
    results = (
        pipeline | beam.Create(turns(6), reshuffle=False) | "Score" >> RunInference(keyed_handler)
    )
    _ = results | beam.Map(wait)


def counting_threads(pipeline, hint, folder):
    """Notes in a file how many threads PyTorch has."""
    models_in_turn(pipeline, hint)

    def note(_):
        import torch

        Path(folder, str(hint)).write_text(f"{torch.get_num_threads()}")

    _ = pipeline | "One" >> beam.Create([0]) | beam.Map(note)


def random_keys(pipeline, hint, seed):
    """Keys in a random order; batches of one element."""
    chance = random.Random(seed)
    models = [[f"{seed} {m} {k}" for k in range(chance.randint(1, 3))]
              for m in range(chance.randint(2, 6))]  # fmt: skip
    keys = [key for cohort in models for key in cohort]
    pairs = [(chance.choice(keys), i) for i in range(chance.randint(1, 60))]
    elements = pipeline | beam.Create(pairs, reshuffle=False)
    _ = elements | "Score" >> RunInference(keyed(models, hint))
