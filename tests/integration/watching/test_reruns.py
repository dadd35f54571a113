"""Models outlive a run: a later run finds them in memory, and its trace says so."""

from __future__ import annotations

import threading
import uuid
from collections import Counter, OrderedDict
from functools import lru_cache

import apache_beam as beam
import pytest
from apache_beam.ml.inference.base import KeyModelMapping, RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from hypothesis import given
from hypothesis import strategies as st

from mmlab import WatchRunner
from tests.handlers import AnsweringModels, FixedBatches, Model, NamedModels, keyed
from tests.lanes import examples

pytestmark = pytest.mark.runs

COHORTS = [["K0", "L0"], ["K1"], ["K2"], ["K3"], ["K4"], ["K5"]]
COHORT_OF = {key: cohort[0] for cohort in COHORTS for key in cohort}
SIX = [cohort[0] for cohort in COHORTS]


def new_name():
    """Of models that no other test shares."""
    return uuid.uuid4().hex


def pipeline_of(runner, keys, steps=("Score",), hint=None, identifier=None, handler=NamedModels):
    """A pipeline that has not run: elements `(key, i)` into each of the steps."""
    pipeline = beam.Pipeline(runner)
    elements = pipeline | beam.Create([(key, i) for i, key in enumerate(keys)], reshuffle=False)
    shared = {} if identifier is None else {"model_identifier": identifier}
    for step in steps:
        of_step = keyed(COHORTS, hint, handler=handler)
        _ = elements | step >> RunInference(of_step, **shared)
    return pipeline


def run(pipeline):
    """Run a pipeline, which may have run before. Returns the trace, if it was watched."""
    pipeline.run().wait_until_finish()
    return getattr(pipeline.runner, "trace", None)


class Manager:
    """Beam's rule, written apart: evict the least recently used model when the limit is reached.

    Each copy of the handler, which is one for each step and run, adds its hint to the limit.
    """

    def __init__(self):
        self.resident, self.evicted, self.limit = OrderedDict(), set(), None

    def joins(self, hint):
        if hint is not None:
            self.limit = (self.limit or 0) + hint

    def visit(self, cohort):
        """Returns what happens: evictions, loads, and whether it had been evicted before."""
        if cohort in self.resident:
            self.resident.move_to_end(cohort)
            return
        self.resident[cohort] = True
        if self.limit is not None and self.limit < len(self.resident):
            evicted, _ = self.resident.popitem(last=False)
            self.evicted.add(evicted)
            yield "evict", evicted
        yield "load", cohort, cohort in self.evicted


def expected(managers, trace, hint):
    """What an LRU that remembers earlier runs does with the batches of this one.

    Args:
      managers: step to the manager that serves it.
    """
    story, joined, found = [], set(), {}
    for event in trace.events:
        if event.event != "use_begin":
            continue
        manager = managers[event.step]
        if id(manager) not in found:
            found[id(manager)] = list(manager.resident)
        if event.step not in joined:
            manager.joins(hint)
        joined.add(event.step)
        story += manager.visit(event.cohort)
        story.append(("use", event.step, event.cohort))
    return story, [cohort for cohorts in found.values() for cohort in cohorts]


def recorded(trace):
    again = {
        (r.process, r.step, r.model, r.generation): r.again for r in trace.residences if r.loaded
    }
    story, found = [], []
    for event in trace.events:
        if event.event == "load_end":
            about = (event.process, event.step, event.model, event.generation)
            story.append(("load", event.cohort, again[about]))
        elif event.event == "evict":
            story.append(("evict", event.cohort))
        elif event.event == "use_begin":
            story.append(("use", event.step, event.cohort))
        elif event.event == "in_memory":
            found.append(event.cohort)
    return story, found


@st.composite
def cases(draw):
    keys = st.lists(st.sampled_from(sorted(COHORT_OF)), min_size=1, max_size=12)
    return {
        "runs": draw(st.lists(keys, min_size=2, max_size=3)),
        "steps": draw(st.sampled_from([("Score",), ("A", "B")])),
        "hint": draw(st.one_of(st.none(), st.integers(1, 4))),
        "same": draw(st.sampled_from(["pipeline", "identifier"])),
    }


@examples("reruns", suite=4, full=100)
@given(cases())
def test_a_later_run_is_what_an_lru_that_remembers_does(case):
    steps, hint, identifier = case["steps"], case["hint"], None
    managers = {step: Manager() for step in steps}
    if case["same"] == "identifier":
        identifier = new_name()
        managers = dict.fromkeys(steps, Manager())
    pipeline = None
    for keys in case["runs"]:
        if pipeline is None or identifier is not None:
            pipeline = pipeline_of(WatchRunner(), keys, steps, hint, identifier)
        trace = run(pipeline)
        story, found = expected(managers, trace, hint)
        assert recorded(trace) == (story, found)
        check_what_is_told(trace, story, found, managers)


