"""The explorer without a browser: buttons are pressed by name, runs are real."""

from __future__ import annotations

import io
import sys
import threading

import pytest
from PIL import Image

import mmlab
from mmlab.explorer import explorer as module
from mmlab.fresh import process
from mmlab.watching import screens
from tests.waiting import HUNG_SECONDS, wait_for

pytestmark = pytest.mark.runs

SMALL = {"hint": 2, "models": 3, "megabytes": 1, "elements": 12}
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits need Linux")


def words(explorer):
    return explorer._panel._words.value


def test_runs_are_rows(nothing_left):
    explorer = mmlab.explore(**SMALL)
    assert len(explorer.table()) == 0
    for hint in (2, 3, None):
        assert explorer.run(hint=hint).succeeded
    counts = ["hint", "ended", "loads", "reloads", "evictions", "elements", "limit"]
    assert explorer.table()[counts].values.tolist() == [
        [2, "done", 9, 6, 7, 12, 2],
        [3, "done", 3, 0, 0, 12, 3],
        ["–", "done", 3, 0, 0, 12, "–"],
    ]
    assert explorer.table().loc[1, ["models", "order", "group", "batch", "workers"]].tolist() == [
        "3 × 1 MB", "round robin", "off", 1, "1",
    ]  # fmt: skip
    assert explorer.setting.hint == 2
    assert repr(explorer) == ("Explorer(hint 2, 3 models of 1 MB, round robin; 3 runs so far)")


def test_the_run_button_runs_what_the_controls_show(nothing_left):
    explorer = mmlab.explore(**SMALL)
    panel = explorer._panel
    panel._controls["hint"].value = "none"
    panel._controls["order"].value = "sorted"
    panel._run.click()
    assert not explorer.wait(0)
    assert (panel._run.disabled, panel._stop.disabled) == (True, False)
    panel._run.click()  # a second click, while the first one runs, is none
    assert explorer.wait(HUNG_SECONDS)
    (run,) = explorer.runs
    assert (run.setting.hint, run.setting.order) == (None, "sorted")
    assert (panel._run.disabled, panel._stop.disabled) == (False, True)
    assert "done" in words(explorer)
    assert panel._progress.value == 12


def test_stop_keeps_what_was_seen(nothing_left):
    explorer = mmlab.explore(**{**SMALL, "megabytes": 64, "elements": 5000})
    explorer._panel._run.click()
    wait_for(lambda: explorer._panel._progress.value > 0)
    explorer._panel._stop.click()
    assert explorer.wait(HUNG_SECONDS)
    row = explorer.table().loc[1]
    assert row["ended"] == "interrupted"
    assert 0 < row["elements"] < 5000
    assert f"Stopped after {row['elements']} of 5000 elements." in words(explorer)
    assert "color: #667085" in words(explorer)  # nothing is wrong


def test_stop_before_the_process_is_there(nothing_left, monkeypatch):
    explorer = mmlab.explore(**SMALL)

    class LateRun(module.FreshRun):
        def __init__(self, *args, **kwargs):
            explorer.stop()
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(module, "FreshRun", LateRun)
    assert explorer.run().interrupted


def test_one_run_at_a_time(nothing_left):
    explorer = mmlab.explore(**SMALL)
    explorer._panel._run.click()
    wait_for(lambda: not explorer.wait(0))
    with pytest.raises(RuntimeError, match="a run is going on: wait for its end, or stop it"):
        explorer.run()
    assert explorer.wait(HUNG_SECONDS)
    assert len(explorer.runs) == 1


@linux
def test_out_of_memory_is_a_row_and_a_sentence(nothing_left):
    explorer = mmlab.explore(**{**SMALL, "megabytes": 64, "hint": None, "memory_limit": "200MB"})
    explorer._panel._run.click()
    assert explorer.wait(HUNG_SECONDS)
    assert explorer.table()["ended"].tolist() == ["out of memory"]
    assert "did not fit" in words(explorer)
    assert "fit_hint" not in words(explorer)
    assert not explorer._panel._run.disabled
    assert explorer._panel._fit.layout.display is None


