"""Random pipelines with models, each run watched and unwatched, and what differs between the two.

`python -m tests.integration.watching.random_pipelines --seeds 0:500` runs 500 pipelines, in fresh
processes, and prints those that differ. `--seeds 17` runs one again. With `--prism PROGRAM` they
run on what Beam chooses where there is such a Prism, until `--most` of them ran on Prism.

Beam leaves threads behind with every load, so one process runs few pipelines.
"""

# ruff: noqa: B008 - Beam's states and timers are calls in default arguments

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import logging
import multiprocessing
import os
import random
import re
import socket
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from multiprocessing import connection
from typing import Any

import apache_beam as beam
import psutil
from apache_beam.coders import StrUtf8Coder, VarIntCoder
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.metrics import Metrics
from apache_beam.metrics.cells import BoundedTrieData, StringSetData
from apache_beam.metrics.monitoring_infos import ELEMENT_COUNT_URN, extract_counter_value
from apache_beam.ml.inference.base import (
    KeyedModelHandler,
    KeyModelMapping,
    MaybeKeyedModelHandler,
    ModelHandler,
    PredictionResult,
    RunInference,
)
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import PipelineVisitor
from apache_beam.pvalue import AsList, AsMultiMap, PCollection, TaggedOutput
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner
from apache_beam.transforms import userstate
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.window import FixedWindows, GlobalWindows, TimestampedValue

from mmlab import Trace, WatchRunner
from mmlab.beam.shared import keep_addresses_in

PER_PROCESS = 10
"""Pipelines per process."""

HANGS = 120
"""Seconds after which a pipeline is said to hang."""

SOON = 1e-6
"""Seconds until a batch by time is full.

`FnApiRunner` fails where a timer of real time is due after all else has been done.
"""

Pair = tuple[str, int]


# What a pipeline is


class _Short:
    """Writes itself with those fields that are not as usual."""

    def __repr__(self) -> str:
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        usual = {f.name: f.default for f in fields(self)}
        told = [f"{name}={value!r}" for name, value in own.items() if value != usual[name]]
        return f"{type(self).__name__}({', '.join(told)})"


@dataclass(frozen=True, repr=False)
class Scorer(_Short):
    """One `RunInference` step.

    Attributes:
      keyed: "no", "one model", "maybe" (`MaybeKeyedModelHandler`) or "many models".
      cohorts: number of keys of each model; one model has one entry.
      hint: `max_models_per_worker_hint`.
      batch: size of all batches; None for Beam's adaptive batching.
      seconds: `max_batch_duration_secs`.
      lazy: whether the handler computes predictions while they are read.
      large: whether the model lives behind a proxy, `large_model`.
      processed: whether it has a preprocessing and a postprocessing function.
      letters: options of `with_exception_handling`, or None for none.
      named: whether it has a metrics namespace and inference arguments of its own.
    """

    keyed: str = "no"
    cohorts: tuple[int, ...] = (1,)
    hint: int | None = None
    batch: int | None = 1
    seconds: float | None = None
    lazy: bool = False
    large: bool = False
    processed: bool = False
    letters: Mapping[str, Any] | None = None
    named: bool = False


@dataclass(frozen=True, repr=False)
class Description(_Short):
    """A pipeline: a source, steps, models in some shape, steps, and a sink.

    Attributes:
      seed: that it was drawn with.
      elements: number of elements `("K<i>", i)`.
      keys: number of different keys.
      reshuffle: whether the source is reshuffled.
      before: names in `STEPS`, of the steps before the models.
      shape: "one", "sequence", "branches" or "partition".
      scorers: one for each `RunInference`.
      shared: whether they share their models (`model_identifier`).
      after: names in `STEPS`, of the steps after the models.
      fault: what goes wrong, a name in `FAULTS`.
      threads: number of workers in this process.
    """

    seed: int
    elements: int = 12
    keys: int = 3
    reshuffle: bool = False
    before: tuple[str, ...] = ()
    shape: str = "one"
    scorers: tuple[Scorer, ...] = (Scorer(),)
    shared: bool = False
    after: tuple[str, ...] = ()
    fault: str = "none"
    threads: int = 1

    @property
    def by_time(self) -> bool:
        """Whether batches are full after some time."""
        waits = any(scorer.seconds is not None for scorer in self.scorers)
        return waits or "batches by time" in (*self.before, *self.after)

    @property
    def exact(self) -> bool:
        """Whether each run of the pipeline has the same batches, in the same order."""
        adaptive = any(scorer.batch is None for scorer in self.scorers)
        return self.threads == 1 and not adaptive and not self.by_time

    @property
    def stable_batches(self) -> bool:
        """Whether each run has the same batches, in some order."""
        return self.exact or all(s.batch == 1 and s.seconds is None for s in self.scorers)

    @property
    def may_fail(self) -> bool:
        """Whether something goes wrong: the fault, or what Beam 2.77 cannot run.

        `FnApiRunner` fails where a timer of real time was cleared by the last batch.
        """
        return (
            self.fault != "none"
            or self.by_time
            or any(scorer.processed and scorer.keyed == "many models" for scorer in self.scorers)
        )

    def kinds(self) -> list[str]:
        """What was drawn, to be counted."""
        found = {*self.before, *self.after, f"shape: {self.shape}"}
        found |= {"shared models"} if self.shared else set()
        found |= {f"fault: {self.fault}"} if self.fault != "none" else set()
        found |= {"several threads"} if self.threads > 1 else set()
        found |= {"one element or none"} if self.elements < 2 else set()
        found |= {"reshuffled source"} if self.reshuffle else set()
        found |= {"batches that depend on time"} if not self.exact else {"same batches"}
        for scorer in self.scorers:
            found.add(f"keyed: {scorer.keyed}")
            if scorer.keyed == "many models":
                found.add("hint" if scorer.hint else "no hint")
                if scorer.hint and scorer.hint < len(scorer.cohorts):
                    found.add("hint below the number of models")
            for name in ("seconds", "lazy", "large", "processed", "named"):
                found |= {f"handler: {name}"} if getattr(scorer, name) else set()
            if scorer.letters is not None:
                found.add(" ".join(["dead letters of a model", *scorer.letters]))
        return sorted(found)


