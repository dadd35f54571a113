"""Model handlers small enough to run thousands of times, and the pipelines around them."""

from __future__ import annotations

import time

import apache_beam as beam
from apache_beam.ml.inference.base import (
    KeyedModelHandler,
    KeyModelMapping,
    ModelHandler,
    PredictionResult,
    RunInference,
)
from apache_beam.transforms import window
from apache_beam.transforms.window import TimestampedValue


class Model:
    """Answers with its own name."""

    def __init__(self, name: str):
        self.name = name


class NamedModels(ModelHandler):
    """Loads the `Model` of that name."""

    def __init__(self, name: str = "model", **kwargs):
        super().__init__(**kwargs)
        self.name = name

    def load_model(self):
        return Model(self.name)

    def run_inference(self, batch, model, inference_args=None):
        return [PredictionResult(example, model.name) for example in batch]


class AnsweringModel(Model):
    """Answers by a method: another process sees no attributes of a model, only its methods."""

    def answer(self):
        return self.name


class AnsweringModels(NamedModels):
    """Models that can be used from a process that does not hold them."""

    def load_model(self):
        return AnsweringModel(self.name)

    def run_inference(self, batch, model, inference_args=None):
        return [PredictionResult(example, model.answer()) for example in batch]


class FixedBatches(KeyedModelHandler):
    """A keyed handler with batches of one size."""

    def __init__(self, unkeyed, max_models_per_worker_hint=None, batch_size=1):
        super().__init__(unkeyed, max_models_per_worker_hint)
        self._size = batch_size

    def batch_elements_kwargs(self):
        return {"min_batch_size": self._size, "max_batch_size": self._size}


def keyed(cohorts, hint=None, batch_size=1, handler=NamedModels):
    """A keyed handler over `cohorts`, a list of lists of keys; model i is called `m<i>`."""
    mappings = [KeyModelMapping(list(keys), handler(f"m{i}")) for i, keys in enumerate(cohorts)]
    return FixedBatches(mappings, hint, batch_size)


def run_keyed(runner, handler, keys, label="Score"):
    """Run elements `(key, i)` through `handler`, in this order; returns the pipeline."""
    with beam.Pipeline(runner) as pipeline:
        _ = (
            pipeline
            | beam.Create([(key, i) for i, key in enumerate(keys)], reshuffle=False)
            | label >> RunInference(handler)
        )
    return pipeline


class Slow(NamedModels):
    """Takes a while for each batch, so that there is something to watch."""

    def run_inference(self, batch, model, inference_args=None):
        time.sleep(0.25)
        return super().run_inference(batch, model, inference_args)


class Failing(NamedModels):
    """Fails at its third element."""

    def run_inference(self, batch, model, inference_args=None):
        if 2 in batch:
            raise ValueError("2 is too many")
        return super().run_inference(batch, model, inference_args)


class Answering(Model):
    """Answers through a method: of a model in another process there is no more to be had."""

    def answer(self, example):
        return self.name, example


class Answers(NamedModels):
    """A handler whose model may live in another process."""

    def load_model(self):
        return Answering(self.name)

    def run_inference(self, batch, model, inference_args=None):
        return [model.answer(example) for example in batch]


class Refreshed(Answers):
    """Names its model after the path that it was given last."""

    def update_model_path(self, model_path=None):
        self.name = model_path or self.name

    def should_skip_batching(self):
        return True  # batches of several windows would be taken in any order


def timed(pipeline, label, pairs):
    """Elements in windows of a second; `pairs` are of second and element."""
    return (
        pipeline
        | label >> beam.Create(range(len(pairs)), reshuffle=False)
        | f"{label} in time" >> beam.Map(lambda i: TimestampedValue(pairs[i][1], pairs[i][0]))
        | f"{label} in windows" >> beam.WindowInto(window.FixedWindows(1))
    )
