"""Comparing hints: rows, words and pictures, and what is refused."""

from __future__ import annotations

import sys
import threading

import nbformat
import pytest
from nbclient import NotebookClient

import mmlab
from mmlab.lab import Comparison, FreshRunError, RunOutcome
from mmlab.lab.compare import HintRuns
from mmlab.trace import Trace
from mmlab.trace.event import Event
from tests.lab import pipelines
from tests.unit.test_trace import SECOND

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits need Linux")


def test_each_hint_is_a_row_with_its_counts(nothing_left):
    said, live = [], []
    comparison = mmlab.compare_hints(
        pipelines.small_models,
        hints=(1, 4, None),
        progress=said.append,
        on_events=lambda hint, events: live.append(hint),
    )
    assert repr(comparison).splitlines() == [
        "        ended loads reloads evictions uses elements most_resident limit model MB",
        "hint                                                                            ",
        "hint 1   done     8       4         7   12       12             1     1        –",
        "hint 4   done     4       0         0   12       12             4     4        –",
        "no hint  done     4       0         0   12       12             4     –        –",
        "1 is the smallest hint that does not thrash.",
    ]
    assert said[0] == "[1/3] hint 1: 8 loads (4 again), 7 evictions, 12 elements"
    assert len(said) == 3
    assert set(live) == {1, 4, None}
    assert {hint: len(traces) for hint, traces in comparison.traces.items()} == {
        1: 1,
        4: 1,
        None: 1,
    }
    assert {"ms", "% loading", "peak RSS MB"} < set(comparison.table(times=True).columns)
    assert comparison.notes == []


@linux
def test_a_hint_that_is_out_of_memory_is_a_row(nothing_left):
    comparison = mmlab.compare_hints(
        pipelines.huge_models, hints=(1, None), memory_limit="200MB", progress=None
    )
    assert list(comparison.table()["ended"]) == ["done", "out of memory"]
    assert comparison.verdict.endswith("no hint ran out of memory.")
    assert "did not fit" in repr(comparison)
    figure = comparison.plot().figure
    assert "did not fit" in [text.get_text() for text in figure.axes[2].texts]


def test_the_axes_are_aligned():
    comparison = mmlab.compare_hints(pipelines.models_in_turn, hints=(2, 4), progress=None)
    upper1, lower1, upper2, lower2 = comparison.plot("My title").figure.axes
    assert upper1.get_xlim() == lower1.get_xlim() == upper2.get_xlim() == lower2.get_xlim()
    assert lower1.get_ylim() == lower2.get_ylim()
    assert upper1.get_position().x0 == upper2.get_position().x0
    assert comparison.verdict.count("smallest hint that does not thrash") == 1
    data, metadata = comparison._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert data["text/plain"] == repr(comparison)
    assert metadata["image/png"]["width"] == 950


def outcome_of(loads, seconds, megabytes=0, phase="done", **more):
    """A run with so many loads of one model."""
    models = [{"step": "s", "model": "a", "hint": 1, "keys": ["k"]}]
    events = [Event("run", 0, "h", 1, 1, "run", info={"models": models})]
    for g in range(loads):
        at = int(SECOND * (g + 0.5) / loads * seconds)
        site = {"step": "s", "model": "a", "generation": g + 1}
        events.append(Event("run", at, "h", 1, 1, "load_begin", **site))
        events.append(Event("run", at + 1, "h", 1, 1, "load_end", bytes=megabytes * 10**6, **site))
        events.append(Event("run", at + 2, "h", 1, 1, "evict", **site))
        events.append(Event("run", at + 3, "h", 1, 1, "free", **site))
    state = {"state": "DONE" if phase == "done" else "FAILED"}
    events.append(Event("run", int(seconds * SECOND), "h", 1, 1, "end", info=state))
    return RunOutcome(Trace(events), phase, **more)


def test_repeats_give_medians_and_ranges():
    runs = tuple(outcome_of(loads, seconds) for loads, seconds in ((5, 1), (9, 3), (6, 2)))
    comparison = Comparison((HintRuns(1, runs), HintRuns(2, runs[:1] * 3)))
    table = comparison.table(times=True)
    assert table.loc["hint 1", "loads"] == "6 (5–9)"
    assert table.loc["hint 2", "loads"] == 5
    assert table.loc["hint 1", "ms"] == "2000 (1000–3000)"
    assert comparison.rows[0].shown is runs[2]
    assert "2.0 s (1.0–3.0)" in " ".join(
        t.get_text() for t in comparison.plot().figure.axes[0].texts
    )


