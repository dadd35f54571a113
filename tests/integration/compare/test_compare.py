"""Comparing hints: rows, words and pictures, and what is refused."""

from __future__ import annotations

import itertools
import sys
import threading

import nbformat
import pytest
from nbclient import NotebookClient

import mmlab
from mmlab.compare import hints as compare
from mmlab.compare.comparison import Comparison, HintRuns
from mmlab.fresh.outcome import FreshRunError, RunOutcome
from mmlab.trace import Trace
from mmlab.watching import screens
from tests.events import Event
from tests.integration import pipelines
from tests.stories import SECOND

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits need Linux")


@pytest.mark.runs
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
        "4 is the smallest hint that does not thrash, of those that ran.",
    ]
    assert said[0] == "[1/3] hint 1: 8 loads (4 reloads), 7 evictions, 12 elements"
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
@pytest.mark.runs
def test_a_hint_that_is_out_of_memory_is_a_row(nothing_left):
    comparison = mmlab.compare_hints(
        pipelines.huge_models, hints=(1, None), memory_limit="200MB", progress=None
    )
    assert list(comparison.table()["ended"]) == ["done", "out of memory"]
    assert comparison.verdict.endswith(
        "; hint 1 passed and the run without a hint ran out of memory."
    )
    assert "did not fit" in repr(comparison)
    figure = comparison.plot().figure
    assert "did not fit" in [text.get_text() for text in figure.axes[2].texts]


@pytest.mark.runs
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


def outcome_of(loads, seconds, megabytes=0, phase="done", uses=20, rss=None, **more):
    """A run with so many loads of one model, and batches for it; None for a size not known."""
    models = [{"step": "s", "model": "a", "hint": 1, "keys": ["k"]}]
    events = [Event("run", 0, "h", 1, 1, "run", info={"models": models})]
    for g in range(loads):
        at = int(SECOND * (g + 0.5) / loads * seconds)
        site = {"step": "s", "model": "a", "generation": g + 1}
        events.append(Event("run", at, "h", 1, 1, "load_begin", **site))
        size = None if megabytes is None else megabytes * 10**6
        events.append(Event("run", at + 1, "h", 1, 1, "load_end", bytes=size, **site))
        events.append(Event("run", at + 2, "h", 1, 1, "evict", **site))
        events.append(Event("run", at + 3, "h", 1, 1, "free", **site))
    if rss is not None:
        events.append(Event("run", 1, "h", 1, 1, "memory", rss=rss * 10**6))
    for _ in range(uses):
        site = {"step": "s", "model": "a", "generation": loads}
        events.append(Event("run", at + 1, "h", 1, 1, "use_begin", n=1, **site))
        events.append(Event("run", at + 1, "h", 1, 1, "use_end", **site))
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
        HintRuns(2, (outcome_of(1, 1.0, 40),)),
        HintRuns(None, (outcome_of(1, 1.05, 60),)),
    )
    assert Comparison(rows).verdict == (
        "Hint 2 and the run without a hint are the fastest (1.0 s); hint 1 holds the least (20 MB "
        "of models); 2 is the smallest hint that does not thrash."
    )
    failed = outcome_of(1, 1, phase="run", error_type="ValueError", error="no")
    assert Comparison((*rows, HintRuns(3, (failed,)))).verdict.endswith("; hint 3 failed.")
    assert Comparison(rows[:1]).verdict == "Hint 1 thrashes."


