"""The data of a page: what was recorded as LRU says, what was not and why."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from mmlab import Trace
from mmlab.page import content as content_module
from mmlab.page.columns import _MOST, column
from mmlab.page.content import _lru_steps, _managers_of, _table_of, run_content
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
        tables = [_table_of(trace, manager) for manager in _managers_of(trace)]
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
    assert (manager["first"], manager["length"], manager["total"]) == (1, 6, len(ACCESSES))
    assert manager["recorded"]
    assert manager["loads"]["count"] == 4
    steps = node.run(READ, manager)
    assert steps["evict"] == [5, 4, 0, 0]


STATES = """
  import { Manager, Shown } from "SCRIPTS/data.mjs";
  ---
  answer = given.map(([content, limit, recorded]) => {
    const manager = new Manager(content);
    const shown = new Shown(manager, limit, recorded);
    const since = (count) => (step) => count(step) - count(0);
    const loads = since((step) => shown.loads(step));
    const evictions = since((step) => shown.evictions(step));
    const reloads = since((step) => shown.reloads(step));
    return [...Array(manager.length + 1).keys()].map((step) => ({
      number: manager.numberOf(step),
      moment: recorded ? manager.momentOf(step) * manager.tick : null,
      ago: manager.models.map((_, model) => String(step - manager.accesses.lastUse(model, step))),
      miss: step ? shown.isMiss(step) : null,
      counts: [loads(step), evictions(step), reloads(step)],
      evicted: step ? shown.evicted(step) : null,
      ...shown.stack(step),
    }));
  });
"""


def check_window(trace, first, most, limits):
    """A window shows what the page of the whole run shows at the same accesses."""
    whole, window = only(trace), only(trace, first=first, most=most)
    assert (window["first"], window["total"]) == (first, whole["total"])
    assert [model["name"] for model in window["models"]] == [
        model["name"] for model in whole["models"]
    ]
    shown = [(whole["limit"], True), *((limit, False) for limit in limits)]
    given = [[content, *how] for how in shown for content in (whole, window)]
    found = iter(node.run(STATES, given))
    for everything, part in zip(found, found, strict=True):
        expected = everything[first - 1 : first + window["length"]]
        base = expected[0]["counts"]
        for step, (one, other) in enumerate(zip(expected, part, strict=True)):
            one["counts"] = [a - b for a, b in zip(one["counts"], base, strict=True)]
            moments = one.pop("moment"), other.pop("moment")
            if step == 0:
                one["miss"] = one["evicted"] = None
            elif moments[0] is not None:
                assert moments[0] == pytest.approx(moments[1], abs=1e-5)
            assert one == other


@pytest.mark.parametrize("limit", [1, 3, None])
def test_a_window_begins_with_what_the_accesses_before_left(limit):
    accesses = random_accesses(random.Random(9), 6, 40)
    for first in (2, 14, 40):
        check_window(lru_run(accesses, limit), first, 9, [1, 2, 4, 9, None])


def test_a_window_of_a_run_that_was_no_plain_lru():
    trace = lru_run(list("ABCADBACDBAC"), 2)
    for changed in (
        without(trace, "evict", 1),
        without(trace, "load_begin", 0),
        Trace([*trace.events, *_failing(trace)]),
    ):
        for first in (4, 8, 11):
            check_window(changed, first, 3, [2])


def test_a_window_shows_the_loads_of_models_in_memory_when_it_begins():
    trace = lru_run(ACCESSES, 2)  # A B and C, which evicts one, are loaded before
    read = node.run(READ, only(trace, first=5, most=2))
    tick = round(read["tick"] * 1e9)
    held = [load for load in trace.residences if load.load_begin_ns < trace.batches.begin_ns[4]]
    assert read["load"][:2] == [0, 0]
    begins = {(load.load_begin_ns - trace.start_ns) // tick for load in held}
    assert set(read["begin"][:2]) <= begins
    assert all(end == -(2**31) or end > read["moments"][0] for end in read["evicted"])
    assert read["moments"] == sorted(read["moments"])


def test_the_optimum_of_a_window_begins_with_what_lru_left():
    accesses = random_accesses(random.Random(4), 6, 60)
    names, first = sorted(set(accesses)), 25
    code = """
      import { Manager } from "SCRIPTS/data.mjs";
      ---
      const { accesses } = new Manager(given);
      answer = [1, 2, 3, 4, 5, 6].map((limit) => [accesses.total(limit), accesses.optimum(limit)]);
    """
    found = node.run(code, only(lru_run(accesses, 2, names=names), first=first))
    for limit, [loads, fewest] in enumerate(found, 1):
        before, later = accesses[: first - 1], accesses[first - 1 :]
        memory = list(dict.fromkeys(reversed(before)))[:limit]
        assert fewest == fewest_loads(set(memory), later, limit)
        assert loads == lru_loads(accesses, limit) - lru_loads(before, limit)


def fewest_loads(memory, accesses, limit):
    """Belady from what is in memory: the model that is needed again last goes."""
    loads = 0
    for place, model in enumerate(accesses):
        if model in memory:
            continue
        loads += 1
        if len(memory) == limit:
            rest = accesses[place:]
            far = max(memory, key=lambda m: rest.index(m) if m in rest else len(rest))
            memory.remove(far)
        memory.add(model)
    return loads


def lru_loads(accesses, limit):
    return len(_lru_steps([ord(name[-1]) for name in accesses], limit)[0])


def test_a_window_that_cannot_be():
    trace = lru_run(ACCESSES, 2)
    with pytest.raises(
        ValueError, match="^first must be the number of an access, up to 11, got 12"
    ):
        trace.replay(first=12)
    with pytest.raises(ValueError, match="^first must be a whole number, 1 or more, got 0"):
        trace.replay(first=0)
    with pytest.raises(TypeError, match="^first must be a whole number, 1 or more, got 1.5"):
        trace.replay(first=1.5)
    assert repr(trace.replay(first=5)).startswith("Replay of accesses 5 to 11 of 11 of 4 models")


def test_managers_with_fewer_accesses_are_left_out():
    one, other = lru_run(ACCESSES, 2), lru_run(ACCESSES[:5], 3, pid=2, described=False)
    content = run_content(Trace([*one.events, *other.events]), first=6)
    assert [manager["process"] for manager in content["managers"]] == ["host-1:1"]
    assert content["managers_in_all"] == 2


def test_more_models_than_a_page_shows(monkeypatch):
    monkeypatch.setattr(content_module, "_MOST_MODELS", 5)
    trace = lru_run(list("ABCDEAFGAB"), 3)
    assert only(trace, first=4)["length"] == 3
    with pytest.raises(
        ValueError,
        match="^first must be 6 or less, got 7: .* from access 7 on the stack holds more$",
    ):
        only(trace, first=7)


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
    numbers = [0, 1, -1, 63, 64, -64, -65, 300, -300, 2**20, -(2**20), _MOST, -_MOST, 2**40]
    code = """
      import { numbersOf } from "SCRIPTS/data.mjs";
      ---
      answer = [...numbersOf(given)];
    """
    assert node.run(code, column(numbers)) == [*numbers[:-1], _MOST]


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
