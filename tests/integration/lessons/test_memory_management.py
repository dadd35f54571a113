"""The exercises of lesson 04, its two pictures of memory, and what it counts."""

from __future__ import annotations

import re

import pytest

from mmlab import WatchRunner, lessons
from mmlab.lessons.exercises.memory_management import _DAY
from mmlab.lessons.memory import _memory_shares, _release_delays
from mmlab.trace import Trace
from tests.events import Event
from tests.handlers import keyed, run_keyed
from tests.integration.lessons import notebook

PATH = notebook.FOLDER / "04_memory_management.ipynb"
HINT, ONCE = "memory_management.smallest_hint", "memory_management.load_once"


def hint_of(answer):
    return f"my_hint = {answer}\nlessons.check('{HINT}', my_hint)"


@pytest.mark.parametrize(
    ("answer", "seen", "hint"),
    [
        ("2", "10 loads, 6 of them", 1),
        ("1", "12 loads, 8 of them", 1),
        ("4", "so it is with hint 3", 2),
        ("0", "must be an integer of at least 1, got 0", 1),
        ("'3'", "must be an integer of at least 1, got '3'", 1),
        ("True", "must be an integer of at least 1, got True", 1),
    ],
)
@pytest.mark.runs
def test_a_hint_that_is_not_the_smallest(answer, seen, hint):
    verdict = notebook.verdict(PATH, hint_of(answer))
    notebook.assert_incorrect(verdict, seen, hint)


def test_the_notebook_shows_the_very_day_that_is_judged():
    assert re.findall(r"KEY_\d", notebook.stubs(PATH)[HINT]) == _DAY


def once(in_order, models=1, end="in_order"):
    return f"""
def build_once(pipeline, elements):
    keyed_model_handler = lessons.FixedBatches(
        lessons.mapping(), max_models_per_worker_hint={models}, batch_size=1)
    scans = pipeline | 'Scans' >> beam.Create(elements, reshuffle=False)
    in_order = {in_order}
    return {end} | 'Classify' >> RunInference(keyed_model_handler)

lessons.check('{ONCE}', build_once)
"""


BY_KEY = "scans | beam.GroupByKey() | beam.FlatMap(lambda group: [(group[0], v) for v in group[1]])"


@pytest.mark.parametrize(
    ("answer", "seen", "hint"),
    [
        (once("scans"), "were loaded 11 times", 1),
        (once(BY_KEY), "were loaded 6 times", 2),
        (once("scans", models=4), "The effective limit was 4", 1),
        (once("scans", models=None), "The effective limit was none", 1),
        (once("scans | beam.GroupByKey()"), "It stopped with", 1),
        (once("scans | beam.Filter(lambda pair: pair[0] < 'KEY_4')"), "6 results came out", 2),
        (
            once("scans | beam.Map(lambda pair: ('KEY_1', pair[1]))"),
            "another key than its scan",
            2,
        ),
    ],
    ids=["as it is", "by key", "hint 4", "no hint", "lists", "half of it", "one key"],
)
@pytest.mark.runs
def test_models_that_are_loaded_again_or_results_that_are_wrong(answer, seen, hint):
    verdict = notebook.verdict(PATH, answer)
    notebook.assert_incorrect(verdict, seen, hint)


@pytest.mark.runs
def test_other_ways_to_load_once_are_right_too():
    # Keys to models 1, 2, 2, 3, 4, 4: any order of the models will do.
    by_hand = (
        "scans | beam.combiners.ToList() | beam.FlatMap("
        "lambda pairs: sorted(pairs, key=lambda pair: '122344'[int(pair[0][-1]) - 1]))"
    )
    assert notebook.verdict(PATH, once(by_hand)).outcome == "correct"


# What the lesson measures


def load(t, model, generation=1, rss=None, size=64):
    more = {"step": "s", "model": model, "generation": generation}
    begin = Event("r", t, "h", 1, 1, "load_begin", rss=rss, **more)
    return [begin, Event("r", t + 1, "h", 1, 1, "load_end", bytes=size, rss=rss, **more)]


def at(t, kind, model="a", **more):
    return Event("r", t, "h", 1, 1, kind, step="s", model=model, generation=1, **more)


@pytest.mark.runs
def test_what_a_real_run_held_before_its_first_model_is_known():
    runner = WatchRunner(live=False)
    run_keyed(runner, keyed([["a"], ["b"]], 1), ["a", "b"])
    before, _, _ = _memory_shares(runner.trace)
    assert before > 50_000_000  # Python, Beam and PyTorch


def test_the_peak_is_split_into_three():
    peak = Event("r", 5, "h", 1, 1, "memory", rss=530, peak_rss=530)
    trace = Trace([*load(1, "a", rss=300), *load(3, "b", rss=400), peak])
    assert _memory_shares(trace) == (300, 128, 102)
    assert repr(lessons.show_memory({"one run": trace})) == (
        "Memory at the peak, run by run\n  one run: 0 MB of models"
    )


def test_delays_count_to_the_release_or_to_the_end():
    trace = Trace(
        [
            *load(0, "a"),
            *load(2, "b"),
            at(1_000_000, "evict"),
            at(3_000_000, "free"),
            at(4_000_000, "evict", model="b"),
            Event("r", 9_000_000, "h", 1, 1, "end"),
        ]
    )
    assert _release_delays(trace) == [(2.0, True), (5.0, False)]
    assert "2 evictions, 1 freed in the run" in repr(lessons.show_release({"one run": trace}))


class Outcome:
    def __init__(self, output, loads):
        self.output, self._loads = output, loads

    @property
    def trace(self):
        return Trace([event for i in range(self._loads) for event in load(i, "a", i + 1)])


def test_what_is_left_is_counted_per_load():
    output = "noise\nleftovers: 10 5 2\nleftovers: 12 7 4\nleftovers: 14 7 6\n"
    assert lessons.leftovers_per_load(Outcome(output, 3)) == {
        "threads": 2,
        "open files": 1,
        "temporary files": 2,
    }


@pytest.mark.parametrize(("output", "loads"), [("", 3), ("leftovers: 1 2 3\n" * 2, 1)])
def test_one_load_tells_nothing(output, loads):
    with pytest.raises(ValueError, match="outcome must have two loads"):
        lessons.leftovers_per_load(Outcome(output, loads))


def test_elements_pass_the_counter(capsys):
    assert lessons.print_leftovers("scan") == "scan"
    threads, files, _ = map(int, capsys.readouterr().out.split()[1:])
    assert threads >= 1 and files >= 1


def test_tables_hold_the_columns_that_are_asked_for():
    trace = Trace([*load(0, "a"), *load(2, "a", 2), at(5, "use_begin")])
    table = lessons.compare(
        {None: trace}, {None: 3}, what="run", columns=["loads", "limit", "processes_holding"]
    )
    assert table.index.name == "run" and list(table.index) == ["none"]
    assert table.loc["none"].to_dict() == {
        "my guess": 3,
        "loads": 2,
        "limit": "–",
        "processes_holding": 1,
    }
    assert "my guess" not in lessons.compare({1: trace})
