"""The search for a hint that fits, on runs whose ends are known beforehand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlab.fit import _MOST_ABOVE, Fit, Search
from mmlab.fresh.outcome import FreshRunError, RunOutcome
from mmlab.trace import Trace
from tests.events import Event
from tests.stories import UNFIT


def outcome(models: int, *, fits: bool, held: int = 0, error: str = UNFIT) -> RunOutcome:
    """Of a run of so many models, which is out of memory when so many are held."""

    def event(kind, second, **fields):
        return Event("r", second * 10**9, "h", 1, 1, kind, **fields)

    cards = [{"step": "s", "model": f"m{i}", "keys": [f"k{i}"]} for i in range(models)]
    events = [event("run", 0, info={"models": cards})]
    for i in range(held):
        site = {"step": "s", "model": f"m{i}", "generation": 1}
        events += [event("load_begin", i + 1, **site), event("load_end", i + 1, bytes=5, **site)]
    if not fits:
        site = {"step": "s", "model": f"m{held}", "generation": 1}
        events.append(event("load_begin", held + 1, **site))
        events.append(event("end", held + 2, info={"state": "FAILED"}, error=error))
        kind, _, text = error.partition(": ")
        return RunOutcome(Trace(events), "run", kind, text, memory_limit=100)
    events.append(event("end", held + 2, info={"state": "DONE"}))
    return RunOutcome(Trace(events), "done", memory_limit=100)


@dataclass
class Machine:
    """Runs that pass under the hints of a set; None is in it as 0. Some pass only so many times."""

    models: int
    passes: frozenset[int]
    times: dict[int, int] = field(default_factory=dict)
    runs: Counter = field(default_factory=Counter)

    def run(self, hint, name):
        key = hint or 0
        self.runs[key] += 1
        fits = key in self.passes and self.runs[key] <= self.times.get(key, 99)
        held = max((n for n in self.passes if n), default=1)
        return outcome(self.models, fits=fits, held=min(held, self.models - 1))


def found(machine: Machine, hints=None) -> Fit:
    return Search(machine.run, hints).fit(100)


@pytest.mark.parametrize("highest", range(7))
def test_the_highest_hint_that_passes_is_found_with_its_neighbours_run(highest):
    machine = Machine(8, frozenset(range(1, highest + 1)))
    fit = found(machine)
    assert (fit.found, fit.hint) == ((True, highest) if highest else (False, None))
    assert fit.sharp
    if highest:
        assert machine.runs[highest] == 3
        assert machine.runs[highest + 1] == 1  # 8 models: hint 8 is the same as no hint
        assert highest == 1 or machine.runs[highest - 1] == 1


def test_without_a_limit_to_hit_one_hint_is_run():
    fit = found(Machine(4, frozenset(range(5))))
    assert (fit.found, fit.hint, len(fit.runs), fit.sharp) == (True, None, 3, True)
    assert fit.verdict.startswith("Without a hint, 3 of 3 runs passed under a memory limit of 100")


def test_it_takes_few_runs_among_many_models():
    machine = Machine(1000, frozenset(range(1, 301)))
    assert found(machine).hint == 300
    assert sum(machine.runs.values()) <= 8


@given(
    st.integers(1, 9), st.sets(st.integers(0, 9)), st.dictionaries(st.integers(0, 9), st.just(1))
)
def test_an_answer_has_passed_three_times_however_uneven_passing_is(models, passes, times):
    machine = Machine(models, frozenset(passes), times)
    fit = found(machine)
    ends = [ran.succeeded for hint, ran in fit.runs if fit.found and hint == fit.hint]
    assert not fit.found or ends == [True] * 3
    assert max(machine.runs.values()) <= 3
    assert ("no sharp boundary" in fit.verdict) == (fit.found and not fit.sharp)


def test_a_hint_that_passes_by_chance_is_not_the_answer():
    fit = found(Machine(6, frozenset({1, 2, 3}), {3: 1}))
    assert (fit.hint, fit.sharp) == (2, False)
    assert "no sharp boundary: hint 3" in fit.verdict


def test_a_lower_hint_may_fail_where_a_higher_one_passes():
    """Reloads leave memory behind."""
    fit = found(Machine(6, frozenset({3, 4})))
    assert fit.found and fit.hint in {3, 4}
    only = found(Machine(12, frozenset({11})), hints=[1, 2, 4, 11, None])
    assert only.hint == 11 and _MOST_ABOVE >= 2


def test_where_not_even_the_first_model_fits_one_run_says_so():
    fit = Search(lambda hint, name: outcome(4, fits=False, held=0), None).fit(100)
    assert (fit.found, len(fit.runs)) == (False, 1)
    assert "not one model fits" in fit.runs[0][1].problem


def test_hints_to_choose_from():
    machine = Machine(8, frozenset({1, 2, 3, 4, 5}))
    assert found(machine, hints=[2, 4, 6]).hint == 4
    assert set(machine.runs) == {2, 4, 6}


def test_each_run_is_a_row_and_the_verdict_speaks_of_runs():
    fit = found(Machine(4, frozenset({1, 2})))
    assert list(fit.table()["hint"]) == ["none", 2, 3, 1, 2, 2]
    assert list(fit.table()["ended"][:2]) == ["out of memory", "passed"]
    assert fit.verdict == (
        "With hint 2, 3 of 3 runs passed under a memory limit of 100 bytes; no higher hint passed "
        "each of its runs."
    )
    assert [row.hint for row in fit.comparison.rows] == [1, 2, 3, None]
    nothing = found(Machine(3, frozenset()))
    assert not nothing.found
    assert nothing.verdict.startswith("No hint that was run passes under a memory limit of 100")


def test_another_error_ends_the_search():
    search = Search(lambda hint, name: outcome(3, fits=False, held=1, error="ValueError: no"), None)
    with pytest.raises(FreshRunError, match="ValueError: no"):
        search.fit(100)


def test_another_error_of_a_later_run_is_a_row_and_a_sentence():
    ends = {2: outcome(3, fits=False, held=2, error="KeyError: 7"), 1: outcome(3, fits=True)}
    unfit = outcome(3, fits=False, held=2)
    fit = Search(lambda hint, name: ends.get(hint, unfit), None).fit(100)
    assert (fit.found, fit.hint) == (True, 1)
    assert list(fit.table()["ended"][:3]) == ["out of memory", "failed", "passed"]
    assert "hint 2: KeyError: 7" in fit.verdict


def test_an_interrupt_ends_the_search_with_what_was_seen():
    stopped = RunOutcome(Trace([]), "run", "KeyboardInterrupt", "interrupted", interrupted=True)
    ends = iter([outcome(3, fits=False, held=1), stopped])
    fit = Search(lambda hint, name: next(ends), None).fit(100)
    assert (fit.found, fit.interrupted, len(fit.runs)) == (False, True, 2)
    assert fit.verdict == "Interrupted after 2 runs: nothing is found yet."


def test_the_progress_ends_at_its_end():
    seen = []
    machine = Machine(8, frozenset({1, 2, 3}))
    Search(machine.run, None, show=lambda done, total: seen.append((done, total))).fit(100)
    assert seen[-1][0] == seen[-1][1] == sum(machine.runs.values())
    assert all(done < total for done, total in seen[:-1])
