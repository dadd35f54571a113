"""Pipelines to draw: the shapes that lessons use, and those that ship with Beam.

`BUILDERS` maps a name to a function that returns a pipeline which was built but not run; `LESSONS`
are those of them that do not come from Beam.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import apache_beam as beam
from apache_beam.ml.inference.base import (
    KeyedModelHandler,
    KeyModelMapping,
    ModelHandler,
    PredictionResult,
    RunInference,
)
from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor
from apache_beam.ml.inference.sklearn_inference import SklearnModelHandlerNumpy
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms import window


class _Factor:
    def __init__(self, factor: int):
        self.factor = factor


class Scale(ModelHandler):
    """A model that multiplies; it raises for negative numbers."""

    def __init__(self, factor: int = 2):
        super().__init__()
        self._factor = factor

    def load_model(self) -> _Factor:
        return _Factor(self._factor)

    def run_inference(self, batch, model, inference_args=None):
        for number in batch:
            if number < 0:
                raise ValueError(number)
            yield PredictionResult(number, number * model.factor)

    def batch_elements_kwargs(self):
        return {"min_batch_size": 1, "max_batch_size": 1}


def torch_handler(name: str, device: str = "CPU") -> PytorchModelHandlerTensor:
    return PytorchModelHandlerTensor(
        state_dict_path=f"models/{name}.pt", model_class=dict, model_params={}, device=device
    )


def keyed_handler(hint: int | None = 2) -> KeyedModelHandler:
    """The documentation's example: four configurations over six keys."""
    return KeyedModelHandler(
        [
            KeyModelMapping(["KEY_1"], torch_handler("config_1")),
            KeyModelMapping(["KEY_2", "KEY_3"], torch_handler("config_2")),
            KeyModelMapping(["KEY_4"], torch_handler("config_3")),
            KeyModelMapping(["KEY_5", "KEY_6"], torch_handler("config_4")),
        ],
        max_models_per_worker_hint=hint,
    )


def new_pipeline() -> beam.Pipeline:
    return beam.Pipeline(FnApiRunner())


def _numbers(p: beam.Pipeline, label: str = "Read") -> beam.PCollection:
    return p | label >> beam.Create([1, 2, 3, 4])


def _value(result: PredictionResult) -> int:
    return result.inference


def _by_parity(number: int) -> tuple[str, int]:
    return ("odd" if number % 2 else "even"), number


# The shapes that lessons use


def empty() -> beam.Pipeline:
    return new_pipeline()


def ab_branches() -> beam.Pipeline:
    p = new_pipeline()
    data = _numbers(p)
    data | "Model A" >> RunInference(torch_handler("digits_a"))
    data | "Model B" >> RunInference(torch_handler("digits_b", "GPU"))
    return p


def ab_partition() -> beam.Pipeline:
    p = new_pipeline()
    half_a, half_b = _numbers(p) | "Split" >> beam.Partition(lambda number, n: number % n, 2)
    a = half_a | "Model A" >> RunInference(torch_handler("digits_a"))
    b = half_b | "Model B" >> RunInference(torch_handler("digits_b"))
    (a, b) | "Merge" >> beam.Flatten() | "Show" >> beam.Map(print)
    return p


def sequence() -> beam.Pipeline:
    p = new_pipeline()
    (
        _numbers(p)
        | "Detect" >> RunInference(torch_handler("detector"))
        | "Crop" >> beam.Map(_value)
        | "Classify" >> RunInference(SklearnModelHandlerNumpy("models/classifier.pkl"))
        | "Show" >> beam.Map(print)
    )
    return p


def keyed() -> beam.Pipeline:
    p = new_pipeline()
    data = p | "Read" >> beam.Create([("KEY_1", 1), ("KEY_5", 2)])
    data | "Inference" >> RunInference(keyed_handler()) | "Show" >> beam.Map(print)
    return p


def keyed_grouped() -> beam.Pipeline:
    p = new_pipeline()
    (
        p
        | "Read" >> beam.Create([("KEY_1", 1), ("KEY_5", 2)])
        | beam.GroupByKey()
        | "Ungroup" >> beam.FlatMapTuple(lambda key, values: [(key, v) for v in values])
        | "Inference" >> RunInference(keyed_handler(hint=1))
    )
    return p


def keyed_one_model() -> beam.Pipeline:
    p = new_pipeline()
    data = p | "Read" >> beam.Create([("a", 1)])
    data | RunInference(KeyedModelHandler(torch_handler("shared_by_all_keys")))
    return p