def drawn(seed: int) -> Description:
    """The pipeline of that seed."""
    draw = random.Random(seed)
    threads = draw.choice([2, 3]) if draw.random() < 0.15 else 1
    shape = draw.choice(["one", "one", "sequence", "branches", "partition"])
    shared = shape != "one" and draw.random() < 0.25
    number = 1 if shape == "one" else draw.choice([2, 2, 2, 2, 3])
    keys = draw.randint(1, 5)
    scorers = [_scorer(draw, keys, threads) for _ in range(number)]
    if shared:
        scorers = [replace(scorers[0], large=scorers[0].keyed != "many models")] * number
    every_step = sorted(STEPS)
    before = [every_step[seed % len(every_step)]]
    if draw.random() < 0.25:
        before.append(draw.choice(every_step))
    after = [draw.choice(every_step)] if draw.random() < 0.25 else []
    if TIMED & {*before, *after}:
        # Beam 2.77 decodes the timers of two fused steps by the coder of one of them.
        scorers = [replace(scorer, seconds=None) for scorer in scorers]
    description = Description(
        seed,
        elements=draw.choice([0, 1, *range(4, 14)]),
        keys=keys,
        reshuffle=draw.random() < 0.3,
        before=tuple(dict.fromkeys(before)),
        shape=shape,
        scorers=tuple(scorers),
        shared=shared,
        after=tuple(after),
        threads=threads,
    )
    return replace(description, fault=_fault(draw, description))


def _scorer(draw: random.Random, keys: int, threads: int) -> Scorer:
    keyed = draw.choice(["no", "one model", "maybe", "many models", "many models", "many models"])
    cohorts = _split(draw, keys) if keyed == "many models" else (keys,)
    hint = None
    if keyed == "many models" and draw.random() < 0.7:
        lowest = len(cohorts) if threads > 1 else 1
        hint = draw.randint(lowest, len(cohorts) + 1)
    return Scorer(
        keyed=keyed,
        cohorts=cohorts,
        hint=hint,
        batch=draw.choice([1, 1, 1, 2, 2, 3, 7, None]),
        seconds=SOON if draw.random() < 0.15 else None,
        lazy=draw.random() < 0.3,
        large=keyed != "many models" and draw.random() < 0.1,
        # Beam cannot run a keyed handler of several models with such functions.
        processed=draw.random() < (0.02 if keyed == "many models" else 0.3),
        letters=draw.choice([{}, {"timeout": 60}]) if draw.random() < 0.2 else None,
        named=draw.random() < 0.2,
    )


def _split(draw: random.Random, keys: int) -> tuple[int, ...]:
    """`keys` as a sum of positive numbers."""
    parts = []
    while keys:
        parts.append(draw.randint(1, min(keys, 2)))
        keys -= parts[-1]
    return tuple(parts)


def _fault(draw: random.Random, description: Description) -> str:
    if description.seed % 3 != 2:
        return "none"
    many = any(scorer.keyed == "many models" for scorer in description.scorers)
    letters = any(scorer.letters is not None for scorer in description.scorers)
    # What shares a batch with an element that fails becomes a dead letter too.
    if letters and not description.stable_batches:
        return "none"
    return draw.choice(["poison", "step", "load", *["key", "key"] * many])


FAULTS = {
    "none": "nothing",
    "poison": "the model refuses element 3",
    "step": "a step before the models refuses element 3",
    "load": "the first model cannot be loaded",
    "key": "an element has a key that no model is mapped to",
}
REFUSED = 3


# Its models


class Model:
    """Answers by a method, so that it can live behind a proxy."""

    def __init__(self, name: str):
        self.name = name

    def answer(self, example: Any) -> str:
        return f"{self.name} of {example!r}"


