"""A watched run gives the predictions, counters and errors of the unwatched one."""

from __future__ import annotations

import uuid

import apache_beam as beam
import numpy as np
import pytest
import torch
from apache_beam.internal import pickler
from apache_beam.ml.inference.base import (
    KeyedModelHandler,
    MaybeKeyedModelHandler,
    ModelHandler,
    RunInference,
)
from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor
from apache_beam.ml.inference.sklearn_inference import SklearnModelHandlerNumpy
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import mmlab
from mmlab import Trace, WatchRunner
from mmlab.beam.pipelines import inference_steps
from tests.handlers import Answers, NamedModels, keyed, run_keyed

pytestmark = pytest.mark.runs

PAIRS = [(f"K{i % 3}", i) for i in range(30)]
COHORTS = [["K0"], ["K1", "K2"]]

FIXED = {"min_batch_size": 4, "max_batch_size": 4}

# Timings and resident sizes differ from run to run, whoever watches.
TIMED = ("latency", "model_byte_size", "load_model", "msec_per_batch")


def plus_one(x):
    return x + 1


def second(result):
    return result[1]


class Lazy(NamedModels):
    """Computes its answers while they are read."""

    def run_inference(self, batch, model, inference_args=None):
        return ((model.name, example) for example in batch)


class Refuses(NamedModels):
    """Cannot answer batches that hold 13."""

    def run_inference(self, batch, model, inference_args=None):
        if 13 in batch:
            raise ValueError("13 is refused")
        return super().run_inference(batch, model, inference_args)


class CannotLoad(NamedModels):
    def load_model(self):
        raise OSError("the disk is on fire")


def plain():
    return [i for _, i in PAIRS], RunInference(NamedModels(**FIXED))


def keyed_single():
    return PAIRS, RunInference(KeyedModelHandler(NamedModels(**FIXED)))


def maybe_keyed():
    return PAIRS, RunInference(MaybeKeyedModelHandler(NamedModels(**FIXED)))


def keyed_many():
    return PAIRS, RunInference(keyed(COHORTS, 1, 4))


def lazy():
    return PAIRS, RunInference(keyed(COHORTS, 1, 4, handler=Lazy))


def lazy_plain():
    return [i for _, i in PAIRS], RunInference(Lazy(**FIXED))


def processed():
    handler = NamedModels(**FIXED).with_preprocess_fn(plus_one).with_postprocess_fn(second)
    return [i for _, i in PAIRS], RunInference(handler)


def processed_keyed():
    handler = keyed(COHORTS, 1, 4).with_preprocess_fn(lambda pair: (pair[0], pair[1] + 1))
    return PAIRS, RunInference(handler.with_postprocess_fn(second))


def prebatched():
    return [[1, 2], [3]], RunInference(NamedModels().with_no_batching())


def large_model():
    return [1, 2, 3], RunInference(NamedModels(large_model=True, min_batch_size=3))


def refused():
    return PAIRS, RunInference(keyed(COHORTS, None, 4, handler=Refuses))


def unknown_key():
    return [*PAIRS, ("Z", 1)], RunInference(keyed(COHORTS))


def cannot_load():
    return PAIRS, RunInference(keyed(COHORTS, handler=CannotLoad))


def cannot_load_plain():
    return [1], RunInference(CannotLoad())


def not_pairs():
    return [1, 2], RunInference(keyed(COHORTS))


WAYS = [
    plain,
    keyed_single,
    maybe_keyed,
    keyed_many,
    lazy,
    lazy_plain,
    processed,
    processed_keyed,
    prebatched,
    large_model,
    refused,
    unknown_key,
    cannot_load,
    cannot_load_plain,
    not_pairs,
]


COLLECTED: list[str] = []


def collect(result):
    COLLECTED.append(repr(result))


def outcome(runner, way):
    """Predictions, counters and the error of one run."""
    elements, inference = way()
    COLLECTED.clear()
    pipeline = beam.Pipeline(runner)
    _ = pipeline | beam.Create(elements, reshuffle=False) | inference | beam.Map(collect)
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except Exception as error:
        return type(error), str(error), sorted(COLLECTED)
    return sorted(COLLECTED), counters(result)


def counters(result):
    found = {}
    query = result.metrics().query()
    for kind in ("counters", "distributions"):
        for metric in query[kind]:
            name = metric.key.metric
            if any(word in name.name for word in TIMED):
                found[name.namespace, name.name] = "timed"
            else:
                found[name.namespace, name.name] = str(metric.committed)
    return found


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_watched_equals_unwatched(way):
    unwatched = outcome(FnApiRunner(), way)
    runner = WatchRunner()
    assert outcome(runner, way) == unwatched
    kinds = {event.event for event in runner.trace.events}
    assert ("load_begin" in kinds) == (way is not not_pairs)


