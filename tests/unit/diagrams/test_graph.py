"""The graph of a pipeline says what Beam's own proto says."""

from __future__ import annotations

import re
from types import SimpleNamespace

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners import render

from mmlab.diagrams import graph
from mmlab.diagrams.graph import handler_inference, pipeline_graph
from tests.unit.diagrams.pipelines import (
    BUILDERS,
    LESSONS,
    keyed_handler,
    new_pipeline,
    torch_handler,
)


@pytest.fixture(scope="module", params=BUILDERS)
def built(request) -> beam.Pipeline:
    return BUILDERS[request.param]()


@pytest.fixture(scope="module")
def proto(built) -> beam_runner_api_pb2.Pipeline:
    return built.to_runner_api()


def test_there_are_at_least_25_pipelines():
    assert len(BUILDERS) >= 25


@pytest.mark.parametrize("depth", [1, 2, 3, None])
def test_steps_and_edges_are_those_of_the_proto(built, proto, depth):
    drawn = pipeline_graph(built, depth=depth)
    steps, edges = _proto_graph(proto, depth)
    assert [step.id for step in drawn.steps] == steps
    found = {(e.source, e.target, bool(e.side)) for e in drawn.edges if e.target is not None}
    assert found == edges


@pytest.mark.parametrize("depth", [1, None])
def test_edges_are_those_of_beams_own_renderer(built, proto, depth):
    drawn = {(e.source, e.target) for e in pipeline_graph(built, depth=depth).edges}
    assert {(s, t) for s, t in drawn if t is not None} == _rendered_edges(proto, depth)


def _proto_graph(pipeline, depth):
    """Steps and (source, target, is side input), computed from the proto alone."""
    transforms = pipeline.components.transforms
    shown: dict[str, str] = {}
    steps: list[str] = []

    def show(ids, level, around=None):
        for i in ids:
            inside = transforms[i].subtransforms
            if around is None and inside and (depth is None or level < depth):
                show(inside, level + 1)
            else:
                if around is None:
                    steps.append(i)
                shown[i] = around or i
                show(inside, level, around or i)

    (root,) = pipeline.root_transform_ids
    show(transforms[root].subtransforms, 1)
    leaves = [i for i in shown if not transforms[i].subtransforms]
    sides = {i: _side_inputs(transforms[i]) for i in leaves}
    producer = {
        collection: shown[i]
        for i in leaves
        for collection in transforms[i].outputs.values()
        if collection not in transforms[i].inputs.values()
    }
    main_use, side_use = set(), set()
    for i in leaves:
        for tag, collection in transforms[i].inputs.items():
            (side_use if tag in sides[i] else main_use).add((collection, shown[i]))
    for i in steps:
        for collection in transforms[i].inputs.values():
            if (collection, i) not in side_use:
                main_use.add((collection, i))

    name = {i: transforms[i].unique_name for i in shown}
    edges = {
        (name[producer[collection]], name[target], is_side)
        for uses, is_side in ((main_use, False), (side_use, True))
        for collection, target in uses
        if producer[collection] != target
    }
    return [name[i] for i in steps], edges


def _side_inputs(transform) -> set[str]:
    if transform.spec.urn != "beam:transform:pardo:v1":
        return set()
    payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
    return set(payload.side_inputs)


def _rendered_edges(proto, depth):
    (root,) = proto.root_transform_ids
    options = PipelineOptions().view_as(render.RenderOptions)
    renderer = render.PipelineRenderer(proto, options)
    # By itself Beam's renderer opens a composite that is alone at the top.
    renderer.roots = list(proto.components.transforms[root].subtransforms)
    renderer.leaf_composites = set(renderer.roots) if depth == 1 else set()
    transforms = proto.components.transforms
    found = re.findall(r'^"(\w[^"]*)" -> "([^"]*)"', renderer.to_dot(), re.M)
    return {(transforms[s].unique_name, transforms[t].unique_name) for s, t in found}


@pytest.mark.parametrize("build", LESSONS.values(), ids=LESSONS)
def test_a_copy_through_the_proto_gives_the_same_edges(build):
    built = build()
    proto = built.to_runner_api(use_fake_coders=True)
    copy = beam.Pipeline.from_runner_api(proto, built.runner, built.options)
    one, two = pipeline_graph(built), pipeline_graph(copy)
    assert [s.id for s in one.steps] == [s.id for s in two.steps]
    assert [s.inferences for s in one.steps] == [s.inferences for s in two.steps]
    # The proto does not keep how a side input is read, so two views of one PCollection are one.
    assert set(_without_views(one)) == set(_without_views(two))