def check_what_is_told(trace, story, found, managers):
    s, kinds = trace.summary(), Counter(event[0] for event in story)
    assert (s.loads, s.evictions, s.uses) == (kinds["load"], kinds["evict"], kinds["use"])
    assert s.already == len(found) == sum(r.already for r in trace.residences)
    assert s.reloads == sum(event[2] for event in story if event[0] == "load")
    assert s.limit == max((m.limit for m in managers.values() if m.limit), default=None)
    assert [note for note in trace.notes if "share" not in note] == []
    assert (trace.batches.residence >= 0).all()
    assert sum(count.loads for count in trace.per_model()) == s.loads
    assert sum(count.already for count in trace.per_model()) == s.already


def test_a_model_in_memory_has_a_mark_a_count_and_a_row():
    pipeline = pipeline_of(WatchRunner(), SIX * 10, hint=1)
    first = run(pipeline)
    second = run(pipeline)
    assert (first.summary().loads, first.summary().already) == (60, 0)
    s = second.summary()
    assert (s.loads, s.evictions, s.already, s.limit, s.hint) == (60, 59, 1, 2, 1)
    [row] = [r for r in second.residences if r.already]
    assert row.model == "NamedModels K5"
    assert row.load_begin_ns == row.load_end_ns == second.start_ns
    assert row.loading == (row.load_begin_ns, row.load_begin_ns)
    assert "already in memory   1 model\n" in str(s)
    assert "hint 1 → limit 2, 1 model already in memory, 60 loads" in repr(second.timeline())


def test_an_unwatched_run_in_between_is_accounted_for():
    identifier = new_name()
    run(pipeline_of(WatchRunner(), SIX, hint=2, identifier=identifier))
    run(pipeline_of(FnApiRunner(), ["K0", "K1", "K2"], hint=2, identifier=identifier))
    trace = run(pipeline_of(WatchRunner(), ["K0", "K3"], hint=2, identifier=identifier))
    assert recorded(trace)[1] == ["K5", "K0", "K1", "K2"]
    assert trace.summary().loads == 1
    assert trace.summary().limit == 6
    assert trace.notes == []


def test_models_of_an_unwatched_run_are_named():
    identifier = new_name()
    run(pipeline_of(FnApiRunner(), SIX, hint=2, identifier=identifier))
    trace = run(pipeline_of(WatchRunner(), ["K0", "K1", "K0"], hint=2, identifier=identifier))
    s = trace.summary()
    assert (s.loads, s.evictions, s.uses) == (0, 0, 3)
    assert trace.notes == [
        "Score: models of an earlier run, which was not watched, were still in memory and "
        "answered: their loads and evictions, and the limit, cannot be seen.",
        "Score: model NamedModels K0: the load of the model that answered 2 batches was not seen.",
        "Score: model NamedModels K1: the load of the model that answered 1 batch was not seen.",
    ]
    assert [count.uses for count in trace.per_model()] == [2, 1, 0, 0, 0, 0]


def single(runner, handler, steps=("Score",), identifier=None):
    pipeline = beam.Pipeline(runner)
    shared = {} if identifier is None else {"model_identifier": identifier}
    for step in steps:
        numbers = pipeline | f"Create {step}" >> beam.Create([1, 2])
        _ = numbers | step >> RunInference(handler, **shared)
    return pipeline


class Unreferenced:
    """Cannot be weakly referenced: its release is not seen."""

    __slots__ = ()

    def answer(self):
        return "unreferenced"


class UnreferencedModels(AnsweringModels):
    def load_model(self):
        return Unreferenced()


@pytest.mark.parametrize("handler", [AnsweringModels, UnreferencedModels])
def test_the_model_of_a_handler_with_one_is_found_in_memory(handler):
    pipeline = single(WatchRunner(), handler("model", large_model=True), identifier=new_name())
    first, second, third = run(pipeline), run(pipeline), run(pipeline)
    assert (first.summary().loads, first.summary().already) == (1, 0)
    for trace in (second, third):
        assert (trace.summary().loads, trace.summary().already) == (0, 1)
        assert (trace.batches.residence >= 0).all()


def test_the_model_of_an_unwatched_step_is_named():
    identifier = new_name()
    handler = AnsweringModels("model", large_model=True, max_batch_size=1)
    run(single(FnApiRunner(), handler, identifier=identifier))
    trace = run(single(WatchRunner(), handler, identifier=identifier))
    assert (trace.summary().loads, trace.summary().uses) == (0, 2)
    assert trace.notes == [
        "Score: model Score: the load of the model that answered 2 batches was not seen."
    ]


class Together(NamedModels):
    """Two runs are in a batch of theirs at the same time."""

    meeting = threading.Barrier(2)

    def run_inference(self, batch, model, inference_args=None):
        if "meet" in batch:
            self.meeting.wait(60)
        return super().run_inference(batch, model, inference_args)


