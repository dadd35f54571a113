"""The explorer without a browser: buttons are pressed by name, runs are real."""

from __future__ import annotations

import sys
import threading
import time

import pytest

import mmlab
from mmlab.lab import explorer as module

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
    assert explorer.wait(60)
    (run,) = explorer.runs
    assert (run.setting.hint, run.setting.order) == (None, "sorted")
    assert (panel._run.disabled, panel._stop.disabled) == (False, True)
    assert "done" in words(explorer)
    assert panel._progress.value == 12


def test_stop_keeps_what_was_seen(nothing_left):
    explorer = mmlab.explore(**{**SMALL, "megabytes": 64, "elements": 96})
    explorer._panel._run.click()
    deadline = time.monotonic() + 60
    while explorer._panel._progress.value == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    explorer._panel._stop.click()
    assert explorer.wait(60)
    row = explorer.table().loc[1]
    assert row["ended"] == "interrupted"
    assert 0 < row["elements"] < 96
    assert "interrupted" in words(explorer)


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
    while explorer.wait(0):
        time.sleep(0.001)
    with pytest.raises(RuntimeError, match="a run is going on: wait for its end, or stop it"):
        explorer.run()
    assert explorer.wait(60)
    assert len(explorer.runs) == 1


@linux
def test_out_of_memory_is_a_row_and_a_sentence(nothing_left):
    explorer = mmlab.explore(**{**SMALL, "megabytes": 64, "hint": None, "memory_limit": "200MB"})
    explorer._panel._run.click()
    assert explorer.wait(120)
    assert explorer.table()["ended"].tolist() == ["out of memory"]
    assert "did not fit" in words(explorer)
    assert not explorer._panel._run.disabled


def test_a_run_that_cannot_start_says_why(nothing_left):
    explorer = mmlab.explore(**{**SMALL, "memory_limit": "1MB"})
    explorer._panel._run.click()
    assert explorer.wait(60)
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


def test_no_thread_is_left(nothing_left):
    explorer = mmlab.explore(**SMALL)
    explorer._panel._run.click()
    assert explorer.wait(60)
    assert not [t for t in threading.enumerate() if t.name == "mmlab-explorer"]
