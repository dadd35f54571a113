"""Traces: intervals, summaries, files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlab.state import State, covered_ns, over_time
from mmlab.trace import Trace
from tests.events import Event
from tests.stories import SECOND, event, story


def test_summary():
    summary = Trace(story()).summary()
    assert summary.counts() == {
        "loads": 3,
        "reloads": 1,
        "evictions": 2,
        "uses": 2,
        "elements": 4,
        "most_resident": 1,
        "hint": 1,
        "limit": 1,
    }
    assert summary.load_seconds == pytest.approx(3)
    assert summary.loading_share == pytest.approx(0.3)
    assert summary.wall_seconds == pytest.approx(10)
    assert (summary.model_bytes, summary.rss_bytes, summary.peak_rss_bytes) == (64, 250, 300)
    assert "3 (1 again)" in str(summary)
    assert "<table>" in summary._repr_html_()


def test_a_model_that_is_never_freed_is_held_to_the_end():
    first = Trace(story(free=False)).residences[0]
    assert first.evict_ns == 4 * SECOND
    assert first.last_ns == 10 * SECOND
    assert Trace(story(free=False)).summary().most_resident == 2


def test_what_happens_after_the_end_is_not_of_the_run():
    late = event("free", 11, model="a", generation=2)
    assert Trace([*story(), late]).residences[-1].free_ns is None


def test_per_model_names_models_that_were_never_asked_for():
    counts = Trace(story()).per_model()
    assert [(c.model, c.loads, c.uses, c.elements, c.keys) for c in counts] == [
        ("a", 2, 1, 3, {"A": 3}),
        ("b", 1, 1, 1, {"B": 1}),
        ("c", 0, 0, 0, {}),
    ]


def test_uses_of_another_process_belong_to_the_process_that_holds_the_model():
    events = story()
    elsewhere = event("use_begin", 2.5, pid=2, model="a", n=7)
    trace = Trace([*events, elsewhere])
    assert [use.n for use in trace.residences[0].uses] == [3, 7]
    assert trace.residences[0].uses[1].process.pid == 2


def test_a_model_without_release_ends_with_its_eviction():
    events = [
        event("load_begin", 0, generation=1),
        event("load_end", 1, generation=1, what="free"),
        event("evict", 3, generation=1),
    ]
    residence = State(events).residences[0]
    assert not residence.free_observable
    assert residence.last_ns == 3 * SECOND


def test_save_and_load_give_the_same_trace(tmp_path):
    trace = Trace(story())
    path = trace.save(tmp_path / "trace.jsonl")
    assert Trace.load(path).events == trace.events
    assert Trace.load(str(path)).summary() == trace.summary()
    assert [p.name for p in tmp_path.iterdir()] == ["trace.jsonl"]


def test_saving_twice_changes_nothing(tmp_path):
    anchors = [
        Event("run", 0, "host", pid, 1, "process", wall_ns=wall) for pid, wall in ((1, 50), (2, 53))
    ]
    first = Trace([*anchors, *story()]).save(tmp_path / "a").read_text()
    once = Trace.load(tmp_path / "a").save(tmp_path / "b").read_text()
    twice = Trace.load(tmp_path / "b").save(tmp_path / "c").read_text()
    assert once == twice != first


def test_to_frame():
    frame = Trace(story()).to_frame()
    assert len(frame) == len(story())
    assert frame["seconds"].iloc[-1] == 10
    assert frame.loc[frame.event == "use_begin", "keys"].tolist() == [{"A": 3}, {"B": 1}]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: p / "nothing", FileNotFoundError, "does not exist"),
        (lambda p: p, FileNotFoundError, "holds no event log"),
        (lambda p: write(p / "t", ""), ValueError, "empty: not a trace"),
        (lambda p: write(p / "t", "what\n"), ValueError, "line 1: not an event"),
        (lambda p: write(p / "t", '{"v":99}\n'), ValueError, "update mmlab"),
        (lambda p: write(p / "t", "\x00\xff" * 9), ValueError, "line 1"),
        (lambda p: two_runs(p), ValueError, "holds 2 runs, load one of: a, b"),
        (lambda p: mixed(p), ValueError, "events of 2 runs"),
    ],
)
def test_what_cannot_be_loaded_is_said(tmp_path, make, error, message):
    with pytest.raises(error, match=message):
        Trace.load(make(tmp_path))


def write(path, content):
    path.write_text(content, encoding="latin-1")
    return path


def two_runs(path):
    for name in "ab":
        (path / name).mkdir()
        Trace(story()).save(path / name / "log.jsonl")
    return path


def mixed(path):
    other = Event("other", 1, "host", 1, 1, "limit")
    lines = [e.to_json() for e in (*story(), other)]
    return write(path / "t", "\n".join(lines) + "\n")


def test_an_empty_trace_answers_everything():
    trace = Trace([])
    assert trace.summary().loads == 0
    assert trace.notes == ["There are no events: the log folder was removed, or could not be read."]
    assert repr(trace)
    assert repr(trace.timeline())
    assert trace.to_frame().empty


def test_a_trace_says_what_it_lacks():
    events = [e for e in story() if e.event != "end"]
    events += [
        event("unobserved", 1, model=None, what="evictions"),
        event("unknown_key", 2, model=None, error="'Z'"),
        event("dropped", 3, model=None, n=4),
    ]
    assert Trace(events, torn=1).notes == [
        "s: evictions are not shown: this version of Beam hides them.",
        "s: key 'Z' is in the data, but no KeyModelMapping names it.",
        "1 cut-off line: a process ended while it wrote, or the disk was full.",
        "4 events could not be written: is the log folder full or gone?",
        "The end of the run was not seen.",
    ]
    assert Trace(events, torn=1).incomplete == Trace(events, torn=1).notes[2:]
    assert Trace(story()).notes == Trace(story()).incomplete == []


@pytest.mark.parametrize("what", ["evictions", "limit", "refresh", "hint", "free"])
def test_what_beam_hides_is_said_in_a_sentence(what):
    (note,) = Trace([*story(), event("unobserved", 1, model=None, what=what)]).notes
    assert len(note.split()) > 5


WORK = [
    event("use_begin", 3, pid=2, model="a", n=1),
    event("use_begin", 4, pid=2, model="a", n=1),
    event("load_begin", 5, pid=2, model="b", generation=1),
    event("use_begin", 4, pid=3, model="b", n=1),
]
"""Of two processes that were killed, in a run that went on without them."""


def test_a_trace_says_which_processes_did_not_end_what_they_began():
    because = "was not seen: the process was killed, could not write, or was still at work when"
    assert Trace([*story(), *WORK]).incomplete == [
        f"host:2: the end of 2 batches and 1 load {because} the run ended.",
        f"host:3: the end of 1 batch {because} the run ended.",
    ]


def test_what_ended_after_the_run_or_failed_is_not_missing():
    ends = [
        event("use_end", 11, pid=2, model="a"),
        event("use_end", 11, pid=2, model="a"),
        event("load_fail", 6, pid=2, model="b", generation=1),
        event("use_end", 11, pid=3, model="b"),
    ]
    assert Trace([*story(), *WORK, *ends]).incomplete == []


def test_what_a_run_that_goes_on_is_doing_is_not_missing():
    events = [e for e in (*story(), *WORK) if e.event != "end"]
    assert Trace(events).incomplete == ["The end of the run was not seen."]


intervals = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 20)).map(lambda p: (p[0], p[0] + p[1]))
)


@given(intervals)
def test_covered_counts_every_moment_once(pairs):
    moments = {moment for begin, end in pairs for moment in range(begin, end)}
    assert covered_ns(pairs) == len(moments)


@given(intervals)
def test_sums_over_time_agree_with_counting(pairs):
    times, counts = over_time([begin for begin, _ in pairs], [end for _, end in pairs])
    for t_ns, count in zip(times, counts, strict=True):
        assert count == sum(begin <= t_ns < end for begin, end in pairs)