def _without_views(drawn):
    return [(e.source, e.target, e.tag, e.input_tag, bool(e.side)) for e in drawn.edges]


# What a picture must say


def _graph(name, **options):
    return pipeline_graph(BUILDERS[name](), **options)


def _tags(drawn, source):
    return {e.target: e.tag for e in drawn.edges if e.source == source}


def test_model_cards_of_a_keyed_step():
    drawn = _graph("keyed")
    (inference,) = next(s for s in drawn.steps if s.label == "Inference").inferences
    assert inference.keyed == "many"
    assert inference.hint == 2
    assert [(m.card.name, m.card.keys) for m in inference.models] == [
        ("config_1", ("KEY_1",)),
        ("config_2", ("KEY_2", "KEY_3")),
        ("config_3", ("KEY_4",)),
        ("config_4", ("KEY_5", "KEY_6")),
    ]
    assert {m.card.handler for m in inference.models} == {"PytorchModelHandlerTensor"}


def test_one_model_for_every_key():
    (inference,) = _graph("keyed_one_model").steps[1].inferences
    assert inference.keyed == "one"
    assert [m.card.name for m in inference.models] == ["shared_by_all_keys"]


def test_partition_branches_are_numbered_and_in_order():
    drawn = _graph("partition_unused")
    assert [e.tag for e in drawn.edges if e.source.startswith("Partition")] == [
        str(n) for n in range(12)
    ]


def test_tags_of_multiple_outputs():
    tags = _tags(_graph("tagged_outputs"), "Route")
    assert tags == {"Model": "", "Count negative": "negative", None: "too large"}


def test_tags_of_a_composite_that_returns_a_dict():
    assert _tags(_graph("composite_outputs"), "By size") == {
        "Quick": "small",
        "Thorough": "large",
    }


def test_co_group_by_key_names_its_inputs():
    edges = _graph("co_group_by_key").edges
    into = {(e.source, e.target): e.input_tag for e in edges}
    assert into["Emails", "CoGroupByKey"] == "emails"
    assert into["Phones", "CoGroupByKey"] == "phones"
    assert into["Phones", "Without names"] == "0"


def test_side_inputs_say_how_they_are_read():
    edges = _graph("side_input_twice").edges
    assert sorted(e.side for e in edges) == ["", "AsIter", "AsList"]


def test_dead_letters_are_visible_even_when_nobody_reads_them():
    drawn = _graph("dead_letters_unused")
    (dead,) = [e for e in drawn.edges if e.dead_letter]
    assert (dead.source, dead.target, dead.tag) == ("Model", None, "failed_inferences")
    assert drawn.steps[1].inferences[0].exception_handling


def test_every_dead_letter_output_has_its_name():
    drawn = _graph("dead_letters")
    dead = {(e.source, e.target, e.tag) for e in drawn.edges if e.dead_letter}
    assert dead == {
        ("Parse", "Failures", "bad"),
        ("Model", "Failures", "failed_inferences"),
        ("Model", None, "failed_preprocessing"),
        ("Model", None, "failed_postprocessing"),
    }


def test_processing_functions_in_the_order_in_which_they_run():
    (inference,) = _graph("processing_functions").steps[1].inferences
    assert inference.preprocess == ("abs", "int")
    assert inference.postprocess == ("_value", "str")


def test_model_updates():
    (inference,) = next(s for s in _graph("model_updates").steps if s.inferences).inferences
    assert inference.updates


def test_a_closed_composite_names_the_models_inside():
    step = _graph("nested_composites").steps[1]
    assert [i.step for i in step.inferences] == ["Ensemble/Small", "Ensemble/Large"]
    assert [i.models[0].card.name for i in step.inferences] == ["small", "large"]


def test_depth_opens_composites():
    drawn = _graph("nested_composites", depth=2)
    assert [c.id for c in drawn.composites] == ["Read", "Ensemble"]
    assert "Ensemble/Small" in {s.id for s in drawn.steps}
    deeper = _graph("nested_composites", depth=3)
    parents = {c.id: c.parent for c in deeper.composites}
    assert parents["Ensemble/Clean"] == "Ensemble"


@pytest.mark.parametrize("depth", [2, 3, None])
def test_every_model_is_on_one_card_at_every_depth(depth):
    names = [m.card.name for m in _graph("nested_composites", depth=depth).models]
    assert sorted(names) == ["large", "small"]


