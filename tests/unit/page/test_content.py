"""The data of a page: what was recorded as LRU says, what was not and why."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from mmlab import Trace
from mmlab.page.columns import MOST, column
from mmlab.page.content import managers_of, run_content, table_of
from tests.events import Event
from tests.lanes import size
from tests.unit.page import node
from tests.unit.page.runs import STEP, lru_run, random_accesses

FIXTURES = Path(__file__).parents[2] / "fixtures"
ACCESSES = list("ABACBCABDAB")


def only(trace, **options):
    [manager] = run_content(trace, **options)["managers"]
    return manager


def fixture(name):
    folder = FIXTURES / name
    saved = folder / "saved.jsonl"
    return Trace.load(saved if saved.exists() else folder)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 9, None])
def test_a_plain_lru_is_recorded(limit):
    manager = only(lru_run(ACCESSES, limit))
    assert manager["recorded"] and manager["limit"] == limit
    assert manager["why"] == []
    assert manager["length"] == manager["total"] == len(ACCESSES)


def test_models_that_were_in_memory_are_no_loads_and_no_plain_lru():
    """A second run begins with what the first one left."""
    [begin, *events] = lru_run(ACCESSES, 4).events
    there = Event(
        begin.run, begin.t_ns + 1, begin.host, begin.pid, begin.tid, "in_memory", STEP, "E", 1,
        age_ns=5,
    )  # fmt: skip
    manager = only(Trace([begin, there, *events]))
    assert not manager["recorded"]
    assert ["already_there", 1] in manager["why"]
    assert manager["loads"]["already"] == [0]


def test_models_have_the_order_of_the_author_and_bytes():
    manager = only(lru_run(ACCESSES, 2, names="DCBAE", size=5))
    assert [model["name"] for model in manager["models"]] == list("DCBAE")
    assert [model["bytes"] for model in manager["models"]] == [5, 5, 5, 5, None]
    assert manager["models"][0]["keys"] == ["KD"]


def without(trace, kind, number):
    """The trace without one event of a kind."""
    left = list(trace.events)
    left.remove(trace.of_kind(kind)[number])
    return Trace(left)


CHANGED = {
    "an eviction is missing": (lambda trace: without(trace, "evict", 1), "other"),
    "a load is missing": (lambda trace: without(trace, "load_begin", 0), "in_memory_before"),
    "the limit grew": (
        lambda trace: Trace([*trace.events, _limit(trace, 3)]),
        "limit_changed",
    ),
    "the limit is hidden": (
        lambda trace: Trace([e for e in trace.events if e.event != "limit"]),
        "limit_unknown",
    ),
    "a load failed": (
        lambda trace: Trace([*trace.events, *_failing(trace)]),
        "loads_failed",
    ),
}


def _limit(trace, limit):
    t_ns = trace.of_kind("use_begin")[3].t_ns + 1
    return Event("r", t_ns, "host-1", 1, 1, "limit", step=STEP, limit=limit)


def _failing(trace):
    t_ns = trace.of_kind("use_end")[-1].t_ns
    load = {"step": STEP, "model": "C", "generation": 99}
    yield Event("r", t_ns, "host-1", 1, 1, "load_begin", **load)
    yield Event("r", t_ns + 1, "host-1", 1, 1, "load_fail", error="no memory", **load)


@pytest.mark.parametrize("change", CHANGED)
def test_what_is_no_plain_lru_is_not_called_recorded_and_says_why(change):
    changed, reason = CHANGED[change]
    manager = only(changed(lru_run(ACCESSES, 2)))
    assert not manager["recorded"]
    assert reason in [name for name, *_ in manager["why"]]


def test_fixtures():
    found = {
        name: [(m["limit"], m["recorded"]) for m in run_content(fixture(name))["managers"]]
        for name in ("keyed_handler/1", "steps/1", "processes/1", "refresh/1", "rerun/2")
    }
    assert found == {
        "keyed_handler/1": [(2, True)],
        "steps/1": [(1, True), (None, True)],
        "processes/1": [(6, True)],
        "refresh/1": [(None, False)],
        "rerun/2": [("unknown", False)],
    }


def test_every_access_load_and_eviction_is_there_once():
    for name in ("keyed_handler/1", "steps/1", "threads/1", "refresh/1", "killed_worker/1"):
        trace = fixture(name)
        tables = [table_of(trace, manager) for manager in managers_of(trace)]
        assert sum(len(table) for table in tables) == len(trace.batches)
        assert sum(len(table.loads) for table in tables) == len(trace.residences)
        evictions = sum(int((table.evict_step > 0).sum()) for table in tables)
        assert evictions == trace.counts.evictions


def test_a_manager_per_process_and_step():
    one, other = lru_run(ACCESSES, 2), lru_run(ACCESSES, 3, pid=2, described=False)
    contents = run_content(Trace([*one.events, *other.events]))["managers"]
    assert [manager["process"] for manager in contents] == ["host-1:1", "host-1:2"]
    assert [manager["limit"] for manager in contents] == [2, 3]


def test_a_window_of_a_longer_run():
    manager = only(lru_run(ACCESSES, 2), most=6)
    assert (manager["length"], manager["total"]) == (6, len(ACCESSES))
    assert manager["recorded"]
    assert manager["loads"]["count"] == 4
    steps = node.run(READ, manager)
    assert steps["evict"] == [5, 4, 0, 0]


READ = """
  import { Manager } from "SCRIPTS/data.mjs";
  ---
  const manager = new Manager(given);
  answer = manager.loads;
  for (const [name, values] of Object.entries(answer))
    if (ArrayBuffer.isView(values)) answer[name] = [...values];
  answer.moments = [...Array(manager.length + 1).keys()].map((step) => manager.momentOf(step));
  answer.tick = manager.tick;
  answer.uses = [...manager.begin];
