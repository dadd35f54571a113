"""Several hints at once: what they load, how many run at a time, and what is drawn of them."""

from __future__ import annotations

import os
import sys
import threading
from functools import partial

import pytest

import mmlab
from mmlab.compare.comparison import _SHARED
from mmlab.fresh import together
from mmlab.fresh.outcome import FreshRunError
from tests.integration import pipelines
from tests.lanes import size
from tests.waiting import wait_for

pytestmark = pytest.mark.runs

HINTS = (1, 2, 4, None)
SEEDS = range(size("race", suite=2, full=10))
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits need Linux")


def race(build, hints=HINTS, **more):
    return mmlab.compare_hints(build, hints, together=True, **{"progress": None, **more})


def loads(comparison):
    return list(comparison.table()["loads"])


def overlap(comparison):
    """Whether two runs went on at the same time."""
    times = sorted((t.start_ns, t.end_ns) for (t,) in comparison.traces.values())
    return any(begin < end for (_, end), (begin, _) in zip(times, times[1:], strict=False))


@pytest.mark.part("race", suite=True)
@pytest.mark.parametrize("seed", SEEDS)
def test_loads_are_those_of_the_same_hints_one_after_another_and_of_a_prediction(seed):
    build = partial(pipelines.random_keys, seed=seed)
    at_once = race(build)
    in_turn = mmlab.compare_hints(build, HINTS, progress=None)
    assert loads(at_once) == loads(in_turn)
    (trace,) = at_once.traces[None]
    predicted = mmlab.predict(trace)
    most = len(predicted.loads)
    assert loads(at_once) == [predicted.loads[min(hint or most, most) - 1] for hint in HINTS]


def test_all_hints_run_at_once_where_memory_has_room(tmp_path):
    comparison = race(partial(pipelines.meeting, folder=str(tmp_path), runs=len(HINTS)))
    assert list(comparison.table()["ended"]) == ["done"] * 4
    assert overlap(comparison)
    assert comparison.together
    assert "fastest" not in comparison.verdict
    assert comparison.remark == _SHARED
    assert repr(comparison).endswith(comparison.remark)


def test_one_runs_after_another_where_memory_has_no_room(monkeypatch):
    monkeypatch.setattr(together, "memory_left", lambda: 0)
    comparison = race(pipelines.models_in_turn, (1, 2, 4))
    assert not overlap(comparison)
    assert loads(comparison) == [12, 12, 4]


def test_each_run_has_its_share_of_the_cores(tmp_path):
    race(partial(pipelines.counting_threads, folder=str(tmp_path)), (1, None))
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert {path.read_text() for path in tmp_path.iterdir()} == {str(share)}


@linux
def test_a_hint_that_is_out_of_memory_is_a_row_and_the_others_run_on():
    comparison = race(pipelines.huge_models, (1, None), memory_limit="200MB")
    assert list(comparison.table()["ended"]) == ["done", "out of memory"]


def test_each_line_is_said_when_its_run_has_ended():
    said, seen = [], set()
    race(pipelines.small_models, (1, 4), progress=said.append,
         on_events=lambda hint, events: seen.add(hint), repeat=2)  # fmt: skip
    assert len(said) == 4
    assert {line.partition(": ")[0][6:] for line in said} == {
        f"hint {hint}, run {number} of 2" for hint in (1, 4) for number in (1, 2)
    }
    assert seen == {1, 4}


def test_an_interrupt_ends_them_all_and_keeps_what_was_seen():
    seen = set()

    def interrupt(hint, events):
        seen.add(hint)
        if len(seen) == 2:
            raise KeyboardInterrupt

    comparison = race(pipelines.sleepy, (1, 2), on_events=interrupt)
    assert comparison.interrupted
    assert list(comparison.table()["ended"]) == ["interrupted", "interrupted"]
    assert comparison.plot().figure.axes


@pytest.mark.usefixtures("second_start_interrupted")
def test_an_interrupt_while_a_process_is_started_ends_them_all():
    comparison = race(pipelines.models_in_turn, (1, 2, 4))
    assert comparison.interrupted
    assert len(comparison.rows) < 3  # the third has not begun


def test_runs_are_stopped_from_another_thread():
    begun = threading.Event()
    starts = [partial(together.FreshRun, pipelines.sleepy, hint) for hint in (1, 2)]
    runs = together.Together(starts, lambda place, events: begun.set())
    outcomes = {}
    thread = threading.Thread(target=lambda: outcomes.update(runs.run()))
    thread.start()
    wait_for(begun.is_set)
    runs.stop()
    thread.join()
    assert outcomes and all(outcome.interrupted for outcome in outcomes.values())


def test_a_build_that_never_works_says_so():
    def build(pipeline, hint):
        raise ValueError("boom")

    with pytest.raises(FreshRunError, match="ValueError: boom"):
        race(build)