CALM, WILD = (outcome_of(1, 1.0),), (outcome_of(9, 1.0),)
FAILED = (outcome_of(1, 1.0, phase="run", error_type="ValueError", error="no"),)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({1: WILD, 2: CALM, None: CALM}, "2 is the smallest hint that does not thrash"),
        ({1: CALM}, "1 is the smallest hint that does not thrash"),
        ({1: WILD, 4: CALM}, "4 is the smallest hint that does not thrash, of those that ran"),
        ({1: FAILED, 2: CALM}, "2 is the smallest hint that does not thrash, of those that ran"),
        ({1: WILD, 2: WILD}, "hint 1 and hint 2 both thrash"),
        ({1: WILD, None: CALM}, "only without a hint nothing thrashes"),
        ({1: FAILED, None: CALM}, "without a hint nothing thrashes"),
        ({1: WILD, 2: FAILED, None: CALM}, "without a hint nothing thrashes"),
        ({None: CALM}, "without a hint nothing thrashes"),
        ({None: WILD}, "the run without a hint thrashes"),
    ],
)
def test_what_is_said_of_thrashing_is_what_was_seen(rows, said):
    comparison = Comparison(tuple(HintRuns(hint, runs) for hint, runs in rows.items()))
    assert comparison._calm == said
    assert said.lower() in comparison.verdict.lower()


def test_without_all_hints_nothing_is_said_of_only():
    rows = (HintRuns(1, WILD), HintRuns(None, CALM))
    assert "only" not in Comparison(rows, interrupted=True).verdict


