"""Batches are written of the load that answered them, wherever in memory its model lies."""

from __future__ import annotations

from mmlab.trace import Trace
from mmlab.worker.models import Load, Site
from mmlab.worker.recorder import Log, close_recorder, recorder_for


class Model:
    pass


class Unreferenced:
    """Cannot be weakly referenced: its release is not seen."""

    __slots__ = ()


def generations(folder, kind, sites=("s",)):
    """Of batches of models that are loaded, used and dropped one after another."""
    log = Log(str(folder), "r")
    recorder = recorder_for(log)
    sites = [Site(step, "m") for step in sites]  # a step names its model by one object
    addresses = set()
    for _ in range(50):
        model = kind()
        addresses.add(id(model))
        Load([(recorder, sites[0])]).ends(model, ())
        for site in sites:
            recorder.use_ends(recorder.use_begins(site, id(model), 1, {}))
        del model
    close_recorder(log)
    assert len(addresses) < 50  # or the test shows nothing
    uses = Trace.load(folder).of_kind("use_begin")
    return [(use.step, use.generation) for use in uses]


def test_a_model_in_the_place_of_another_is_another(tmp_path):
    assert generations(tmp_path, Model) == [("s", i + 1) for i in range(50)]


def test_so_is_one_whose_release_cannot_be_seen(tmp_path):
    assert generations(tmp_path, Unreferenced) == [("s", i + 1) for i in range(50)]


def test_steps_that_share_a_model_are_told_apart(tmp_path):
    expected = [(step, i + 1) for i in range(50) for step in "st"]
    assert generations(tmp_path, Model, sites=("s", "t")) == expected


def test_a_model_of_another_process_has_no_generation(tmp_path):
    log = Log(str(tmp_path), "r")
    recorder = recorder_for(log)
    for _ in range(3):
        recorder.use_ends(recorder.use_begins(Site("s", "m"), 0, 1, {}))
    close_recorder(log)
    assert {use.generation for use in Trace.load(tmp_path).of_kind("use_begin")} == {None}
