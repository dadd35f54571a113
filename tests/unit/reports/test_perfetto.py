"""Exports for Perfetto, read back by the rules of the format."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlab.trace import Trace
from tests.tracks import HOSTILE, SECOND, event, load, use


def exported(events, tmp_path):
    path = Trace(events).to_perfetto(tmp_path / "trace.json")
    text = path.read_bytes()
    assert text.isascii()
    text.decode().encode("utf-8")

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)["traceEvents"]


def lanes(events):
    """Slices `(name, begin, end)` by process and name of the outermost slice, as Perfetto nests.

    Checks that each end closes the slice that was opened last with its id.
    """
    found, stacks, lane_of = defaultdict(list), defaultdict(list), {}
    stamps = [e["ts"] for e in events if "ts" in e]
    assert stamps == sorted(stamps)
    assert all(stamp >= 0 for stamp in stamps)
    for e in events:
        if e["ph"] not in "ben":
            continue
        identity = (e["pid"], e["cat"], e["id2"]["local"])
        stack = stacks[identity]
        if e["ph"] == "b":
            if not stack:
                assert identity not in lane_of, "an id is used twice"
                lane_of[identity] = (e["pid"], e["name"])
            stack.append(e)
        elif e["ph"] == "e":
            begun = stack.pop()
            assert begun["name"] == e["name"]
            found[lane_of[identity]].append((e["name"], begun["ts"] / 1e6, e["ts"] / 1e6))
        else:
            assert stack, "a mark outside its slice"
            found[lane_of[identity]].append((e["name"], e["ts"] / 1e6, e["ts"] / 1e6))
    assert not any(stacks.values())
    for (_, name), slices in found.items():
        slices.sort(key=lambda s: (s[1], -s[2], s[0] != name))
    return dict(found)


def counters(events, name):
    rows = [e for e in events if e["ph"] == "C" and e["name"] == name]
    return [(e["pid"], e["ts"] / 1e6, *e["args"].values()) for e in rows]


def test_one_lane_for_each_model(tmp_path):
    events = exported(
        [
            event("run", 0, model=None, step=None),
            event("limit", 0.5, model=None, limit=1),
            *load("a", 1, 2, evict=5, free=6),
            *use("a", 2, 4),
            *load("b", 5, 5.5),
            *load("a", 7, 8, generation=2),
            event("end", 9, model=None, step=None),
        ],
        tmp_path,
    )
    assert lanes(events) == {
        (1, "a"): [
            ("a", 1, 6),
            ("loading", 1, 2),
            ("in use", 2, 4),
            ("evicted", 5, 5),
            ("freed", 6, 6),
            ("a", 7, 9),
            ("loading", 7, 8),
        ],
        (1, "b"): [("b", 5, 9), ("loading", 5, 5.5)],
    }
    assert counters(events, "models") == [
        (1, 2, 1),
        (1, 5.5, 2),
        (1, 6, 1),
        (1, 8, 2),
        (1, 9, 0),
    ]
    assert counters(events, "limit of s:") == [(1, 0.5, 1)]
    assert counters(events, "RSS") == [(1, 1, 100), (1, 5, 100), (1, 7, 100)]
    use_args = next(e["args"] for e in events if e["name"] == "in use" and "args" in e)
    assert use_args == {"elements": 2, "keys": {"K": 2}, "asked_by": "h:1"}


def test_batches_that_overlap_take_a_line_each(tmp_path):
    events = [*load("a", 0, 1), *use("a", 1, 4, tid=1), *use("a", 2, 5, tid=2), *use("a", 6, 7)]
    slices = lanes(exported([*events, event("end", 9, model=None)], tmp_path))[1, "a"]
    assert [s for s in slices if s[0] == "in use"] == [
        ("in use", 1, 4),
        ("in use", 2, 5),
        ("in use", 6, 7),
    ]


def test_a_model_in_memory_has_a_mark_and_a_batch_without_a_load_a_lane(tmp_path):
    events = [
        event("run", 0, model=None, step=None),
        event("in_memory", 2, model="a", generation=1, age_ns=5 * SECOND),
        *use("a", 3, 4),
        *use("b", 5, 6, generation=None),
        event("end", 9, model=None, step=None),
    ]
    assert lanes(exported(events, tmp_path)) == {
        (1, "a"): [("a", 0, 9), ("already in memory", 0, 0), ("in use", 3, 4)],
        (1, "b"): [("b", 5, 6), ("in use", 5, 6)],
    }


def test_the_same_process_id_on_two_machines_is_two_processes(tmp_path):
    events = exported(
        [*load("a", 1, 2, host="x", pid=7), *load("a", 1, 3, host="y", pid=7)], tmp_path
    )
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert sorted(names.values()) == ["x:7", "y:7"]
    assert {lane[0] for lane in lanes(events)} == set(names)


def test_a_run_that_broke_off_is_closed(tmp_path):
    events = [
        event("run", 0, model=None),
        *load("a", 1, 2),
        *use("a", 3, None),
        event("load_begin", 4, model="b", generation=1),
        event("memory", 5, model=None, rss=1),
    ]
    assert lanes(exported(events, tmp_path)) == {
        (1, "a"): [("a", 1, 5), ("loading", 1, 2), ("in use", 3, 5)],
        (1, "b"): [("b", 4, 5), ("loading", 4, 5)],
    }


def test_names_are_data(tmp_path):
    at = {"host": HOSTILE, "pid": 10**18, "step": HOSTILE}
    events = exported([*load(HOSTILE, 1, 2, **at), *use(HOSTILE, 2, 3, **at)], tmp_path)
    ((pid, name),) = lanes(events)
    assert name == 'm"\\</script>?[2J??é模U+1F4A5,'
    assert 0 < pid < 2**31


@pytest.mark.parametrize("events", [[], [event("run", 0, model=None)]])
def test_a_trace_without_models_is_valid(events, tmp_path):
    assert lanes(exported(events, tmp_path)) == {}


times = st.integers(0, 30)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["load_begin", "load_end", "evict", "free", "use_begin", "use_end"]),
            times,
            st.sampled_from("ab"),
            st.integers(1, 2),
            st.integers(1, 3),
        ),
        max_size=40,
    )
)
def test_whatever_happened_slices_nest(tmp_path_factory, rows):
    events = [
        event(kind, second, model=model, generation=generation, tid=tid, n=1)
        for kind, second, model, generation, tid in rows
    ]
    lanes(exported(events, tmp_path_factory.mktemp("trace")))
