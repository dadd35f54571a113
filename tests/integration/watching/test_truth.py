"""Recorded loads, uses and evictions equal, in order, what an LRU over cohorts does."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlab import WatchRunner
from tests.handlers import keyed, run_keyed
from tests.lanes import examples

pytestmark = pytest.mark.runs


def lru(cohorts, keys, batch_size, hint):
    """Beam's rule: a batch visits each cohort once, in first-seen order; full means evict first."""
    cohort_of = {key: cohort[0] for cohort in cohorts for key in cohort}
    resident, story = OrderedDict(), []
    for start in range(0, len(keys), batch_size):
        batch = keys[start : start + batch_size]
        for cohort in dict.fromkeys(cohort_of[key] for key in batch):
            if cohort in resident:
                resident.move_to_end(cohort)
            else:
                resident[cohort] = True
                if hint is not None and len(resident) > hint:
                    story.append(("evict", resident.popitem(last=False)[0]))
                story.append(("load", cohort))
            counts = {k: batch.count(k) for k in batch if cohort_of[k] == cohort}
            story.append(("use", cohort, counts))
    return story


@st.composite
def cases(draw):
    models = draw(st.integers(1, 8))
    keys_each = draw(st.lists(st.integers(1, 3), min_size=models, max_size=models))
    names = iter(f"K{i}" for i in range(100))
    cohorts = [[next(names) for _ in range(n)] for n in keys_each]
    every_key = [key for cohort in cohorts for key in cohort]
    keys = draw(st.lists(st.sampled_from(every_key), min_size=1, max_size=40))
    batch_size = draw(st.integers(1, 16))
    hint = draw(st.one_of(st.none(), st.integers(1, 9)))
    return cohorts, keys, batch_size, hint


def recorded(trace):
    story = []
    for event in trace.events:
        if event.event == "load_end":
            story.append(("load", event.cohort))
        elif event.event == "evict":
            story.append(("evict", event.cohort))
        elif event.event == "use_begin":
            story.append(("use", event.cohort, dict(event.keys)))
    return story


@examples("lru", suite=30, full=1200)
@given(cases())
def test_the_trace_is_what_an_lru_over_cohorts_does(case):
    cohorts, keys, batch_size, hint = case
    runner = WatchRunner()
    run_keyed(runner, keyed(cohorts, hint, batch_size), keys)
    trace = runner.trace
    expected = lru(cohorts, keys, batch_size, hint)
    assert recorded(trace) == expected

    summary = trace.summary()
    kinds = [step[0] for step in expected]
    assert summary.loads == kinds.count("load")
    assert summary.evictions == kinds.count("evict")
    assert summary.uses == kinds.count("use")
    assert summary.elements == len(keys)
    assert summary.reloads == summary.loads - len({s[1] for s in expected if s[0] == "load"})
    assert summary.limit == hint
    assert (trace.torn, trace.dropped, trace.notes) == (0, 0, [])
    if hint is not None:
        assert summary.most_resident <= hint
    _every_release_was_seen(trace)


def _every_release_was_seen(trace):
    for residence in trace.residences:
        if residence.evict_ns is None:
            assert residence.free_ns is None
        else:
            assert residence.load_end_ns <= residence.evict_ns <= residence.free_ns
        for use in residence.uses:
            assert residence.load_end_ns <= use.begin_ns <= use.end_ns <= residence.last_ns