def many_models() -> beam.Pipeline:
    p = new_pipeline()
    mappings = [
        KeyModelMapping([f"customer-{n:03d}-{i}" for i in range(n % 7 + 1)], torch_handler(f"m{n}"))
        for n in range(30)
    ]
    data = p | "Read" >> beam.Create([("customer-000-0", 1)])
    data | "Per customer" >> RunInference(KeyedModelHandler(mappings))
    return p


def ensemble_join() -> beam.Pipeline:
    p = new_pipeline()
    data = _numbers(p)
    votes = {
        name: data
        | f"Model {name}" >> RunInference(torch_handler(f"ensemble_{name.lower()}"))
        | f"Key {name}" >> beam.Map(lambda result: (result.example, result.inference))
        for name in "ABC"
    }
    votes | "Join" >> beam.CoGroupByKey() | "Majority" >> beam.Map(print)
    return p


def side_input() -> beam.Pipeline:
    p = new_pipeline()
    labels = p | "Read labels" >> beam.Create([(0, "cat"), (1, "dog")])
    (
        _numbers(p)
        | "Model" >> RunInference(torch_handler("pets"))
        | "Name" >> beam.Map(lambda result, names: names, names=beam.pvalue.AsDict(labels))
    )
    return p


def side_input_twice() -> beam.Pipeline:
    """One PCollection is the main input and both side inputs of one step."""
    p = new_pipeline()
    data = _numbers(p)
    data | "Share" >> beam.Map(
        lambda x, every, some: x, beam.pvalue.AsList(data), beam.pvalue.AsIter(data)
    )
    return p


def model_updates() -> beam.Pipeline:
    from apache_beam.ml.inference.base import ModelMetadata

    p = new_pipeline()
    newest = p | "Newest model" >> beam.Create([ModelMetadata("models/v2.pt", "v2")])
    _numbers(p) | "Model" >> RunInference(torch_handler("v1"), model_metadata_pcoll=newest)
    return p


class _Clean(beam.PTransform):
    def expand(self, data):
        return data | "Trim" >> beam.Map(abs) | "Deduplicate" >> beam.Distinct()


class _Ensemble(beam.PTransform):
    def expand(self, data):
        cleaned = data | "Clean" >> _Clean()
        a = cleaned | "Small" >> RunInference(torch_handler("small"))
        b = cleaned | "Large" >> RunInference(torch_handler("large"))
        return (a, b) | beam.Flatten()


def nested_composites() -> beam.Pipeline:
    p = new_pipeline()
    _numbers(p) | "Ensemble" >> _Ensemble() | "Show" >> beam.Map(print)
    return p


class _TwoOutputs(beam.PTransform):
    def expand(self, data):
        return {
            "small": data | beam.Filter(lambda x: x < 3),
            "large": data | "Not small" >> beam.Filter(lambda x: x >= 3),
        }


def composite_outputs() -> beam.Pipeline:
    p = new_pipeline()
    parts = _numbers(p) | "By size" >> _TwoOutputs()
    parts["small"] | "Quick" >> RunInference(torch_handler("quick"))
    parts["large"] | "Thorough" >> RunInference(torch_handler("thorough"))
    return p


class _Passes(beam.PTransform):
    def expand(self, data):
        return data


def pass_through() -> beam.Pipeline:
    p = new_pipeline()
    _numbers(p) | "Does nothing" >> _Passes() | "Show" >> beam.Map(print)
    return p


def streaming_windows() -> beam.Pipeline:
    from apache_beam.transforms.periodicsequence import PeriodicImpulse

    p = new_pipeline()
    (
        p
        | "Ticks" >> PeriodicImpulse(0, 60, 10)
        | "Read frame" >> beam.Map(lambda tick: (tick % 2, tick))
        | "Minutes" >> beam.WindowInto(window.FixedWindows(60))
        | "Detect" >> RunInference(keyed_handler(hint=None))
        | beam.WindowInto(window.SlidingWindows(300, 60))
        | beam.GroupByKey()
        | "Alert" >> beam.Map(print)
    )
    return p


def cross_joins() -> beam.Pipeline:
    """Every reader goes to every model: edges must cross."""
    p = new_pipeline()
    readers = [_numbers(p, f"Read {n}") for n in range(3)]
    for n in range(3):
        merged = tuple(readers) | f"Merge {n}" >> beam.Flatten()
        merged | f"Model {n}" >> RunInference(torch_handler(f"expert_{n}"))
    return p