def test_counters_and_predictions_are_compared_at_all():
    predictions, counted = outcome(FnApiRunner(), keyed_many)
    assert len(predictions) == len(PAIRS)
    assert counted["BeamML_KeyedModels", "K0-_num_inferences"]
    assert outcome(FnApiRunner(), refused)[0] is ValueError


def test_dead_letters_are_the_same():
    def run(runner):
        pipeline = beam.Pipeline(runner)
        elements = pipeline | beam.Create(PAIRS, reshuffle=False)
        good, bad = (
            elements | RunInference(keyed(COHORTS, 1, 4, handler=Refuses)).with_exception_handling()
        )
        COLLECTED.clear()
        _ = good | "good" >> beam.Map(collect)
        _ = bad.failed_inferences | "bad" >> beam.Map(lambda x: collect(("bad", x[0])))
        pipeline.run().wait_until_finish()
        return sorted(COLLECTED)

    runner = WatchRunner()
    watched = run(runner)
    assert watched == run(FnApiRunner())
    assert sum(text.startswith("('bad'") for text in watched) == 1
    failed = [u for r in runner.trace.residences for u in r.uses if u.error]
    assert [use.error for use in failed] == ["ValueError: 13 is refused"]


@pytest.mark.parametrize("options", [{}, {"timeout": 60}, {"use_subprocess": True}])
def test_every_kind_of_exception_handling_is_watched(options):
    handler = keyed(COHORTS, 1, 4)
    runner = WatchRunner()
    with beam.Pipeline(runner) as pipeline:
        elements = pipeline | beam.Create(PAIRS, reshuffle=False)
        _ = elements | RunInference(handler).with_exception_handling(**options)
    assert runner.trace.summary().elements == len(PAIRS)
    assert runner.trace.summary().loads > 0


def test_a_failing_load_is_in_the_trace():
    runner = WatchRunner()
    assert outcome(runner, cannot_load)[0] is OSError
    assert runner.trace.state == "FAILED"
    assert "disk is on fire" in runner.trace.error
    assert runner.trace.residences[0].error == "OSError: the disk is on fire"
    assert runner.trace.summary().loads == 0


def test_the_authors_own_handlers_are_back_after_the_run():
    handler = keyed(COHORTS)
    leaves = list(handler._id_to_mh_map.values())
    pipeline = beam.Pipeline(WatchRunner())
    _ = pipeline | beam.Create(PAIRS) | RunInference(handler)
    for _ in range(2):
        pipeline.run()
        [step] = inference_steps(pipeline)
        assert step.handler is handler
        assert list(handler._id_to_mh_map.values()) == leaves
        for it in (handler, *leaves):
            assert "load_model" not in vars(it)


def test_a_pipeline_without_inference_runs_as_it_is():
    runner = WatchRunner()
    with beam.Pipeline(runner) as pipeline:
        _ = pipeline | beam.Create([1])
    assert runner.trace.models == []
    assert runner.trace.summary().loads == 0
    assert repr(runner.trace.timeline())


def test_another_runner_can_be_wrapped():
    runner = WatchRunner(BundleBasedDirectRunner())
    pipeline = beam.Pipeline(runner)
    _ = pipeline | beam.Create(PAIRS) | "Score" >> RunInference(keyed(COHORTS, 1, 4))
    result = pipeline.run()
    result.wait_until_finish()
    assert result.trace.summary().elements == len(PAIRS)
    assert result.trace.models[0].step == "Score"


def test_two_steps_are_told_apart():
    runner = WatchRunner()
    with beam.Pipeline(runner) as pipeline:
        numbers = pipeline | beam.Create([1, 2, 3])
        _ = numbers | "Model A" >> RunInference(NamedModels())
        _ = numbers | "Model B" >> RunInference(NamedModels())
    counts = [(count.step, count.loads, count.elements) for count in runner.trace.per_model()]
    assert counts == [("Model A", 1, 3), ("Model B", 1, 3)]


class SharedAnswers(Answers):
    def share_model_across_processes(self):
        return True