"""


def test_times_reach_the_script():
    trace = lru_run(ACCESSES, 2)
    read = node.run(READ, only(trace))
    tick = round(read["tick"] * 1e9)
    for load, begin, loaded, evicted, freed in zip(
        sorted(trace.residences, key=lambda r: r.load_begin_ns),
        read["begin"], read["loaded"], read["evicted"], read["freed"], strict=True,
    ):  # fmt: skip
        for moment, seen in (
            (load.load_begin_ns, begin), (load.load_end_ns, loaded),
            (load.evict_ns, evicted), (load.free_ns, freed),
        ):  # fmt: skip
            if moment is None:
                assert seen == -(2**31)
            else:
                assert abs((moment - trace.start_ns) - seen * tick) <= tick
    assert read["moments"] == sorted(read["moments"])
    assert read["uses"] == [(b - trace.start_ns) // tick for b in trace.batches.begin_ns.tolist()]


def test_columns_reach_the_script():
    numbers = [0, 1, -1, 63, 64, -64, -65, 300, -300, 2**20, -(2**20), MOST, -MOST, 2**40]
    code = """
      import { numbersOf } from "SCRIPTS/data.mjs";
      ---
      answer = [...numbersOf(given)];
    """
    assert node.run(code, column(numbers)) == [*numbers[:-1], MOST]


def test_an_empty_trace():
    assert run_content(Trace([]))["managers"] == []


LARGE = size("replay", suite=10_000, full=100_000)


@pytest.mark.runs
@pytest.mark.part("replay", suite=True)
@pytest.mark.parametrize("models", [12, 1000])
def test_a_hundred_thousand_accesses_take_two_megabytes(models):
    draw = random.Random(models)
    accesses = random_accesses(draw, models, LARGE)
    content = run_content(lru_run(accesses, max(2, models // 20)))
    [manager] = content["managers"]
    assert manager["recorded"] and manager["length"] == LARGE
    assert len(json.dumps(content, separators=(",", ":"))) <= 15 * LARGE + 150 * models


def test_the_scripts_order_does_not_depend_on_how_a_step_is_reached():
    accesses = random_accesses(random.Random(5), 5, 40)
    code = """
      import { Manager, Shown } from "SCRIPTS/data.mjs";
      ---
      const states = (order) => order.map((step) => {
        const shown = new Shown(new Manager(given), 2, true);
        return [step, shown.stack(step), shown.loads(step), shown.evicted(step)];
      });
      const steps = [...Array(41).keys()];
      const sorted = (them) => them.sort((a, b) => a[0] - b[0]);
      answer = [sorted(states(steps)), sorted(states([...steps].reverse()))];
    """
    forwards, backwards = node.run(code, only(lru_run(accesses, 2)))
    assert forwards == backwards