def partition_unused() -> beam.Pipeline:
    p = new_pipeline()
    parts = _numbers(p) | beam.Partition(lambda number, n: number % n, 12)
    parts[0] | "First" >> beam.Map(print)
    parts[11] | "Last" >> beam.Map(print)
    return p


def co_group_by_key() -> beam.Pipeline:
    p = new_pipeline()
    emails = p | "Emails" >> beam.Create([("amy", "amy@example.com")])
    phones = p | "Phones" >> beam.Create([("amy", "111-222")])
    {"emails": emails, "phones": phones} | beam.CoGroupByKey() | beam.Map(print)
    (phones, emails) | "Without names" >> beam.CoGroupByKey()
    return p


def dead_letters() -> beam.Pipeline:
    p = new_pipeline()
    good, bad = _numbers(p) | "Parse" >> beam.Map(int).with_exception_handling()
    handler = Scale().with_preprocess_fn(abs).with_postprocess_fn(_value)
    results, failed = good | "Model" >> RunInference(handler).with_exception_handling()
    results | "Show" >> beam.Map(print)
    (bad, failed.failed_inferences) | "Failures" >> beam.Flatten() | "Report" >> beam.Map(print)
    return p


def dead_letters_unused() -> beam.Pipeline:
    p = new_pipeline()
    _numbers(p) | "Model" >> RunInference(Scale()).with_exception_handling()
    return p


def processing_functions() -> beam.Pipeline:
    p = new_pipeline()
    handler = (
        Scale()
        .with_preprocess_fn(int)
        .with_preprocess_fn(abs)
        .with_postprocess_fn(_value)
        .with_postprocess_fn(str)
    )
    _numbers(p) | "Model" >> RunInference(handler)
    return p


class _Route(beam.DoFn):
    def process(self, number):
        if number < 0:
            yield beam.pvalue.TaggedOutput("negative", number)
        elif number > 100:
            yield beam.pvalue.TaggedOutput("too large", number)
        else:
            yield number


def tagged_outputs() -> beam.Pipeline:
    p = new_pipeline()
    routed = _numbers(p) | "Route" >> beam.ParDo(_Route()).with_outputs(
        "negative", "too large", main="usable"
    )
    routed.usable | "Model" >> RunInference(Scale())
    routed.negative | "Count negative" >> beam.combiners.Count.Globally()
    return p


def flatten() -> beam.Pipeline:
    p = new_pipeline()
    one, two = _numbers(p, "One"), _numbers(p, "Two")
    (one, two, one) | beam.Flatten() | beam.Map(print)
    return p


def long_chain(steps: int = 50) -> beam.Pipeline:
    """Every fifth step is a model; two branches leave and come back."""
    p = new_pipeline()
    data = start = _numbers(p)
    for n in range(steps - 2):
        if n % 5 == 4:
            data = data | f"Model {n}" >> RunInference(torch_handler(f"expert_{n}"))
        else:
            data = data | f"Step {n}" >> beam.Map(_value)
    (data, start) | "Merge" >> beam.Flatten()
    return p


HOSTILE_LABELS = [
    "quotes \"double\" 'single' `back`",
    r"back\slash \n \N \G \l",
    "<script>window.pwned=1</script>",
    "</text></svg><img src=x onerror=window.pwned=1>",
    "]]> <!-- --> <b>bold</b> <TABLE><TR><TD>",
    "a & b &amp; &lt; &#x27;",
    "first line\nsecond line\ttab",
    "한국어 라벨 모델 A",
    "emoji 🚀👩‍👩‍👧‍👦 é",
    "right-to-left \u202eevil\u202c",
    "control \x00\x01\x1b",
    "javascript:window.pwned=1",
    "x" * 300,
    "word " * 60,
    "{record|label} %3 ${x}",
    "-> ; [label=x] //",
]


SCRIPTS = {
    "Hangul": "판매 예측 모델",
    "Han": "销售预测模型 銷售預測",
    "Kana": "カタカナとひらがな",
    "Cyrillic": "Модель прогноза",
    "Greek": "Μοντέλο πρόβλεψης",
    "escapes": "🦖 مرحبا हिन्दी",
    "unseen": "\u200b",
    "decomposed": "e\u0301 \u1112\u1161\u11ab",
}


def scripts_handler() -> KeyedModelHandler:
    return KeyedModelHandler(
        [
            KeyModelMapping([key, f"{key} {key} {key}"], torch_handler(f"{key} {name}"))
            for name, key in SCRIPTS.items()
        ],
        max_models_per_worker_hint=2,
    )