@pytest.mark.parametrize(
    ("handler", "kinds"),
    [
        (lambda: keyed([["K0"], ["K1"], ["K2"]], 1, 4), {"evict", "free", "limit"}),
        (lambda: SharedAnswers(**FIXED), set()),
    ],
)
def test_uses_of_a_shared_model_are_shown_where_it_was_loaded(handler, kinds):
    def run(runner):
        COLLECTED.clear()
        identifier = uuid.uuid4().hex  # Beam keeps what is shared for as long as the process lives
        with beam.Pipeline(runner) as pipeline:
            pairs = pipeline | beam.Create(PAIRS, reshuffle=False)
            for label in ("Model A", "Model B"):
                inference = RunInference(handler(), model_identifier=identifier)
                _ = pairs | label >> inference | f"collect {label}" >> beam.Map(collect)
        return sorted(COLLECTED)

    runner = WatchRunner()
    assert run(runner) == run(FnApiRunner())
    trace = runner.trace
    assert [count.elements for count in trace.per_model()].count(0) == 0
    [holder] = {residence.step for residence in trace.residences}
    decided = {(event.event, event.step) for event in trace.of_kind("evict", "free", "limit")}
    assert decided == {(kind, holder) for kind in kinds}
    uses = [use for residence in trace.residences for use in residence.uses]
    assert len(uses) == trace.summary().uses == len(trace.of_kind("use_begin"))
    assert trace.notes == [
        "Model A, Model B: these steps share their models (model_identifier); a load, an eviction "
        "and the limit are shown at the step that loaded first, and each batch at the step that "
        "asked."
    ]


class Slotted:
    """A model that cannot be weakly referenced."""

    __slots__ = ()


class LoadsSlotted(NamedModels):
    def load_model(self):
        return Slotted()

    def run_inference(self, batch, model, inference_args=None):
        return batch


def test_models_without_weak_references_are_watched_and_named():
    runner = WatchRunner()
    run_keyed(runner, keyed([["a"], ["b"]], 1, handler=LoadsSlotted), ["a", "b"] * 3)
    summary = runner.trace.summary()
    assert (summary.loads, summary.evictions, summary.most_resident) == (6, 5, 1)
    assert not any(residence.free_observable for residence in runner.trace.residences)
    assert runner.trace.notes == [
        f"Score: model LoadsSlotted {key}: cannot be weakly referenced: when its memory is "
        "released is not seen."
        for key in "ab"
    ]


def update(handler):
    handler.update_model_path("another")
    return handler.name


class Own(NamedModels):
    """A handler that answers every public question in its own way."""

    def __init__(self):
        super().__init__("own", min_batch_size=3, max_batch_size=7, env_vars={"MMLAB_OWN": "1"})

    def update_model_path(self, model_path=None):
        self.name = model_path or self.name

    def get_num_bytes(self, batch):
        return 10 * len(batch)

    def get_metrics_namespace(self):
        return "Mine"

    def get_resource_hints(self):
        return {"min_ram": "1GB"}

    def model_copies(self):
        return 3

    def share_model_across_processes(self):
        return True

    def validate_inference_args(self, inference_args):
        if inference_args == {"refused": 1}:
            raise ValueError("refused")

    def override_metrics(self, metrics_namespace=""):
        return metrics_namespace == "theirs"

    def should_garbage_collect_on_timeout(self):
        return True


def answer(question, handler):
    try:
        return question(handler)
    except Exception as error:
        return type(error), str(error)