def test_two_runs_at_the_same_time_both_say_that_they_share():
    identifier = new_name()
    runners = [WatchRunner(), WatchRunner()]
    pipelines = []
    for runner, later in zip(runners, ("K1", "K2"), strict=True):
        pipeline = beam.Pipeline(runner)
        elements = [("K0", "first"), ("K0", "meet"), (later, "later"), ("K0", "meet")]
        handler = keyed(COHORTS, handler=Together)
        inference = RunInference(handler, model_identifier=identifier)
        _ = pipeline | beam.Create(elements, reshuffle=False) | "Score" >> inference
        pipelines.append(pipeline)
    threads = [threading.Thread(target=run, args=(pipeline,)) for pipeline in pipelines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    traces = [runner.trace for runner in runners]
    for trace in traces:
        assert sum("another watched run" in note for note in trace.notes) == 1
        assert {r.cohort for r in trace.residences} == {"K0", "K1", "K2"}
        assert trace.summary().already + trace.summary().loads == 3
        assert (trace.batches.residence >= 0).all()
    assert sum(trace.summary().loads for trace in traces) >= 3


@lru_cache(maxsize=1)
def one_model():
    return Model("one")


class CachedModels(NamedModels):
    def load_model(self):
        return one_model()


def test_a_use_is_of_a_load_of_its_own_step_and_model():
    one_model.cache_clear()
    trace = run(pipeline_of(WatchRunner(), ["K0", "K1", "K2", "K3"] * 2, handler=CachedModels))
    for residence in trace.residences:
        assert len(residence.rows) == 2
        models = {residence.batches.models[place][1] for place in residence.batches.asked.tolist()}
        assert models == {residence.model}
    assert len({r.object for r in trace.residences}) == 1
    assert trace.summary().most_resident == 4


class Halving(NamedModels):
    def run_inference(self, batch, model, inference_args=None):
        if len(batch) < 2:
            return list(super().run_inference(batch, model, inference_args))
        half = len(batch) // 2
        return [
            *self.run_inference(batch[:half], model, inference_args),
            *self.run_inference(batch[half:], model, inference_args),
        ]


class LazilyHalving(Halving):
    def run_inference(self, batch, model, inference_args=None):
        yield from super().run_inference(batch, model, inference_args)


class HalvingKeyed(FixedBatches):
    def run_inference(self, batch, model, inference_args=None):
        if len(batch) < 2:
            return super().run_inference(batch, model, inference_args)
        half = len(batch) // 2
        return [
            *self.run_inference(batch[:half], model, inference_args),
            *self.run_inference(batch[half:], model, inference_args),
        ]


@pytest.mark.parametrize("handler", [Halving, LazilyHalving])
def test_only_the_outermost_call_of_a_handler_is_a_use(handler):
    runner = WatchRunner()
    with beam.Pipeline(runner) as pipeline:
        numbers = pipeline | beam.Create(range(16), reshuffle=False)
        _ = numbers | "Score" >> RunInference(handler(min_batch_size=8, max_batch_size=8))
    assert (runner.trace.summary().uses, runner.trace.summary().elements) == (2, 16)


@pytest.mark.parametrize("handler", [NamedModels, Halving])
def test_so_it_is_where_a_keyed_handler_calls_itself(handler):
    runner = WatchRunner()
    mappings = [KeyModelMapping(keys, handler(keys[0])) for keys in COHORTS]
    halving = HalvingKeyed(mappings, batch_size=8)
    with beam.Pipeline(runner) as pipeline:
        elements = [("K0" if i % 3 else "K1", i) for i in range(16)]
        numbers = pipeline | beam.Create(elements, reshuffle=False)
        _ = numbers | "Score" >> RunInference(halving)
    s = runner.trace.summary()
    assert (s.uses, s.elements) == (4, 16)  # two batches, with two models in each


def test_a_model_that_a_model_manager_kept_is_named_where_its_load_was_not_seen():
    pipeline = beam.Pipeline(WatchRunner())
    handler = AnsweringModels("model", min_batch_size=2, max_batch_size=2)
    inference = RunInference(handler, use_model_manager=True, model_identifier=new_name())
    _ = pipeline | beam.Create(range(4), reshuffle=False) | "Score" >> inference
    first, second = run(pipeline), run(pipeline)
    assert (first.summary().loads, second.summary().loads) == (1, 0)
    assert second.summary().uses == 2
    unseen = "the load of the model that answered 2 batches was not seen."
    assert [note for note in second.notes if "not seen" in note] == [
        f"Score: model Score: {unseen}"
    ]


def test_what_was_collected_in_a_notebook_stays_in_memory_for_the_run():
    from apache_beam.runners.interactive import interactive_beam as ib
    from apache_beam.runners.interactive.interactive_runner import InteractiveRunner

    runner = WatchRunner(live=False)
    pipeline = pipeline_of(InteractiveRunner(runner), ["K0", "K1", "K2"], hint=2)
    scores = next(iter(pipeline.transforms_stack[0].parts[-1].outputs.values()))
    ib.watch({"pipeline": pipeline, "scores": scores})
    assert len(ib.collect(scores)) == 3
    collected = runner.trace
    pipeline.run().wait_until_finish()
    assert (collected.summary().loads, collected.summary().already) == (3, 0)
    again = runner.trace
    assert recorded(again)[1] == ["K1", "K2"]
    assert (again.batches.residence >= 0).all()
    assert again.summary().limit == 4