def test_step_draws_the_inside_of_one_composite():
    drawn = _graph("nested_composites", step="Ensemble")
    assert [s.id for s in drawn.steps if s.outside] == ["Read", "Show"]
    assert [s.label for s in drawn.steps if not s.outside] == ["Clean", "Small", "Large", "Flatten"]
    assert drawn.inside == "Ensemble"


def test_step_is_not_confused_by_slashes_in_labels():
    p = new_pipeline()
    data = p | "a" >> beam.Create([1])
    data | "a/b" >> beam.Distinct()
    drawn = pipeline_graph(p, step="a/b")
    assert [s.id for s in drawn.steps if s.outside] == ["a"]


def test_a_composite_with_odd_attributes():
    class Odd(beam.PTransform):
        windowing = "minutes"

        def expand(self, data):
            return data | beam.Map(print)

    p = new_pipeline()
    p | beam.Create([1]) | "Odd one" >> Odd()
    assert [s.transform for s in pipeline_graph(p).steps] == ["", "Odd"]


def test_stats_reach_the_models_of_a_closed_composite():
    row = SimpleNamespace(
        step="Ensemble/Small",
        model="small",
        loads=2,
        reloads=1,
        evictions=1,
        uses=3,
        elements=9,
        load_seconds=0.1,
        keys={},
    )
    trace = SimpleNamespace(per_model=lambda: [row], element_counts={}, dead_letters={})
    found = _graph("nested_composites", trace=trace).models
    assert [m.stats and m.stats.loads for m in found] == [2, None]


def test_windows_have_sizes():
    transforms = {s.label: s.transform for s in _graph("streaming_windows").steps}
    assert transforms["Minutes"] == "FixedWindows(60 s)"
    assert transforms["WindowInto(WindowIntoFn)"] == "SlidingWindows(300 s, every 60 s)"


def test_labels_with_slashes():
    p = new_pipeline()
    p | "a/b" >> beam.Create([1]) | "c/d/e" >> beam.Map(print)
    assert [s.label for s in pipeline_graph(p).steps] == ["a/b", "c/d/e"]


def test_an_empty_pipeline_has_no_steps():
    assert _graph("empty").steps == ()


# Bad input


@pytest.mark.parametrize("depth", [0, -1, 1.5, "2", True])
def test_depth_must_be_a_whole_number(depth):
    with pytest.raises(ValueError, match="whole number, 1 or more, or None"):
        _graph("sequence", depth=depth)


def test_an_unknown_step_names_those_that_exist():
    with pytest.raises(ValueError, match="'Ensemble'"):
        _graph("nested_composites", step="Ensembel")


def test_too_many_steps_are_refused_with_a_way_out(monkeypatch):
    monkeypatch.setattr(graph, "_MAX_STEPS", 6)
    with pytest.raises(
        ValueError, match="9 steps are too many .*most 6.*: draw one composite .*step="
    ):
        pipeline_graph(BUILDERS["ensemble_join"]())
    with pytest.raises(ValueError, match="a smaller depth= or"):
        pipeline_graph(BUILDERS["nested_composites"](), depth=3)


# Handlers


def test_a_handler_alone():
    found = handler_inference(keyed_handler())
    assert found.key_count == 6
    assert len(found.models) == 4


def test_a_trace_of_two_steps_is_ambiguous_for_a_handler():
    rows = [
        SimpleNamespace(
            step=s,
            model="m",
            loads=1,
            reloads=0,
            evictions=0,
            uses=1,
            elements=1,
            load_seconds=0.1,
            keys={},
        )
        for s in ("one", "two")
    ]
    trace = SimpleNamespace(per_model=lambda: rows, element_counts={}, dead_letters={})
    with pytest.raises(ValueError, match="one, two"):
        handler_inference(torch_handler("m"), trace=trace)


def test_the_numbers_of_cells_are_left_out():
    pipeline = beam.Pipeline()
    read = pipeline | "[3]: Read" >> beam.Create([1])
    _ = read | "[4]: Again" >> beam.Map(str)
    _ = read | "[5]: Again" >> beam.Map(str)
    found = pipeline_graph(pipeline)
    assert [(step.id, step.label) for step in found.steps] == [
        ("Read", "Read"),
        ("[4]: Again", "Again"),
        ("[5]: Again", "Again"),
    ]
    assert {edge.source for edge in found.edges if edge.target} == {"Read"}