class RandomHandler(ModelHandler):
    """Counts what it does, and says so in its predictions where that does not depend on time."""

    def __init__(self, name: str, scorer: Scorer, fault: str, exact: bool):
        sizes = {} if scorer.batch is None else _sizes(scorer.batch)
        by_time = {} if scorer.seconds is None else {"max_batch_duration_secs": scorer.seconds}
        # Ignored, with a warning, in a keyed handler of several models: there Batches says it.
        alone = {} if scorer.keyed == "many models" else {**sizes, **by_time}
        super().__init__(large_model=scorer.large, **alone)
        self._name = name
        self._lazy = scorer.lazy
        self._fault = fault
        self._exact = exact
        self._batches = 0

    def load_model(self):
        Metrics.counter("author", "loads").inc()
        if self._fault == "load" and self._name.endswith("0"):
            raise OSError(f"{self._name} is not there")
        return Model(self._name)

    def run_inference(self, batch, model, inference_args=None):
        self._batches += 1
        Metrics.counter("author", "examples").inc(len(batch))
        if self._fault == "poison" and any(_number(example) == REFUSED for example in batch):
            raise ValueError(f"{self._name} refuses {REFUSED}")
        told = f", {len(batch)} in batch {self._batches}" if self._exact else ""
        answers = (
            PredictionResult(example, f"{model.answer(example)}{told}", inference_args)
            for example in batch
        )
        return answers if self._lazy else list(answers)

    def validate_inference_args(self, inference_args):
        pass


def _sizes(batch: int) -> dict[str, int]:
    return {"min_batch_size": batch, "max_batch_size": batch}


def _number(example: Any) -> int:
    return example[1] if isinstance(example, tuple) else example


class Batches(KeyedModelHandler):
    """A keyed handler with several models that says how elements are batched."""

    def __init__(self, mappings: list[KeyModelMapping], scorer: Scorer):
        super().__init__(mappings, scorer.hint)
        self._scorer = scorer

    def batch_elements_kwargs(self):
        sizes = {} if self._scorer.batch is None else _sizes(self._scorer.batch)
        seconds = self._scorer.seconds
        return sizes if seconds is None else {**sizes, "max_batch_duration_secs": seconds}


def handler_of(scorer: Scorer, fault: str, exact: bool) -> ModelHandler:
    """The model handler of a step."""
    if scorer.keyed == "many models":
        keys = iter(f"K{i}" for i in range(sum(scorer.cohorts)))
        mappings = [
            KeyModelMapping(
                [next(keys) for _ in range(n)], RandomHandler(f"m{i}", scorer, fault, exact)
            )
            for i, n in enumerate(scorer.cohorts)
        ]
        handler = Batches(mappings, scorer)
    else:
        handler = RandomHandler("m0", scorer, fault, exact)
        around = {
            "no": lambda h: h,
            "one model": KeyedModelHandler,
            "maybe": MaybeKeyedModelHandler,
        }
        handler = around[scorer.keyed](handler)
    if scorer.processed:
        handler = handler.with_preprocess_fn(doubled).with_postprocess_fn(noted)
    return handler


def doubled(pair: Pair) -> Pair:
    return pair[0], pair[1] * 2


def noted(result: Any) -> Any:
    return "noted", result


# Its steps


class Bag(beam.DoFn):
    """Every third element of a key comes out twice."""

    SEEN = userstate.BagStateSpec("seen", VarIntCoder())

    def process(self, pair, seen=beam.DoFn.StateParam(SEEN)):
        yield pair
        if len(list(seen.read())) == 2:
            yield pair[0], 100
            seen.clear()
        else:
            seen.add(pair[1])


class Value(beam.DoFn):
    """Every second element of a key comes out twice."""

    LAST = userstate.ReadModifyWriteStateSpec("last", StrUtf8Coder())

    def process(self, pair, last=beam.DoFn.StateParam(LAST)):
        yield pair
        if last.read():
            yield pair[0], 200
            last.clear()
        else:
            last.write(repr(pair))


class Combining(beam.DoFn):
    """Adds how many elements of the key there have been."""

    COUNT = userstate.CombiningValueStateSpec("count", combine_fn=sum)

    def process(self, pair, count=beam.DoFn.StateParam(COUNT)):
        count.add(1)
        yield pair
        yield pair[0], 300 + count.read()


class AtEndOfWindow(beam.DoFn):
    """Adds, when a window ends, the sum of its elements of a key."""

    NUMBERS = userstate.BagStateSpec("numbers", VarIntCoder())
    END = userstate.TimerSpec("end", TimeDomain.WATERMARK)

    def process(
        self,
        pair,
        window=beam.DoFn.WindowParam,
        numbers=beam.DoFn.StateParam(NUMBERS),
        end=beam.DoFn.TimerParam(END),
    ):
        numbers.add(pair[1])
        end.set(window.end)
        Metrics.counter("author", "timers set").inc()
        yield pair

    @userstate.on_timer(END)
    def at_end(self, key=beam.DoFn.KeyParam, numbers=beam.DoFn.StateParam(NUMBERS)):
        Metrics.counter("author", "timers fired").inc()
        yield key, 400 + sum(numbers.read())


