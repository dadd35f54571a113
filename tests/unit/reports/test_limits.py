"""The hint and the limit of a run whose steps differ, and of one where Beam hides them."""

from __future__ import annotations

from mmlab.compare import comparison as compare
from mmlab.events import UNKNOWN
from mmlab.prediction.recorded import Measured
from mmlab.reports.summary import DIFFERS, StepLimit
from mmlab.trace import Trace
from tests.unit.draw.test_timeline import texts
from tests.unit.trace.test_trace import event


def run(*steps, limits=(), sharing=(), more=()):
    """A run of steps, each a name, a hint and whether it is keyed; limits are of steps."""
    models = [
        {"step": step, "model": f"model of {step}", "hint": hint, "keys": [step] if keyed else []}
        for step, hint, keyed in steps
    ]
    begin = event("run", 0, step=None, model=None, info={"models": models, "sharing": sharing})
    changes = [event("limit", 1, step=step, model=None, limit=limit) for step, limit in limits]
    return Trace([begin, *changes, *more, event("memory", 2, model=None, rss=5)])


def test_steps_that_differ_are_named():
    trace = run(("First", 1, True), ("Second", None, True), limits=[("First", 1)])
    summary = trace.summary()
    assert (summary.hint, summary.limit) == (DIFFERS, DIFFERS)
    assert summary.limits == (StepLimit("First", 1, 1), StepLimit("Second", None, None))
    assert "1 → 1 (First), none → none (Second)" in str(summary)
    assert "hint 1 (First), no hint (Second)" in texts(trace.timeline().figure)
    assert "hint 1 (First), no hint (Second)" in repr(trace.timeline())


def test_steps_with_long_names_leave_room_in_the_header():
    steps = [(f"A step with a long name, the {number}.", number, True) for number in (1, 2, 3)]
    timeline = run(*steps).timeline()
    assert "hint or limit differs between steps   ·" in texts(timeline.figure)
    assert "hint 3 (A step with a l…, the 3.)" in repr(timeline)


def test_a_step_with_one_model_has_no_say():
    summary = run(("First", 1, True), ("Second", None, False), limits=[("First", 1)]).summary()
    assert (summary.hint, summary.limit) == (1, 1)


def test_two_hints_with_one_limit():
    trace = run(("First", 1, True), ("Second", 2, True), limits=[("First", 2), ("Second", 2)])
    assert (trace.summary().hint, trace.summary().limit) == (DIFFERS, 2)
    assert "hint 1 → limit 2 (First), hint 2 (Second)" in repr(trace.timeline())


def test_one_is_said_as_one():
    more = [
        event("load_begin", 1, step="First", model="m", generation=1, rss=100),
        event("load_end", 1, step="First", model="m", generation=1, bytes=64, rss=200),
        event("use_begin", 1, step="First", model="m", generation=1, n=1, keys={"A": 1}),
        event("use_end", 2, step="First", model="m", generation=1),
    ]
    said = str(run(("First", 1, True), more=more).summary())
    assert "most resident       1 model\n" in said
    assert "uses                1 batch, 1 element\n" in said


def test_none_is_none():
    trace = run(("First", None, True), ("Second", None, True), limits=[("First", None)])
    assert (trace.summary().hint, trace.summary().limit) == (None, None)
    assert "no hint," in repr(trace.timeline())
    assert "none → none" in str(trace.summary())


def test_what_beam_hides_is_unknown():
    hidden = event("unobserved", 1, step="First", model=None, what="limit")
    trace = run(("First", 2, True), more=[hidden])
    assert (trace.summary().hint, trace.summary().limit) == (2, UNKNOWN)
    assert "hint 2, limit unknown" in repr(trace.timeline())
    assert "2 → unknown" in str(trace.summary())


def test_steps_that_share_a_manager_share_its_limit():
    trace = run(
        ("First", 1, True), ("Second", 1, True), limits=[("First", 2)],
        sharing=[["First", "Second"]],
    )  # fmt: skip
    assert (trace.summary().hint, trace.summary().limit) == (1, 2)


def test_an_unknown_hint_says_nothing_of_copies():
    def copies(hint, limit):
        return Measured({}, {}, None, hint, limit, False, True).copies

    assert (copies(1, 3), copies(None, None), copies(UNKNOWN, 3), copies(2, UNKNOWN)) == (
        3,
        1,
        1,
        1,
    )


def test_tables_say_it_in_a_word():
    assert compare._cell([2, DIFFERS]) == "differs"
    assert compare._cell([UNKNOWN]) == "unknown"