@pytest.mark.parametrize("rounds", [1, 4, 40])
def test_whether_a_hint_thrashes_does_not_depend_on_how_long_it_runs(rounds):
    every_batch_a_load = outcome_of(4 * rounds, 1.0, uses=4 * rounds)
    one_in_fifty = outcome_of(1 + 4 * rounds // 50, 1.0, uses=4 * rounds)
    assert HintRuns(1, (every_batch_a_load,)).thrashes
    assert not HintRuns(1, (one_in_fifty,)).thrashes


def test_models_of_unknown_size_are_compared_by_peak_rss():
    rows = tuple(
        HintRuns(hint, (outcome_of(1, 1.0, megabytes, rss=rss),))
        for hint, megabytes, rss in ((1, None, 700), (2, 5, 705), (4, None, 900))
    )
    assert "hint 1 and hint 2 have the lowest peak RSS (700 MB)" in Comparison(rows).verdict
    assert "all have about the same peak RSS (700 MB)" in Comparison(rows[:2]).verdict
    silent = (HintRuns(1, (outcome_of(1, 1.0, None),)), rows[0])
    assert "RSS" not in Comparison(silent).verdict and "least" not in Comparison(silent).verdict


def test_a_build_that_forgets_the_hint_is_told():
    comparison = Comparison((HintRuns(7, (outcome_of(1, 1),)),))
    assert comparison.notes[0].startswith("hint 7: the handler that build made has the hint 1.")


@pytest.mark.parametrize(
    ("hints", "said"),
    [((), "at least one"), ((1, 2, 1), "hint 1 is there twice"), ((0,), "at least 1"),
     ((None, None), "twice"), (("2",), "at least 1"), ((1.5,), "at least 1")],
)  # fmt: skip
@pytest.mark.runs
def test_hints_that_make_no_sense(nothing_left, hints, said):
    with pytest.raises(ValueError, match=said):
        mmlab.compare_hints(pipelines.small_models, hints)


@pytest.mark.runs
def test_other_bad_input(nothing_left):
    for hints in (3, "12"):
        with pytest.raises(TypeError, match="such as"):
            mmlab.compare_hints(pipelines.small_models, hints)
    with pytest.raises(ValueError, match="repeat must be .*, got 0"):
        mmlab.compare_hints(pipelines.small_models, repeat=0)
    lock = threading.Lock()
    with pytest.raises(TypeError, match="it uses lock"):
        mmlab.compare_hints(lambda pipeline, hint: lock, progress=None)


@pytest.mark.runs
def test_a_build_that_never_works_is_the_end(nothing_left):
    with pytest.raises(FreshRunError, match="build failed in the fresh process with TypeError"):
        mmlab.compare_hints(lambda pipeline, hint: len(hint), (1, 2), progress=None)


@pytest.mark.runs
def test_a_build_that_fails_for_one_hint_is_a_row(nothing_left):
    def build(pipeline, hint):
        pipelines.small_models(pipeline, {1: 1}[hint])

    comparison = mmlab.compare_hints(build, (1, 2), progress=None)
    assert list(comparison.table()["ended"]) == ["done", "failed"]
    assert "KeyError" in repr(comparison)
    assert comparison.plot().figure.axes


@pytest.mark.runs
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


def interrupting(calls):
    """Does nothing, and is interrupted at its call with that number."""
    count = itertools.count(1)

    def work(*args, **kwargs):
        if next(count) == calls:
            raise KeyboardInterrupt
        return lambda *args: None

    return work


@pytest.mark.runs
def test_an_interrupt_between_runs_keeps_those_that_ended(nothing_left):
    comparison = mmlab.compare_hints(pipelines.small_models, (1, 2, 4), progress=interrupting(2))
    assert comparison.interrupted
    assert list(comparison.table()["ended"]) == ["done", "done"]


@pytest.mark.runs
def test_an_interrupt_before_the_first_run_is_one(nothing_left, monkeypatch):
    monkeypatch.setattr(compare, "live_view", interrupting(1))
    with pytest.raises(KeyboardInterrupt):
        mmlab.compare_hints(pipelines.small_models, (1, 2), progress=None, live=True)


@pytest.mark.parametrize("where", ["live_view", "line_of"])
@pytest.mark.runs
def test_an_interrupt_while_a_picture_or_a_line_is_made_keeps_the_runs(
    nothing_left, monkeypatch, where
):
    monkeypatch.setattr(compare, where, interrupting(2))
    comparison = mmlab.compare_hints(
        pipelines.small_models, (1, 2, 4), progress=lambda line: None, live=True
    )
    assert comparison.interrupted
    assert {row.succeeded for row in comparison.rows} == {True}


@pytest.mark.runs
def test_an_interrupt_while_a_process_is_started_is_a_row_that_can_be_drawn(
    nothing_left, second_start_interrupted
):
    comparison = mmlab.compare_hints(pipelines.small_models, (1, 2, 4), progress=None)
    assert list(comparison.table()["ended"]) == ["done", "interrupted"]
    assert comparison.plot().figure.axes
    assert "The run was interrupted." in repr(comparison)


@pytest.mark.runs
def test_a_picture_that_cannot_be_drawn_does_not_touch_the_runs(nothing_left, monkeypatch):
    monkeypatch.setattr(screens.LivePicture, "add", lambda self, events: 1 / 0)
    monkeypatch.setattr(screens.TerminalScreen, "show", lambda self, picture: 1 / 0)
    comparison = mmlab.compare_hints(pipelines.small_models, (1, 4), progress=None, live=True)
    assert list(comparison.table()["ended"]) == ["done", "done"]


@linux
@pytest.mark.runs
def test_a_build_that_never_works_is_the_end_and_no_matter_of_the_limit(nothing_left):
    def build(pipeline, hint):
        raise ValueError("boom")

    with pytest.raises(FreshRunError, match="build failed in the fresh process with ValueError"):
        mmlab.compare_hints(build, (1, 2), memory_limit="500MB", progress=None)


@pytest.mark.runs
def test_a_notebook_sees_each_run_while_it_goes_on_and_keeps_the_comparison():
    source = (
        "import mmlab\nfrom tests.integration import pipelines\n"
        "comparison = mmlab.compare_hints(pipelines.models_in_turn, hints=(1, None))\ncomparison"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    client = NotebookClient(notebook, timeout=600, startup_timeout=600, kernel_name="python3")
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
        "[1/2] hint 1: 12 loads (8 reloads), 11 evictions, 18 elements",
        "[2/2] no hint: 4 loads (0 reloads), 0 evictions, 18 elements",
    ]
    assert "image/png" in result.data


@pytest.mark.runs
def test_a_terminal_sees_a_line_that_goes(nothing_left, capsys):
    mmlab.compare_hints(pipelines.small_models, hints=(1,), live=True)
    shown = capsys.readouterr()
    assert shown.out == "[1/1] hint 1: 8 loads (4 reloads), 7 evictions, 12 elements\n"
    assert shown.err == ""