class Pieces(beam.RestrictionProvider):
    """One to three pieces of each element."""

    def initial_restriction(self, pair):
        return OffsetRange(0, 1 + pair[1] % 3)

    def create_tracker(self, restriction):
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, pair, restriction):
        return restriction.size()


class Splittable(beam.DoFn):
    """Each element comes out once for each of its pieces."""

    def process(self, pair, tracker=beam.DoFn.RestrictionParam(Pieces())):
        position = tracker.current_restriction().start
        while tracker.try_claim(position):
            yield pair[0], pair[1] + 1000 * position
            position += 1


class Deferring(beam.DoFn):
    """As `Splittable`, with a bundle of its own for each piece."""

    def process(self, pair, tracker=beam.DoFn.RestrictionParam(Pieces())):
        position = tracker.current_restriction().start
        if tracker.try_claim(position):
            yield pair[0], pair[1] + 1000 * position
            tracker.defer_remainder()


class Counted(beam.DoFn):
    """Uses every kind of metric that an author has."""

    def process(self, pair):
        Metrics.counter("author", f"of {pair[0]}").inc()
        Metrics.distribution("author", "numbers").update(pair[1])
        Metrics.gauge("author", "last").set(pair[1])
        Metrics.string_set("author", "keys").add(pair[0])
        Metrics.bounded_trie("author", "paths").add(("keys", pair[0]))
        yield pair


class Routed(beam.DoFn):
    """Even numbers come out under a tag."""

    def process(self, pair):
        yield pair if pair[1] % 2 else TaggedOutput("even", pair)


def timestamped(pair: Pair) -> TimestampedValue:
    return TimestampedValue(pair, pair[1] % 20)


def parity(pair: Pair, parts: int) -> int:
    return pair[1] % parts


def ungrouped(pair: tuple[str, Iterable[int]]) -> list[Pair]:
    return [(pair[0], number) for number in pair[1]]


def with_sides(pair: Pair, of_keys: Mapping[str, Iterable[int]], every: list[Pair]) -> Pair:
    return pair[0], pair[1] + 10_000 * len(list(of_keys[pair[0]])) + 100_000 * len(every)


def not_seven(pair: Pair) -> Pair:
    if pair[1] % 7 == 0:
        raise ValueError(f"{pair} is refused")
    return pair


def refuses(pair: Pair) -> Pair:
    if pair[1] == REFUSED:
        raise ValueError(f"no {REFUSED}, please")
    return pair


def _pairs(transform: beam.PTransform) -> beam.PTransform:
    """The transform, with the type of its output: states need the coders of keys and values."""
    return transform.with_output_types(Pair)


def in_windows(pairs: PCollection, label: str) -> PCollection:
    timed = pairs | f"{label} times" >> _pairs(beam.Map(timestamped))
    return timed | f"{label} windows" >> beam.WindowInto(FixedWindows(5))


def timers(pairs: PCollection, label: str) -> PCollection:
    added = in_windows(pairs, label) | label >> _pairs(beam.ParDo(AtEndOfWindow()))
    return added | f"{label} global" >> beam.WindowInto(GlobalWindows())


def group_into_batches(pairs: PCollection, label: str, **by_time: float) -> PCollection:
    batches = pairs | label >> beam.GroupIntoBatches(3, **by_time)
    return batches | f"{label} ungrouped" >> _pairs(beam.FlatMap(ungrouped))


def grouped(pairs: PCollection, label: str) -> PCollection:
    groups = pairs | label >> beam.GroupByKey()
    return groups | f"{label} ungrouped" >> _pairs(beam.FlatMap(ungrouped))


def sides(pairs: PCollection, label: str) -> PCollection:
    return pairs | label >> _pairs(beam.Map(with_sides, AsMultiMap(pairs), AsList(pairs)))


def dead_letters(pairs: PCollection, label: str) -> PCollection:
    good, bad = pairs | label >> _pairs(beam.Map(not_seven)).with_exception_handling()
    _dead(bad, f"{label} dead")
    return good


def flattened(pairs: PCollection, label: str) -> PCollection:
    tagged = pairs | label >> _pairs(beam.ParDo(Routed())).with_outputs("even", main="odd")
    return (tagged.odd, tagged.even, tagged.odd) | f"{label} merged" >> beam.Flatten()


def combined(pairs: PCollection, label: str) -> PCollection:
    sums = pairs | label >> _pairs(beam.CombinePerKey(sum))
    return (pairs, sums) | f"{label} merged" >> beam.Flatten()


def _pardo(dofn: Callable[[], beam.DoFn]) -> Callable[[PCollection, str], PCollection]:
    return lambda pairs, label: pairs | label >> _pairs(beam.ParDo(dofn()))