@linux
def test_after_it_a_button_finds_the_hint_that_fits(nothing_left):
    small = {**SMALL, "models": 3, "elements": 6, "megabytes": 64, "memory_limit": "230MB"}
    explorer = mmlab.explore(**{**small, "hint": None})
    assert explorer._panel._fit.layout.display == "none"
    explorer._panel._run.click()
    assert explorer.wait(HUNG_SECONDS)
    explorer._panel._fit.click()
    assert explorer.wait(HUNG_SECONDS)
    assert "With hint 2, 3 of 3 runs passed under a memory limit of 230 MB" in words(explorer)
    hints = [run.setting.hint for run in explorer.runs]
    assert hints[:2] == [None, None] and hints.count(2) == 3
    with pytest.raises(ValueError, match="memory_limit must be a number of bytes .* got None"):
        explorer.fit_hint(memory_limit=None)


def test_a_run_that_cannot_start_says_why(nothing_left):
    explorer = mmlab.explore(**{**SMALL, "memory_limit": "1MB"})
    explorer._panel._run.click()
    assert explorer.wait(HUNG_SECONDS)
    assert explorer.runs == []
    assert ("too small" if sys.platform.startswith("linux") else "needs Linux") in words(explorer)


def test_processes_and_threads_exclude_each_other():
    panel = mmlab.explore()._panel
    panel._controls["threads"].value = "2"
    assert panel._controls["processes"].disabled and not panel._controls["threads"].disabled
    panel._controls["threads"].value = "1"
    panel._controls["processes"].value = "3"
    assert panel._controls["threads"].disabled and not panel._controls["processes"].disabled
    assert panel.setting().options[-1] == "--direct_num_workers=3"


def test_a_value_that_no_control_has_is_added():
    explorer = mmlab.explore(hint=11, memory_limit="123MB", elements=7)
    assert explorer.setting.hint == 11
    assert (explorer.setting.memory_limit, explorer.setting.elements) == ("123MB", 7)


def test_a_value_that_is_added_stands_in_its_place_with_its_unit():
    controls = mmlab.explore(hint=11, memory_limit="0.25GB", megabytes=20, elements=500)
    controls = controls._panel._controls
    assert controls["hint"].options[-3:] == ("8", "11", "none")
    assert controls["megabytes"].options == ("8 MB", "16 MB", "20 MB", "32 MB", "64 MB", "128 MB")
    assert controls["memory_limit"].options[:4] == ("none", "150 MB", "200 MB", "250 MB")
    assert controls["elements"].options[-1] == "500"
    same = mmlab.explore(memory_limit=500_000_000)
    assert same._panel._controls["memory_limit"].options.count("500 MB") == 1
    assert same.setting.memory_limit == 500_000_000