QUESTIONS = {
    "batches": lambda handler: handler.batch_elements_kwargs(),
    "bytes": lambda handler: handler.get_num_bytes([("K0", 1), ("K1", 2)]),
    "namespace": lambda handler: handler.get_metrics_namespace(),
    "hints": lambda handler: handler.get_resource_hints(),
    "copies": lambda handler: handler.model_copies(),
    "shared": lambda handler: handler.share_model_across_processes(),
    "refused": lambda handler: handler.validate_inference_args({"refused": 1}),
    "own metrics": lambda handler: [handler.override_metrics(n) for n in ("theirs", "ours")],
    "collected": lambda handler: handler.should_garbage_collect_on_timeout(),
    "unbatched": lambda handler: handler.should_skip_batching(),
    "before": lambda handler: len(list(handler.get_preprocess_fns())),
    "after": lambda handler: len(list(handler.get_postprocess_fns())),
    "environment": lambda handler: handler._env_vars,
    "class": type,
    "attributes": lambda handler: getattr(handler, "name", None),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize(
    "make",
    [
        Own,
        lambda: KeyedModelHandler(Own()),
        lambda: MaybeKeyedModelHandler(Own()),
        lambda: Own().with_preprocess_fn(plus_one).with_postprocess_fn(second),
        lambda: Own().with_no_batching(),
        lambda: keyed(COHORTS, 2, 4),
    ],
    ids=["plain", "keyed", "maybe keyed", "processed", "unbatched", "many"],
)
def test_every_question_has_the_same_answer_also_after_pickling(make, question, tmp_path):
    handler = make()
    twin = mmlab.watch(handler, tmp_path / "log")
    expected = answer(question, handler)
    assert answer(question, twin) == expected
    assert answer(question, pickler.loads(pickler.dumps(twin))) == expected


def test_what_an_author_put_on_the_object_stays_there(tmp_path):
    handler = NamedModels()
    handler.load_model = lambda: "mine"
    handler.run_inference = lambda batch, model, inference_args=None: [model, inference_args]
    twin = mmlab.watch(handler, tmp_path / "log")
    assert twin.run_inference([1], twin.load_model(), {"a": 1}) == ["mine", {"a": 1}]
    assert Trace.load(tmp_path / "log").summary().uses == 1


def test_a_new_path_reaches_the_watched_handler_and_not_the_authors(tmp_path):
    handler = Own()
    twin = mmlab.watch(handler, tmp_path / "log")
    assert update(twin) == "another"
    assert handler.name == "own"
    assert twin.load_model().name == "another"


class PicklesItself(NamedModels):
    """Leaves everything but its name behind."""

    def __getstate__(self):
        return {"name": self.name}

    def __setstate__(self, state):
        self.__init__(**state)


class PicklesAll(NamedModels):
    def __getstate__(self):
        return dict(self.__dict__)


def test_a_handler_that_would_lose_the_watcher_on_its_way_is_left_alone_and_named():
    runner = WatchRunner()
    sentence = "Score: not watched: its model handler cannot be copied together with what records"
    with pytest.warns(mmlab.WatchWarning, match=sentence):
        pipeline = run_keyed(runner, keyed([["a"]], handler=PicklesItself), ["a"])
    assert pipeline.result.state == "DONE"
    assert runner.trace.notes == [sentence + "."]
    run_keyed(runner, keyed([["a"]], handler=PicklesAll), ["a"])
    assert runner.trace.notes == []
    assert runner.trace.summary().loads == 1


class Linear(torch.nn.Linear):
    def __init__(self):
        super().__init__(2, 1)


def test_torch_and_sklearn_models_are_named_and_weighed(tmp_path):
    import pickle

    from sklearn.dummy import DummyClassifier

    torch.save(Linear().state_dict(), tmp_path / "lines.pt")
    (tmp_path / "guess.pkl").write_bytes(pickle.dumps(DummyClassifier().fit([[0]], [1])))
    runner = WatchRunner()
    with beam.Pipeline(runner) as pipeline:
        _ = (
            pipeline
            | "tensors" >> beam.Create([torch.zeros(2)])
            | "torch" >> RunInference(PytorchModelHandlerTensor(str(tmp_path / "lines.pt"), Linear))
        )
        _ = (
            pipeline
            | "arrays" >> beam.Create([np.zeros(1)])
            | "sklearn" >> RunInference(SklearnModelHandlerNumpy(str(tmp_path / "guess.pkl")))
        )
    models = {(model.step, model.model) for model in runner.trace.models}
    assert models == {("torch", "lines"), ("sklearn", "guess")}
    held = {residence.model: residence.bytes for residence in runner.trace.residences}
    assert held == {"lines": 12, "guess": 16}
    assert runner.trace.summary().model_bytes == 28  # the arrays of the classifier among them


def test_one_handler_can_be_watched_without_a_runner(tmp_path):
    handler = mmlab.watch(keyed([["a"], ["b"]], 1), tmp_path / "log", step="Mine")
    assert isinstance(handler, ModelHandler)
    with beam.Pipeline(FnApiRunner()) as pipeline:
        _ = (
            pipeline
            | beam.Create([("a", 1), ("b", 2), ("a", 3)], reshuffle=False)
            | RunInference(handler)
        )
    trace = Trace.load(tmp_path / "log")
    assert trace.summary().counts() == {
        "loads": 3,
        "reloads": 1,
        "evictions": 2,
        "uses": 3,
        "elements": 3,
        "most_resident": 1,
        "hint": 1,
        "limit": 1,
    }
    assert [model.keys for model in trace.models] == [("a",), ("b",)]


def test_a_handler_that_is_watched_already_is_left_alone(tmp_path):
    runner = WatchRunner()
    with pytest.warns(mmlab.WatchWarning, match="watched on its own"):
        run_keyed(runner, mmlab.watch(keyed([["a"]]), tmp_path / "log"), ["a"])
    assert runner.trace.summary().loads == 0
    assert Trace.load(tmp_path / "log").summary().loads == 1


def test_the_limit_that_rules_is_the_hint_times_the_copies():
    from apache_beam.options.pipeline_options import PipelineOptions

    options = PipelineOptions(["--direct_running_mode=multi_threading", "--direct_num_workers=4"])
    runner = WatchRunner()
    with beam.Pipeline(runner, options=options) as pipeline:
        _ = (
            pipeline
            | beam.Create([(f"K{i % 4}", i) for i in range(400)])
            | beam.Reshuffle()
            | RunInference(keyed([["K0"], ["K1"], ["K2"], ["K3"]], 1))
        )
    limits = [event.limit for event in runner.trace.of_kind("limit")]
    assert limits == list(range(1, len(limits) + 1))
    summary = runner.trace.summary()
    assert (summary.hint, summary.limit) == (1, len(limits))
    assert summary.limit > 1
    assert summary.elements == 400