STEPS: dict[str, Callable[[PCollection, str], PCollection]] = {
    "bag state": _pardo(Bag),
    "value state": _pardo(Value),
    "combining state": _pardo(Combining),
    "timers": timers,
    "windows": in_windows,
    "splittable": _pardo(Splittable),
    "splittable, deferring": _pardo(Deferring),
    "batches": group_into_batches,
    "batches by time": lambda pairs, label: group_into_batches(
        pairs, label, max_buffering_duration_secs=SOON
    ),
    "grouped": grouped,
    "side inputs": sides,
    "dead letters": dead_letters,
    "metrics": _pardo(Counted),
    "flatten": flattened,
    "combine": combined,
    "reshuffle": lambda pairs, label: pairs | label >> beam.Reshuffle(),
}
TIMED = {"timers", "batches", "batches by time"}


# Building and running


_collected: dict[str, list[str]] = defaultdict(list)
_collected_lock = threading.Lock()


def collect(element: Any, sink: str) -> None:
    with _collected_lock:
        _collected[sink].append(normalised(repr(element)))


def collect_dead(failed: tuple[Any, tuple[type, str, Any]], sink: str) -> None:
    """Collect a dead letter without its traceback, which has frames of whoever called."""
    element, (kind, text, _) = failed
    collect((element, kind.__name__, text), sink)


def _dead(letters: PCollection, name: str) -> None:
    _ = letters | f"sink of {name}" >> beam.Map(collect_dead, name)


def _sink(collection: PCollection, name: str) -> None:
    _ = collection | f"sink of {name}" >> beam.Map(collect, name)


def collected_pair(result: Any, sink: str) -> Pair:
    """Collect a prediction; returns the element that it was made for."""
    collect(result, sink)
    if isinstance(result, tuple) and result[0] == "noted":
        result = result[1]
    if isinstance(result, PredictionResult):
        return result.example
    return result[0], result[1].example


def build(pipeline: beam.Pipeline, description: Description) -> None:
    """Apply what the description says."""
    pairs = [(f"K{i % description.keys}", i) for i in range(description.elements)]
    if description.fault == "key":
        pairs.append(("Z", 1))
    data = pipeline | "source" >> beam.Create(pairs, reshuffle=description.reshuffle)
    if description.fault == "step":
        data = data | "refuses" >> _pairs(beam.Map(refuses))
    for name in description.before:
        data = STEPS[name](data, name)
    data = _SHAPES[description.shape](data, _score_functions(description))
    for name in description.after:
        data = STEPS[name](data, f"{name} after")
    _sink(data, "end")


def _score_functions(description: Description) -> list[Callable[[PCollection], PCollection]]:
    identifier = {"model_identifier": uuid.uuid4().hex} if description.shared else {}

    def score(n: int, scorer: Scorer) -> Callable[[PCollection], PCollection]:
        handler = handler_of(scorer, description.fault, description.exact)
        own = {"metrics_namespace": "Mine", "inference_args": {"n": n}} if scorer.named else {}
        inference = RunInference(handler, **identifier, **own)
        return lambda pairs: _scored(pairs, f"Model {n}", inference, scorer.letters)

    return [score(n, scorer) for n, scorer in enumerate(description.scorers)]


def _scored(
    pairs: PCollection, label: str, inference: RunInference, letters: Mapping[str, Any] | None
) -> PCollection:
    if letters is None:
        results = pairs | label >> inference
    else:
        results, failed = pairs | label >> inference.with_exception_handling(**letters)
        for where in ("inferences", "preprocessing", "postprocessing"):
            found = getattr(failed, f"failed_{where}")
            for i, bad in enumerate(found if isinstance(found, list) else [found]):
                _dead(bad, f"{label} dead {where} {i}")
    return results | f"{label} pairs" >> _pairs(beam.Map(collected_pair, label))


def _sequence(data: PCollection, scores: list[Any]) -> PCollection:
    for score in scores:
        data = score(data)
    return data


def _branches(data: PCollection, scores: list[Any]) -> PCollection:
    return tuple(score(data) for score in scores) | "merged" >> beam.Flatten()


def _partition(data: PCollection, scores: list[Any]) -> PCollection:
    parts = data | "partition" >> beam.Partition(parity, len(scores))
    scored = tuple(score(part) for score, part in zip(scores, parts, strict=True))
    return scored | "merged" >> beam.Flatten()


_SHAPES = {
    "one": _sequence,
    "sequence": _sequence,
    "branches": _branches,
    "partition": _partition,
}


@dataclass(frozen=True)
class Outcome:
    """What an author sees of a run."""

    sinks: dict[str, list[str]] = field(default_factory=dict)
    error: str | None = None
    state: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    every_metric: dict[str, Any] = field(default_factory=dict)
    element_counts: dict[str, int] = field(default_factory=dict)
    made_by: str = "FnApiRunner"


PRISM = "PrismRunner"


