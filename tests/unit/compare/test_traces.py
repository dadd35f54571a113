"""Recorded runs beside each other, from wherever they come."""

from __future__ import annotations

from pathlib import Path

import pytest

import mmlab
from mmlab.events import RunEnds
from mmlab.trace import Trace
from tests.events import Event

FIXTURES = Path(__file__).parents[2] / "fixtures"


def recorded(hint, turns, *, host="h", batch=1, loaded=2):
    """A run of two models that take turns, each loaded at its first turns."""

    def event(kind, second, **fields):
        return Event("r", second * 10**9, host, 1, 1, kind, **fields)

    cards = [{"step": "s", "model": m, "keys": [m], "hint": hint} for m in "ab"]
    events = [event("run", 0, info={"models": cards})]
    counts = {}
    for turn in range(turns):
        model = "ab"[turn % 2]
        if turn < loaded:
            counts[model] = counts.get(model, 0) + 1
            site = {"step": "s", "model": model, "generation": counts[model]}
            if counts[model] > 1:
                before = {**site, "generation": counts[model] - 1}
                events += [event("evict", turn + 1, **before), event("free", turn + 1, **before)]
            events.append(event("load_begin", turn + 1, **site))
            events.append(event("load_end", turn + 1, bytes=10**7, **site))
        site = {"step": "s", "model": model, "generation": counts[model]}
        use = {"n": batch, "keys": {model: batch}}
        events += [event("use_begin", turn + 1, **use, **site), event("use_end", turn + 1, **site)]
    return Trace([*events, event("end", turns + 1, info={"state": "DONE"})])


def test_runs_that_differ_in_their_hint_alone_are_judged_by_it():
    comparison = mmlab.compare_traces({"small": recorded(1, 8, loaded=8), "large": recorded(2, 8)})
    assert comparison.differences == ()
    assert comparison.verdict.endswith("2 is the smallest hint that does not thrash.")
    assert list(comparison.table()["loads"]) == [8, 2]
    assert list(comparison.table().index) == ["small", "large"]
    assert comparison.table().index.name == "run"
    assert set(comparison.traces) == {"small", "large"}
    assert comparison.notes == []


def test_the_verdict_says_what_else_differs_and_then_names_no_hint():
    comparison = mmlab.compare_traces(
        {"monday": recorded(1, 8, loaded=8), "friday": recorded(2, 6, batch=3, host="other")}
    )
    assert comparison.verdict.endswith(
        "monday thrashes. The runs differ in more than the hint: elements (8, 18), most elements "
        "in a batch (1, 3), machines."
    )
    twice = mmlab.compare_traces({"one": recorded(2, 8), "other": recorded(2, 8)})
    assert "smallest hint" not in twice.verdict


def test_logs_and_saved_traces_of_any_run_are_compared(tmp_path):
    saved = FIXTURES / "out_of_memory/1/saved.jsonl"
    comparison = mmlab.compare_traces(
        {
            "keyed": FIXTURES / "keyed_handler/1",
            "saved": str(saved),
            "killed": Trace.load(FIXTURES / "killed_worker/1"),
        }
    )
    assert list(comparison.table()["ended"]) == ["done", "out of memory", "unknown"]
    assert "saved ran out of memory" in comparison.verdict
    comparison.plot().save(tmp_path / "picture.png")
    figure = comparison.plot().figure
    assert "did not fit" in [text.get_text() for text in figure.axes[2].texts]
    assert figure.texts[0].get_text().endswith(": recorded runs")


def test_a_run_whose_end_was_not_recorded_is_not_said_to_have_failed():
    whole = recorded(1, 4)
    cut = Trace([event for event in whole.events if not isinstance(event, RunEnds)])
    comparison = mmlab.compare_traces({"whole": whole, "cut": cut})
    assert list(comparison.table()["ended"]) == ["done", "unknown"]
    assert "the end of cut was not recorded" in comparison.verdict.lower()
    assert "failed" not in comparison.verdict


@pytest.mark.parametrize(
    ("traces", "error", "says"),
    [
        ([], TypeError, "traces must be a dict .*, got \\[\\]"),
        ({}, ValueError, "traces must have at least one trace"),
        ({2: "x"}, TypeError, "names of traces must be text, got 2"),
        ({"a": "nowhere"}, FileNotFoundError, "no trace at nowhere"),
    ],
)
def test_bad_traces_are_refused(traces, error, says):
    with pytest.raises(error, match=says):
        mmlab.compare_traces(traces)
