"""Processes' events in any order give the same state, and all that reads it the same numbers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlab.draw.live import LivePicture
from mmlab.draw.progress import Reader
from mmlab.draw.timeline import _most_models, draw_timeline
from mmlab.reports.notes import missing, unseen
from mmlab.reports.summary import count_per_model, summarize
from mmlab.state import State, held_over_time
from tests.events import Event
from tests.lanes import examples

MODELS = "abc"
STEPS = ("first", "second")
KINDS = (
    "load_begin", "load_end", "in_memory", "load_fail", "use_begin", "use_end", "evict", "free",
    "limit", "refresh", "memory", "unobserved", "unknown_key", "conflict", "dropped", "close",
    "process",
)  # fmt: skip
FIELDS = {
    "load_begin": st.fixed_dictionaries({"rss": st.integers(1, 9)}),
    "load_end": st.fixed_dictionaries(
        {},
        optional={
            "bytes": st.integers(1, 9),
            "what": st.just("free"),
            "object": st.integers(1, 2),
        },
    ),
    "in_memory": st.fixed_dictionaries(
        {"age_ns": st.integers(0, 9)},
        optional={
            "bytes": st.integers(1, 9),
            "what": st.just("free"),
            "object": st.integers(1, 2),
        },
    ),
    "load_fail": st.just({"error": "OSError: no"}),
    "use_begin": st.fixed_dictionaries(
        {"n": st.integers(0, 3)},
        optional={"keys": st.dictionaries(st.sampled_from("KL"), st.integers(1, 3))},
    ),
    "use_end": st.fixed_dictionaries({}, optional={"error": st.just("ValueError: no")}),
    "limit": st.fixed_dictionaries({}, optional={"limit": st.integers(1, 3)}),
    "refresh": st.just({"path": "v2"}),
    "memory": st.fixed_dictionaries(
        {"rss": st.integers(1, 9)},
        optional={"peak_rss": st.integers(1, 9), "device_bytes": st.integers(1, 9)},
    ),
    "unobserved": st.just({"what": "hint"}),
    "unknown_key": st.just({"error": "'Z'"}),
    "conflict": st.just({"error": "KeyError: 'x'"}),
    "dropped": st.just({"n": 2}),
}
OF_A_MODEL = ("load", "in_memory", "use", "evict", "free", "refresh")


def event(pid, t_ns, tid, kind, step=None, model=None, generation=None, **fields):
    cohort = None if model is None else model.upper()
    known = {} if cohort is None else {"cohort": cohort}
    return Event("run", t_ns, "host", pid, tid, kind, step, model, generation, **known, **fields)


def run_event(sharing, pid=1):
    models = [
        {"step": step, "model": model, "hint": 2, "keys": [model.upper()]}
        for step in STEPS
        for model in MODELS
    ]
    return event(pid, 0, 1, "run", info={"models": models, "sharing": sharing})


@st.composite
def anything(draw, pid):
    """Events of one process, in an order that makes no sense."""
    events, t_ns = [], 0
    for kind in draw(st.lists(st.sampled_from(KINDS), max_size=25)):
        t_ns += draw(st.integers(0, 3))
        about = [draw(st.sampled_from(STEPS))]
        if kind.startswith(OF_A_MODEL):
            about += [draw(st.sampled_from(MODELS)), draw(st.sampled_from([None, 1, 2]))]
        elif kind in ("memory", "dropped", "close", "process"):
            about = []
        fields = draw(FIELDS.get(kind, st.just({})))
        events.append(event(pid, t_ns, draw(st.integers(1, 2)), kind, *about, **fields))
    return events


@st.composite
def plausible(draw, pid):
    """Events of one process as its recorder writes them: several threads, evictions, failures."""
    events, t_ns = [], 0
    generations = defaultdict(int)
    state = {}
    open_uses = {}

    def write(kind, step, model, tid=1):
        fields = draw(FIELDS.get(kind, st.just({})))
        generation = generations[step, model] or None
        if kind in ("load_end", "in_memory"):
            fields = {name: value for name, value in fields.items() if name != "object"}
            fields.update(an_object())
        events.append(event(pid, t_ns, tid, kind, step, model, generation, **fields))

    def an_object():
        """What a load gives: an object of its own, most of the time."""
        return {"object": len(events)} if draw(st.booleans()) else {}

    for step, model, tid in draw(
        st.lists(
            st.tuples(st.sampled_from(STEPS), st.sampled_from(MODELS), st.integers(1, 2)),
            max_size=25,
        )
    ):
        t_ns += draw(st.integers(1, 3))
        now = state.get((step, model))
        if tid in open_uses:
            write("use_end", *open_uses.pop(tid), tid=tid)
        elif now is None and draw(st.booleans()):
            write("use_begin", step, model, tid)  # another process holds it
            open_uses[tid] = (step, model)
        elif now is None and not generations[step, model] and draw(st.booleans()):
            generations[step, model] = 1
            write("in_memory", step, model)
            state[step, model] = "held"
        elif now is None:
            generations[step, model] += 1
            write("load_begin", step, model)
            state[step, model] = "loading"
        elif now == "loading":
            kind = draw(st.sampled_from(["load_end", "load_end", "load_fail"]))
            write(kind, step, model)
            state[step, model] = "held" if kind == "load_end" else None
        elif now == "held" and draw(st.booleans()):
            write("use_begin", step, model, tid)
            open_uses[tid] = (step, model)
        elif now == "held":
            write("evict", step, model)
            last = [e for e in events if getattr(e, "what", None) and e.step == step]
            unseen = any((e.model, e.generation) == (model, generations[step, model]) for e in last)
            state[step, model] = None if unseen else "leaving"
        else:
            write("free", step, model)
            state[step, model] = None
    return events


@st.composite
def runs(draw, of_process):
    """Events of up to three processes, each in its order; and two orders of all together."""
    sharing = draw(st.sampled_from([[], [list(STEPS)]]))
    streams = [draw(of_process(pid)) for pid in range(1, draw(st.integers(1, 3)) + 1)]
    streams[0] = [run_event(sharing), *streams[0]]
    orders = []
    for _ in range(2):
        which = [number for number, stream in enumerate(streams) for _ in stream]
        left = [iter(stream) for stream in streams]
        orders.append([next(left[number]) for number in draw(st.permutations(which))])
    return streams, orders


def readings(state):
    """All that is read of a state."""
    return {
        "residences": [asdict_of(r) for r in state.residences],
        "batches": [asdict(use) for use in state.batches.uses()],
        "counts": state.counts,
        "memory": state.memory,
        "span": (state.start_ns, state.end_ns),
        "held now": state.held_now,
        "summary": summarize(state),
        "per model": count_per_model(state),
        "notes": [*unseen(state), *missing(state)],
    }


def asdict_of(residence):
    names = ("process", "step", "model", "generation", "load_begin_ns", "load_end_ns", "evict_ns",
             "free_ns", "last_ns", "bytes", "free_observable", "error", "object", "already",
             "again", "version")  # fmt: skip
    facts = {name: getattr(residence, name) for name in names}
    return {**facts, "uses": [asdict(use) for use in residence.uses]}


@pytest.mark.runs
@examples("interleavings", suite=60, full=3000)
@given(runs(anything), st.integers(1, 7))
def test_any_interleaving_gives_the_same_state(run, piece):
    streams, (first, second) = run
    at_once = State(event for stream in streams for event in stream)
    in_pieces = State()
    for begin in range(0, len(first), piece):
        in_pieces.add(first[begin : begin + piece])
        _ = in_pieces.counts, in_pieces.residences  # what was read does not stay
    assert in_pieces.processes == at_once.processes == State(second).processes
    assert readings(in_pieces) == readings(at_once) == readings(State(second))


@pytest.mark.runs
@examples("interleavings", suite=60, full=3000)
@given(runs(plausible), st.integers(1, 7))
def test_the_live_picture_and_the_summary_say_the_same(run, piece):
    streams, (order, _) = run
    last = event(1, 1000, 1, "memory", rss=5)  # nothing happens in the very last moment
    streams, order = [*streams, [last]], [*order, last]
    state = State()
    reader = Reader(state)
    for begin in range(0, len(order), piece):
        state.add(order[begin : begin + piece])
        reader.read()
    whole = State(event for stream in streams for event in stream)
    summary = summarize(whole)
    assert asdict(state.counts) == {name: getattr(summary, name) for name in asdict(state.counts)}
    assert (state.memory.rss, state.memory.peak_rss) == (summary.rss_bytes, summary.peak_rss_bytes)
    assert state.held_now == sum(r.resident_at(whole.end_ns - 1) for r in whole.residences)
    assert reader.most_models == _most_models(whole)
    areas = [held_over_time(r, sizes=True)[1] for r in whole.residences_by_machine.values()]
    assert reader.most_machine_bytes == max((int(a.max(initial=0)) for a in areas), default=0)
    assert sum(reader._loads) == summary.loads
    assert sum(reader._evictions) <= summary.evictions  # of those that are freed already


@pytest.mark.parametrize("held", [True, False])
def test_what_is_evicted_and_not_freed_is_held_in_each_of_them(held):
    """Two engines counted that apart once."""
    events = [
        run_event([]),
        event(1, 1, 1, "load_begin", "first", "a", 1),
        event(1, 2, 1, "load_end", "first", "a", 1, bytes=8),
        event(1, 3, 1, "evict", "first", "a", 1),
        event(1, 4, 1, "load_begin", "first", "b", 1),
        event(1, 5, 1, "load_end", "first", "b", 1, bytes=8),
        event(1, 9, 1, "memory", rss=5),
    ]
    if not held:
        events.insert(4, event(1, 4, 1, "free", "first", "a", 1))
    picture = LivePicture("Two")
    picture.add(events)
    most = 2 if held else 1
    assert f"{most} resident" in picture.line()
    assert summarize(picture.state).most_resident == most
    assert f"at most {most} resident" in repr(draw_timeline(picture.state))


def test_memory_of_two_processes_is_not_summed_anywhere():
    events = [
        run_event([]),
        event(1, 1, 1, "memory", rss=300_000_000),
        event(2, 2, 1, "memory", rss=250_000_000),
    ]
    picture = LivePicture("Two")
    picture.add(events)
    assert picture.line().endswith("RSS 300 MB (highest of 2 processes)")
    assert summarize(picture.state).rss_bytes == 300_000_000
