"""Models that were in memory, reloads, refreshes, copies and objects that several loads gave."""

from __future__ import annotations

import pytest

from mmlab.draw.lanes import lanes_of
from mmlab.draw.progress import Reader
from mmlab.draw.timeline import draw_timeline
from mmlab.reports.notes import unseen
from mmlab.reports.summary import count_per_model, summarize
from mmlab.state import State, held_over_time
from tests.events import Event


def event(t_ns, kind, model="m", generation=1, *, step="s", pid=1, **fields):
    return Event("r", t_ns, "host", pid, 1, kind, step, model, generation, **fields)


def run_of(*events, sharing=(), models=("m",), steps=("s",)):
    cards = [{"step": step, "model": model} for step in steps for model in models]
    info = {"models": cards, "sharing": sharing}
    begin = Event("r", 100, "host", 1, 1, "run", info=info)
    end = Event("r", 1000, "host", 1, 1, "end", info={"state": "DONE"})
    return State([begin, *events, end])


def load(t_ns, model="m", generation=1, **fields):
    """Two events, 10 ns apart."""
    more = {name: fields.pop(name) for name in ("bytes", "what", "object") if name in fields}
    return [
        event(t_ns, "load_begin", model, generation, **fields),
        event(t_ns + 10, "load_end", model, generation, **fields, **more),
    ]


def labels(state):
    final = [lane.label for lane in lanes_of(state)]
    reader = Reader(state)
    reader.read()
    assert [lane.label for lane in reader.lanes()] == final
    return final


def test_a_model_in_memory_is_held_since_the_run_began():
    state = run_of(event(300, "in_memory", age_ns=250, bytes=7, object=1))
    [r] = state.residences
    assert (r.load_begin_ns, r.load_end_ns, r.bytes, r.already) == (100, 100, 7, True)
    assert (state.counts.loads, state.counts.already, state.held_now) == (0, 1, 1)
    assert summarize(state).load_seconds == 0
    assert summarize(state).model_bytes == 7
    assert count_per_model(state)[0].already == 1


def test_one_that_another_run_loads_in_between_is_held_since_then():
    [r] = run_of(event(300, "in_memory", age_ns=50)).residences
    assert (r.load_begin_ns, r.load_end_ns, r.already) == (250, 250, True)


def test_a_load_after_an_eviction_is_a_reload():
    state = run_of(*load(200), event(300, "evict"), *load(400, generation=2))
    assert [r.again for r in state.residences] == [False, True]
    assert (state.counts.loads, state.counts.reloads) == (2, 1)


def test_so_is_one_after_an_eviction_before_the_run():
    assert run_of(*load(200, generation=2)).counts.reloads == 1


def test_another_copy_is_none():
    state = run_of(*load(200), *load(300, generation=2))
    assert (state.counts.loads, state.counts.reloads) == (2, 0)


def test_a_refresh_is_none_and_the_lane_names_the_version():
    state = run_of(
        *load(200), event(300, "refresh", path="/models/v2.pt"), event(310, "free"),
        *load(400, generation=2),
    )  # fmt: skip
    assert (state.counts.loads, state.counts.reloads, state.counts.refreshes) == (2, 0, 1)
    assert [r.version for r in state.residences] == [None, "/models/v2.pt"]
    assert labels(state) == ["m (v2.pt)"]


def test_a_refresh_that_nothing_was_loaded_after_changes_no_name():
    state = run_of(*load(200), event(300, "refresh", path="/models/v2.pt"))
    assert labels(state) == ["m"]


def test_an_object_of_several_loads_is_in_memory_once():
    state = run_of(
        *load(200, "a", bytes=5, object=1), *load(300, "b", bytes=5, object=1),
        *load(400, "c", bytes=3, object=2), models=("a", "b", "c"),
    )  # fmt: skip
    assert summarize(state).most_resident == 3
    assert summarize(state).model_bytes == 8
    assert held_over_time(state.residences, sizes=True)[1].tolist() == [5, 8, 0]
    reader = Reader(state)
    reader.read()
    assert (reader.most_models, reader.most_machine_bytes) == (3, 8)


def test_so_is_one_that_was_evicted_and_loaded_again():
    state = run_of(
        *load(200, bytes=5, object=1), event(300, "evict"),
        *load(400, generation=2, bytes=5, object=1), event(500, "evict", generation=2),
        event(600, "free"), event(600, "free", generation=2),
    )  # fmt: skip
    assert summarize(state).most_resident == 1
    assert held_over_time(state.residences)[0].tolist() == [210, 600]


def test_objects_of_two_processes_are_two():
    loads = [*load(200, bytes=5, object=1), *load(300, pid=2, bytes=5, object=1)]
    assert held_over_time(run_of(*loads).residences, sizes=True)[1].tolist() == [5, 10, 0]


def use(t_ns, generation, *, step="s", model="m", pid=1):
    return [
        event(t_ns, "use_begin", model, generation, step=step, pid=pid, n=2),
        event(t_ns + 10, "use_end", model, generation, step=step, pid=pid),
    ]


def test_batches_of_steps_that_share_a_model_are_drawn_at_the_step_that_asked():
    state = run_of(
        *load(200, step="A"), *use(300, 1, step="A"), *use(400, 1, step="B"),
        sharing=[["A", "B"]], steps=("A", "B"),
    )  # fmt: skip
    first, second = lanes_of(state)
    assert (len(first.residences), first.used(1000).tolist()) == (1, [[300, 310]])
    assert (len(second.residences), second.used(1000).tolist()) == (0, [[400, 410]])
    assert labels(state) == ["A · m", "B · m"]
    reader = Reader(state)
    reader.read()
    assert all(lane.numbers for lane in reader.lanes())


def test_a_batch_whose_load_was_not_seen_is_drawn_counted_and_named():
    state = run_of(*use(300, None), *use(320, None), *use(340, None, model="x"))
    lanes = {lane.model: lane for lane in lanes_of(state)}
    assert lanes["m"].used(1000).tolist() == [[300, 310], [320, 330]]
    assert lanes["x"].used(1000).tolist() == [[340, 350]]
    assert {count.model: count.uses for count in count_per_model(state)} == {"m": 2, "x": 1}
    assert [note for note in unseen(state) if "not seen" in note] == [
        "s: model m: the load of the model that answered 2 batches was not seen.",
        "s: model x: the load of the model that answered 1 batch was not seen.",
    ]
    assert labels(state) == ["m", "x"]


def test_the_words_of_a_picture_tell_models_in_memory():
    state = run_of(event(300, "in_memory"))
    assert repr(draw_timeline(state)).splitlines()[:2] == [
        "Timeline of s: no hint, 1 model already in memory, 0 loads, 0 evictions, at most 1 "
        "resident",
        "  m  already in memory, 0 loads, 0 evictions, 0 batches, 0 elements",
    ]


@pytest.mark.parametrize("generation", [1, 2])
def test_the_end_of_the_run_cuts_off_what_comes_later(generation):
    late = event(1200, "in_memory", generation=generation, age_ns=10)
    assert run_of(late).counts.already == 0