def outcome(runner: PipelineRunner, description: Description, flags: Iterable[str] = ()) -> Outcome:
    """Build the pipeline and run it."""
    options = list(flags)
    if description.threads > 1:
        options += [
            "--direct_running_mode=multi_threading",
            f"--direct_num_workers={description.threads}",
        ]
    _collected.clear()
    pipeline = beam.Pipeline(runner, options=PipelineOptions(options))
    build(pipeline, description)
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except Exception as error:
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        return Outcome(dict(_collected), error=f"{name}: {normalised(str(error))}")
    if not hasattr(result, "monitoring_infos"):  # of a portable runner
        metrics = _metrics(result.metrics(), description, parallel=True)
        return Outcome(dict(_collected), None, str(result.state), metrics, made_by=PRISM)
    _read_once(result)
    return Outcome(
        dict(_collected),
        state=str(result.state),
        metrics=_metrics(result.metrics(), description),
        every_metric=_metrics(result.monitoring_metrics(), description),
        element_counts=_element_counts(pipeline, result, description),
    )


def _read_once(result: Any) -> None:
    # Beam keeps the figures of a stage that ran in two bundles as an iterator: whichever of its
    # two kinds of metrics is asked first has them.
    infos = result._monitoring_infos_by_stage
    for stage, found in infos.items():
        infos[stage] = list(found)


def _element_counts(
    pipeline: beam.Pipeline, result: Any, description: Description
) -> dict[str, int]:
    """How many elements crossed each PCollection; those of batches only where they are the same."""
    names = _collection_names(pipeline)
    counts: dict[str, int] = {}
    for info in result.monitoring_infos():
        if info.urn == ELEMENT_COUNT_URN:
            name = names.get(info.labels["PCOLLECTION"], info.labels["PCOLLECTION"])
            if description.exact or "BatchElements" not in name:
                counts[name] = max(extract_counter_value(info), counts.get(name, 0))
    return counts


def _collection_names(pipeline: beam.Pipeline) -> dict[str, str]:
    """Beam's names of PCollections to names that tell where they come from."""
    found: dict[str, str] = {}

    class Finder(PipelineVisitor):
        def visit_transform(self, applied):
            for tag, output in applied.outputs.items():
                its_id = pipeline.component_id_map.get_or_assign(output, PCollection)
                found[its_id] = f"{applied.full_label}[{tag}]"

    pipeline.visit(Finder())
    return found


# What measures time or memory: how often it did is compared, not what it was.
_MEASURED = ("latency", "model_byte_size", "msec")
# Of these, Beam keeps one of many (it leaves the PCollection out of the key), or looks at random
# elements.
_CHANCE = ("element_count", "sampled_byte_size")


def _metrics(
    results: Any, description: Description, *, parallel: bool | None = None
) -> dict[str, str]:
    if parallel is None:
        parallel = description.threads > 1
    of_either = parallel and description.shared
    return {
        normalised(f"{kind}: {metric.key}"): _value(kind, metric, description)
        for kind, metrics in results.query().items()
        for metric in metrics
        if not (of_either and _is_of_load(metric.key.metric.name))
    }


def _is_of_load(name: str) -> bool:
    """Whether a metric is counted at whichever of several steps loads their shared model first."""
    return any(word in name for word in ("load_model", "model_byte_size"))


def _value(kind: str, metric: Any, description: Description) -> str:
    """The value of a metric as far as two runs of one pipeline agree on it."""
    name, committed = metric.key.metric.name, metric.committed
    if any(word in name for word in _CHANCE):
        return "chance"
    if not description.exact and _by_batch(kind, name):
        return "by batches"
    if any(word in name for word in _MEASURED):
        return f"{committed.count} times" if kind == "distributions" else "measured"
    return str(committed.value) if kind == "gauges" else _text(committed)


def _text(committed: Any) -> str:
    if isinstance(committed, StringSetData | BoundedTrieData):
        committed = committed.get_result()
    if isinstance(committed, Set):
        return str(sorted(map(str, committed)))
    return str(committed)


def _by_batch(kind: str, name: str) -> bool:
    """Whether the metric depends on how elements come together, or in which order."""
    words = ("batch", "load", "read_index", *_MEASURED)
    return kind == "gauges" or any(word in name for word in words)