def many_keys() -> KeyedModelHandler:
    """A thousand keys, a key of 10,000 characters, an empty one and one that nobody sees."""
    keys = [f"customer-{number}@example.com & others" for number in range(1000)]
    return KeyedModelHandler(
        [
            KeyModelMapping(keys, torch_handler("thousand")),
            KeyModelMapping(["k" * 10_000], torch_handler("long")),
            KeyModelMapping(["", " ", "\u200b"], torch_handler("blank")),
        ]
    )


def scripts() -> beam.Pipeline:
    """Labels, keys and models in several scripts, and what cannot be drawn."""
    p = new_pipeline()
    data = p
    for label in SCRIPTS.values():
        data = data | label >> beam.Map(abs) if data is not p else p | label >> beam.Create([1])
    parts = data | "나누기 разделить" >> beam.Partition(lambda _, n: 0, 2)
    data | "모델 модель μοντέλο 模型" >> RunInference(scripts_handler())
    parts[1] | "이름" >> beam.Map(abs)
    return p


def hostile_labels() -> beam.Pipeline:
    p = new_pipeline()
    data = p | "Create" >> beam.Create([1])
    for label in HOSTILE_LABELS:
        named = KeyedModelHandler(
            [
                KeyModelMapping([label + " 1"], torch_handler(label)),
                KeyModelMapping([label + " 2", 7], torch_handler(label + "2")),
            ]
        )
        tags = data | label >> beam.ParDo(_Route()).with_outputs(label + " tag", main="m")
        tags[label + " tag"] | label + " model" >> RunInference(named)
    return p


# Those that ship with Beam


class _NotRun:
    """Stands for the result of a pipeline that was not run."""

    has_job = False

    def wait_until_finish(self, duration=None):
        return "DONE"

    def metrics(self):
        return self

    def query(self, metrics_filter=None):
        return {"counters": [], "distributions": [], "gauges": []}


@contextmanager
def _empty_folder():
    """Some examples put file names into labels: relative names are the same in every process."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def beam_example(module: str, arguments: str) -> beam.Pipeline:
    """The pipeline that an example of Beam builds; `{file}` and `{out}` name scratch files."""
    built: list[beam.Pipeline] = []

    def run(pipeline, *_, **__):
        built.append(pipeline)
        return _NotRun()

    with _empty_folder(), mock.patch.object(beam.Pipeline, "run", run):
        Path("input.txt").write_text("a b c\n")
        argv = [a.format(file="input.txt", out="out") for a in arguments.split()]
        importlib.import_module(f"apache_beam.examples.{module}").run(argv)
    return built[0]


_FILES = "--input {file} --output {out}"
_EXAMPLES = {
    "wordcount": _FILES,
    "wordcount_debugging": _FILES,
    "matrix_power": "--input_matrix {file} --input_vector {file} --output {out} --exponent 3",
    "avro_nyc_trips": _FILES,
    "per_entity_training": "--input {file} --output-dir {out}",
    "complete.autocomplete": _FILES,
    "complete.distribopt": _FILES,
    "complete.estimate_pi": "--output {out}",
    "complete.tfidf": "--uris {file} --output {out}",
    "complete.top_wikipedia_sessions": _FILES,
    "complete.game.user_score": _FILES,
    "cookbook.bigquery_side_input": "--output {out} --num_groups 3",
    "cookbook.coders": _FILES,
    "cookbook.custom_ptransform": _FILES,
    "cookbook.group_with_coder": _FILES,
    "cookbook.mergecontacts": (
        "--input_email {file} --input_phone {file} --input_snailmail {file} "
        "--output_tsv {out} --output_stats {out}"
    ),
    "cookbook.multiple_output_pardo": _FILES,
    "inference.run_inference_side_inputs": "",
    "inference.sklearn_mnist_classification": _FILES + " --model_path {file}",
}

LESSONS: dict[str, Callable[[], beam.Pipeline]] = {
    build.__name__: build
    for build in (
        ab_branches,
        ab_partition,
        sequence,
        keyed,
        keyed_grouped,
        keyed_one_model,
        many_models,
        ensemble_join,
        side_input,
        side_input_twice,
        model_updates,
        nested_composites,
        composite_outputs,
        pass_through,
        streaming_windows,
        cross_joins,
        partition_unused,
        co_group_by_key,
        dead_letters,
        dead_letters_unused,
        processing_functions,
        tagged_outputs,
        flatten,
        hostile_labels,
        scripts,
        long_chain,
        empty,
    )
}
BUILDERS = LESSONS | {
    f"beam {module}": partial(beam_example, module, arguments)
    for module, arguments in _EXAMPLES.items()
}