def test_the_verdict_in_one_sentence():
    rows = (
        HintRuns(1, (outcome_of(9, 4.0, 20),)),
        HintRuns(2, (outcome_of(2, 1.0, 40),)),
        HintRuns(None, (outcome_of(1, 1.05, 60),)),
    )
    assert Comparison(rows).verdict == (
        "Hint 2 and no hint are the fastest (1.0 s); hint 1 holds the least (20 MB of models); 2 "
        "is the smallest hint that does not thrash."
    )
    failed = outcome_of(1, 1, phase="run", error_type="ValueError", error="no")
    assert Comparison((*rows, HintRuns(3, (failed,)))).verdict.endswith("; hint 3 failed.")
    assert Comparison(rows[:1]).verdict == "Hint 1 thrashes."


def test_a_build_that_forgets_the_hint_is_told():
    comparison = Comparison((HintRuns(7, (outcome_of(1, 1),)),))
    assert comparison.notes[0].startswith("hint 7: the handler that build made has the hint 1.")


@pytest.mark.parametrize(
    ("hints", "said"),
    [((), "at least one"), ((1, 2, 1), "hint 1 is there twice"), ((0,), "at least 1"),
     ((None, None), "twice"), (("2",), "at least 1"), ((1.5,), "at least 1")],
)  # fmt: skip
def test_hints_that_make_no_sense(nothing_left, hints, said):
    with pytest.raises(ValueError, match=said):
        mmlab.compare_hints(pipelines.small_models, hints)


def test_other_bad_input(nothing_left):
    for hints in (3, "12"):
        with pytest.raises(TypeError, match="such as"):
            mmlab.compare_hints(pipelines.small_models, hints)
    with pytest.raises(ValueError, match="repeat is 0"):
        mmlab.compare_hints(pipelines.small_models, repeat=0)
    lock = threading.Lock()
    with pytest.raises(TypeError, match="it uses lock"):
        mmlab.compare_hints(lambda pipeline, hint: lock, progress=None)


def test_a_build_that_never_works_is_the_end(nothing_left):
    with pytest.raises(FreshRunError, match="build failed in the fresh process with TypeError"):
        mmlab.compare_hints(lambda pipeline, hint: len(hint), (1, 2), progress=None)


def test_a_build_that_fails_for_one_hint_is_a_row(nothing_left):
    def build(pipeline, hint):
        pipelines.small_models(pipeline, {1: 1}[hint])

    comparison = mmlab.compare_hints(build, (1, 2), progress=None)
    assert list(comparison.table()["ended"]) == ["done", "failed"]
    assert "KeyError" in repr(comparison)
    assert comparison.plot().figure.axes


def test_an_interrupt_keeps_what_was_seen(nothing_left):
    def interrupt(hint, events):
        if hint == 2 and any(event.event == "load_end" for event in events):
            raise KeyboardInterrupt

    comparison = mmlab.compare_hints(
        pipelines.models_in_turn, (1, 2, 4), progress=None, on_events=interrupt
    )
    assert comparison.interrupted
    assert [row.hint for row in comparison.rows] == [1, 2]
    assert comparison.table()["ended"].iloc[0] == "done"
    assert comparison.verdict.endswith("interrupted before the end.")


def test_a_notebook_sees_each_run_while_it_goes_on_and_keeps_the_comparison():
    source = (
        "import mmlab\nfrom tests.lab import pipelines\n"
        "comparison = mmlab.compare_hints(pipelines.models_in_turn, hints=(1, None))\ncomparison"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    client = NotebookClient(notebook, timeout=120, kernel_name="python3")
    frames, process = [], client.process_message

    def note(message, cell, index):
        if "display_data" in message["msg_type"]:
            frames.append(message["content"]["data"])
        return process(message, cell, index)

    client.process_message = note
    client.execute()
    assert len({frame["image/png"] for frame in frames if "image/png" in frame}) >= 4
    place, *said, result = notebook.cells[0].outputs
    assert place.data == {"text/plain": ""}
    assert "".join(out.text for out in said).splitlines() == [
        "[1/2] hint 1: 12 loads (8 again), 11 evictions, 18 elements",
        "[2/2] no hint: 4 loads (0 again), 0 evictions, 18 elements",
    ]
    assert "image/png" in result.data


def test_a_terminal_sees_a_line_that_goes(nothing_left, capsys):
    mmlab.compare_hints(pipelines.small_models, hints=(1,), live=True)
    shown = capsys.readouterr()
    assert shown.out == "[1/1] hint 1: 8 loads (4 again), 7 evictions, 12 elements\n"
    assert shown.err == ""