def normalised(text: str) -> str:
    """Text without addresses in memory, identifiers and ports.

    >>> normalised("<Model at 0x7f00> of 8f14e45fceea167a5a36dedd4bea2543 on localhost:43121")
    '<Model at 0x…> of <id> on localhost:<port>'
    """
    text = re.sub(r"0x[0-9a-fA-F]+", "0x…", text)
    text = re.sub(r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", "<id>", text)
    text = re.sub(r"\bjob-\d+", "<job>", text)
    text = re.sub(r"\b(inst|stage-)\d+\b", r"\1<n>", text)
    return re.sub(r"(localhost|127\.0\.0\.1|\[::1?\]):\d+", r"\1:<port>", text)


# Comparing


def differences(one: Outcome, other: Outcome, *, exact: bool, ordered: bool = True) -> list[str]:
    """What two runs of a pipeline differ in, in words.

    Args:
      exact: whether batches are the same each time.
      ordered: whether elements come in the same order then.
    """
    found = []
    errors = [run.error if exact else _of_any_model(run.error) for run in (one, other)]
    if errors[0] != errors[1]:
        found.append(f"error: {one.error} / {other.error}")
    if one.state != other.state:
        found.append(f"state: {one.state} / {other.state}")
    # How far other elements had come when one failed is chance, with batches by time.
    if exact or one.error is None:
        found += _different_sinks(one.sinks, other.sinks, ordered=exact and ordered)
    if one.made_by != other.made_by and one.error is None and other.error is None:
        found.append(f"runner: {one.made_by} / {other.made_by}")
    for which in ("metrics", "every_metric", "element_counts"):
        found += _different_values(which, getattr(one, which), getattr(other, which))
    return found


def _of_any_model(error: str | None) -> str | None:
    """The error without the number of its model: of two branches, chance says which fails first."""
    return error and re.sub(r"\b(Model |m)\d+\b", r"\1<n>", error)


def _different_sinks(one: Mapping, other: Mapping, *, ordered: bool) -> Iterator[str]:
    for sink in sorted({*one, *other}):
        mine, others = one.get(sink, []), other.get(sink, [])
        less, more = Counter(mine) - Counter(others), Counter(others) - Counter(mine)
        if less or more:
            yield f"{sink}: {_some(less.elements())} / {_some(more.elements())}"
        elif ordered and mine != others:
            yield f"{sink}: in another order"


def _different_values(which: str, one: Mapping, other: Mapping) -> Iterator[str]:
    for names, side in (
        (one.keys() - other.keys(), "first"),
        (other.keys() - one.keys(), "second"),
    ):
        if names:
            yield f"{which}: only in the {side}: {_some(sorted(names))}"
    for name in sorted(one.keys() & other.keys()):
        if one[name] != other[name]:
            yield f"{which}: {name}: {one[name]} / {other[name]}"


def _some(texts: Iterable[str], most: int = 3) -> str:
    texts = list(texts)
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more if texts else "nothing"


def watching() -> PipelineRunner:
    return WatchRunner(FnApiRunner(), live=False)


@dataclass(frozen=True)
class Finding:
    """One pipeline that was run both ways.

    Attributes:
      differences: unwatched / watched, in words.
      error: of the unwatched run.
      kinds: what the pipeline has.
      description: the pipeline, as Python writes it.
    """

    seed: int
    differences: list[str]
    error: str | None
    kinds: list[str]
    seconds: float
    description: str
    made_by: str = ""


def compared(description: Description, watched: Callable[[], PipelineRunner] = watching) -> Finding:
    """Run the pipeline on `FnApiRunner` and on what `watched` makes.

    Which of the two comes first depends on the seed.
    """
    begin = time.perf_counter()
    runners = {"unwatched": FnApiRunner, "watched": watched}
    ways = sorted(runners, reverse=description.seed % 2 == 1)
    outcomes = {way: outcome(runners[way](), description) for way in ways}
    plain = outcomes["unwatched"]
    return Finding(
        description.seed,
        differences(plain, outcomes["watched"], exact=description.exact),
        plain.error,
        description.kinds(),
        round(time.perf_counter() - begin, 2),
        repr(description),
    )


TRIES = 6
"""Unwatched runs of a pipeline whose watched run differs from the first of them."""


def compared_on_prism(description: Description, program: str) -> Finding:
    """Run the pipeline on what Beam chooses where there is Prism, unwatched and watched.

    Prism makes bundles as it likes and gives elements in any order, so two unwatched runs of a
    pipeline may differ too. What these differ in, a watched run may differ in.
    """
    begin, flags = time.perf_counter(), [f"--prism_location={program}", "--runner=DirectRunner"]
    differ = partial(differences, exact=description.exact, ordered=False)
    runner = WatchRunner(live=False)
    plain, watched = outcome(None, description, flags), outcome(runner, description, flags)
    found = differ(plain, watched)
    if found:
        others = [outcome(None, description, flags) for _ in range(TRIES)]
        by_chance = {_subject(text) for other in others for text in differ(plain, other)}
        found = [text for text in found if _subject(text) not in by_chance]
    found += unlike_an_lru(runner.trace) if plain.error is None else []
    # An error is that of the runner: only its text says which.
    failed_there = plain.error is not None and "<job> failed" in plain.error
    return Finding(
        description.seed,
        found,
        plain.error,
        description.kinds(),
        round(time.perf_counter() - begin, 2),
        repr(description),
        PRISM if failed_there else plain.made_by,
    )


def _subject(difference: str) -> str:
    """What two runs differ in: "error", "metrics", or the name of a sink."""
    return difference.partition(":")[0]


def unlike_an_lru(trace: Trace) -> Iterator[str]:
    """Steps whose loads and evictions are not those of a list in the order of last use."""
    shared = {step for steps in trace.sharing for step in steps}
    kinds = {"limit", "use_begin", "load_end", "evict"}
    for step in {model.step for model in trace.models} - shared:
        events = [e for e in trace.events if e.event in kinds and e.step == step]
        story = [(e.event, e.cohort) for e in events if e.event != "limit"]
        if not any(e.event == "limit" for e in events):
            continue  # a step with one model has no list
        held: OrderedDict[str, None] = OrderedDict()
        limit, told = None, []
        for event in events:
            if event.event == "limit":
                limit = event.limit
            elif event.event == "use_begin":
                if event.cohort not in held and limit is not None and len(held) >= limit:
                    told.append(("evict", held.popitem(last=False)[0]))
                if event.cohort not in held:
                    told.append(("load_end", event.cohort))
                held[event.cohort] = None
                held.move_to_end(event.cohort)
                told.append(("use_begin", event.cohort))
        if len({e.tid for e in events if e.event == "use_begin"}) > 1:
            # Threads that take turns enter the list before they load: only sums can be told.
            told, story = (sorted(x for x in each if x[0] != "use_begin") for each in (told, story))
        if told != story:
            yield f"{step}: unlike an LRU: {_some(map(str, told))} / {_some(map(str, story))}"


# One command


def findings(seeds: Iterable[int], prism: str | None = None) -> Iterator[Finding]:
    """Run the pipelines of these seeds, some in each of a row of fresh processes.

    The process that calls this has no threads: the others are its forks, where there are such.
    """
    left = list(seeds)
    while left:
        done = 0
        for finding in _in_fresh_process(left[:PER_PROCESS], prism):
            done += 1
            yield finding
        if done < len(left[:PER_PROCESS]):
            yield _died(left[done])
            done += 1
        left = left[done:]


def _in_fresh_process(seeds: list[int], prism: str | None) -> Iterator[Finding]:
    forks = "fork" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if forks else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_here, args=(seeds, prism, sender))
    process.start()
    sender.close()
    with receiver, contextlib.suppress(EOFError):
        while True:
            yield receiver.recv()
    process.join()