def test_a_part_that_no_setting_has_is_answered_as_explore_answers():
    with pytest.raises(TypeError, match="explorer.run has no 'foo': it has hint, models"):
        mmlab.explore().run(foo=1)


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would show: a list of places, each with all that it showed.

    Pictures keep their fonts' files open, so what is left is not counted here.
    """
    places = []

    class Handle:
        def __init__(self, data):
            self.data = [data]

        def update(self, data, **_):
            self.data.append(data)

    def display(data, **_):
        places.append(Handle(data))
        return places[-1]

    monkeypatch.setattr(module, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", display)
    return places


def pictures(places):
    return [place.data for place in places if "image/png" in place.data[0]]


def size(data):
    return Image.open(io.BytesIO(data["image/png"])).size


def test_an_explorer_that_is_shown_again_leaves_the_earlier_cell_alone(shown):
    explorer = mmlab.explore(**SMALL)
    explorer._ipython_display_()
    explorer._panel._run.click()
    assert explorer.wait(HUNG_SECONDS)
    (first,) = pictures(shown)
    before = len(first)
    explorer._ipython_display_()
    again = pictures(shown)
    assert len(again[0]) == before
    assert [size(data) for data in again[1]] == [size(first[-1])]  # the last run's picture
    explorer._panel._run.click()
    assert explorer.wait(HUNG_SECONDS)
    assert len(pictures(shown)[0]) == before
    assert len(pictures(shown)[1]) > 2
    tables = [place.data[-1]["text/html"] for place in shown if "text/html" in place.data[0]]
    assert [html.count("round robin") for html in tables if "<table" in html] == [1, 2]


def test_an_interrupt_before_the_first_event_leaves_words(shown, monkeypatch):
    def interrupted(*request):
        raise KeyboardInterrupt

    explorer = mmlab.explore(**SMALL)
    monkeypatch.setattr(process, "start_process", interrupted)
    assert explorer.run().interrupted
    assert words(explorer).count("Stopped after 0 of 12 elements.") == 1
    assert explorer.table()["ended"].tolist() == ["interrupted"]
    assert size(pictures(shown)[-1][-1])[0] == 950
    assert not explorer._panel._run.disabled


def test_a_race_is_a_row_for_each_hint_and_leaves_their_comparison(shown):
    explorer = mmlab.explore(**SMALL)
    comparison = explorer.race()
    assert [row.hint for row in comparison.rows] == [1, 2, None]  # 4 is no hint, of 3 models
    assert explorer.table()["hint"].tolist() == [1, 2, "–"]
    assert comparison.together
    assert size(pictures(shown)[-1][-1])[0] == 1900
    explorer._panel._race.click()
    assert explorer.wait(HUNG_SECONDS)
    assert explorer.table()["loads"].tolist() == [9, 9, 3] * 2
    assert "done" in words(explorer)
    assert explorer._panel._progress.value == 36


def test_a_race_is_stopped_as_a_run_is(nothing_left):
    explorer = mmlab.explore(**{**SMALL, "megabytes": 64, "elements": 5000})
    explorer._panel._race.click()
    wait_for(lambda: explorer._panel._progress.value > 0)
    explorer._panel._stop.click()
    assert explorer.wait(HUNG_SECONDS)
    assert "interrupted" in set(explorer.table()["ended"])
    assert "of 15000 elements." in words(explorer)


def test_each_run_of_the_table_can_be_seen_again(shown):
    explorer = mmlab.explore(**SMALL)
    explorer.run(hint=1)
    explorer.run(hint=3)
    explorer._ipython_display_()
    shelf = explorer._panel._shelf
    assert [name for name, _ in shelf._runs.options] == [
        "1: hint 1, 3 models of 1 MB, round robin", "2: hint 3, 3 models of 1 MB, round robin",
    ]  # fmt: skip
    shelf._runs.value = 1
    picture, replay = shelf.box.children[1:]
    picture.click()
    assert size(shown[-1].data[-1])[0] == 1900
    replay.click()
    assert "mmlab-replay" in shown[-1].data[-1]["text/html"]
    table = next(
        p.data[-1]["text/html"] for p in shown if "<table" in p.data[-1].get("text/html", "")
    )
    assert "seconds" in table and "peak MB" in table


@pytest.mark.parametrize("what", ["add", "image"])
def test_a_picture_that_cannot_be_drawn_does_not_touch_the_run(shown, monkeypatch, what):
    explorer = mmlab.explore(**SMALL)
    monkeypatch.setattr(screens.LivePicture, what, lambda *_: 1 / 0)
    monkeypatch.setattr(screens.NotebookScreen, "finish", lambda *_: 1 / 0)
    monkeypatch.setattr(type(explorer._panel), "count", lambda *_: 1 / 0)
    assert explorer.run().succeeded
    assert "done" in words(explorer)


def test_no_thread_is_left(nothing_left):
    explorer = mmlab.explore(**SMALL)
    explorer._panel._run.click()
    assert explorer.wait(HUNG_SECONDS)
    assert not [t for t in threading.enumerate() if t.name == "mmlab-explorer"]