def _run_here(seeds: list[int], prism: str | None, sender: Any) -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    connection.SocketClient = partial(_without_delay, connection.SocketClient)
    with tempfile.TemporaryDirectory() as folder:
        keep_addresses_in(folder)
        for seed in seeds:
            faulthandler.dump_traceback_later(HANGS, exit=True)
            description = drawn(seed)
            compare = compared if prism is None else partial(compared_on_prism, program=prism)
            sender.send(compare(description))
    faulthandler.cancel_dump_traceback_later()
    for child in psutil.Process().children():  # Prism
        child.kill()
    sender.close()
    os._exit(0)  # Beam's threads need not be waited for


def _without_delay(connect: Callable[[Any], Any], address: Any) -> Any:
    """Connect to a model behind a proxy; TCP would wait 40 ms for more to send, ten times a run."""
    connected = connect(address)
    with socket.socket(fileno=os.dup(connected.fileno())) as same:
        same.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def _died(seed: int) -> Finding:
    description = drawn(seed)
    lost = ["the process died or hung: run this seed again to see its traceback"]
    return Finding(seed, lost, None, description.kinds(), 0.0, repr(description))


def _seeds(text: str) -> list[int]:
    """Seeds as they are written in a command.

    >>> _seeds("0:3"), _seeds("7")
    ([0, 1, 2], [7])
    """
    first, colon, end = text.partition(":")
    return list(range(int(first), int(end) if colon else int(first) + 1))


def main(arguments: list[str]) -> int:
    """Run pipelines, and say which differ; returns 1 where one does."""
    parser = argparse.ArgumentParser(prog=f"python -m {__name__}")
    parser.add_argument("--seeds", type=_seeds, required=True, help="0:500, or 17")
    parser.add_argument("--json", action="store_true", help="print a line for each pipeline")
    parser.add_argument("--prism", help="a program: run on what Beam chooses where there is Prism")
    parser.add_argument("--most", type=int, default=sys.maxsize, help="end after so many on Prism")
    given = parser.parse_args(arguments)
    begin, all_kinds, differing = time.perf_counter(), Counter(), 0
    on_prism = 0
    for finding in findings(given.seeds, given.prism):
        on_prism += finding.made_by == PRISM
        if on_prism > given.most:
            break
        if given.json:
            print(json.dumps(asdict(finding)), flush=True)
            continue
        all_kinds.update(finding.kinds)
        if finding.differences:
            differing += 1
            print(finding.description, *finding.differences, sep="\n  ", flush=True)
    if not given.json:
        if given.prism:
            print(f"{on_prism} ran on Prism")
        for kind, times in sorted(all_kinds.items()):
            print(f"{times:5} {kind}")
        seconds = time.perf_counter() - begin
        print(f"{len(given.seeds)} pipelines, {differing} differ, {seconds:.0f} seconds")
    return min(differing, 1)


if __name__ == "__main__":
    # Workers find the functions of this module by its name, and its lists are those of the module.
    from tests.integration.watching.random_pipelines import main as main_of_module

    sys.exit(main_of_module(sys.argv[1:]))
