"""Workers that end before the run, that do not write, and attempts that are repeated."""

from __future__ import annotations

import pytest

from mmlab.draw.lanes import lanes_of
from mmlab.draw.progress import Reader
from mmlab.reports.notes import missing, unseen
from mmlab.state import State
from tests.events import Event

SECOND = 1_000_000_000
MODELS = {"models": [{"step": "s", "model": "m"}]}


def event(seconds, kind, *about, pid=2, tid=1, **fields):
    return Event("r", int(seconds * SECOND), "host", pid, tid, kind, *about, **fields)


def samples(until, every=0.05, pid=2):
    return [
        event(1 + i * every, "memory", pid=pid, rss=10) for i in range(int((until - 1) / every))
    ]


def worker(until=5.0, every=0.05, **process):
    """A process that loads a model, begins a batch at second 4.5, and writes until some second."""
    return [
        event(1, "process", info=process),
        *samples(until, every),
        event(1, "load_begin", "s", "m", 1),
        event(2, "load_end", "s", "m", 1),
        event(4.5, "use_begin", "s", "m", 1, n=3),
    ]


def run_of(*events, until=30.0, **end):
    begin = event(0, "run", pid=1, info=MODELS)
    return State([begin, *events, event(until, "end", pid=1, info={"state": "DONE", **end})])


def labels(state):
    reader = Reader(state)
    reader.read()
    final = [lane.label for lane in lanes_of(state)]
    assert [lane.label for lane in reader.lanes()] == final
    return final


def test_the_last_sign_of_life_bounds_what_a_process_held_and_did():
    state = run_of(*worker(until=5))
    last_ns = state.processes["host", 2].last_ns
    assert last_ns < 5 * SECOND
    assert state.ended_early == {("host", 2): last_ns}
    assert [r.last_ns for r in state.residences] == [last_ns]
    [lane] = lanes_of(state)
    assert lane.used(state.end_ns).tolist() == [[int(4.5 * SECOND), last_ns]]
    assert labels(state) == ["m (ended)"]
    assert state.held_now == 0


@pytest.mark.parametrize(
    "events",
    [
        worker(until=29),
        worker(until=21, every=4),  # a process that often pauses
        worker(until=5, segments=True),  # it may not have written what it knows
        [*worker(until=5), event(29.5, "load_begin", "s", "m", 2)],
    ],
    ids=["alive", "slow", "buffered", "alive again"],
)
def test_a_process_that_is_only_quiet_has_not_ended(events):
    state = run_of(*events)
    assert state.ended_early == {}
    assert state.residences[0].last_ns == state.end_ns
    assert labels(state) == ["m"]


def test_the_process_that_submitted_the_pipeline_has_seen_its_end():
    assert run_of(*samples(5, pid=1)).ended_early == {}


def use(n, **fields):
    return [event(3, "use_begin", "s", "m", 1, n=n), event(4, "use_end", "s", "m", 1, **fields)]


def notes(*events, **end):
    state = run_of(*worker(29)[:-1], *events, **end)
    return [*unseen(state), *missing(state)]


def test_repeated_attempts_are_reported():
    assert notes(*use(1445), reached={"s": 1000}) == [
        "s: 1,445 elements were inferred for the 1,000 that reached it: attempts were repeated, "
        "and each is counted."
    ]
    assert notes(*use(1000), reached={"s": 1000}) == []


def test_elements_that_some_worker_did_not_write_of_are_reported():
    assert notes(*use(120), reached={"s": 200}) == [
        "s: 200 elements reached it, and workers wrote of 120: the others could not write to the "
        "log folder."
    ]
    assert notes(*use(120), event(4, "dropped", n=5), reached={"s": 200}) == [
        "5 events could not be written: is the log folder full or gone?"
    ]
    assert notes(*use(120), reached={"s": 200}, state="FAILED") == []


def test_a_job_whose_workers_never_wrote_is_named():
    def said(**end):
        return list(missing(run_of(elsewhere=True, **end)))

    none = "No worker wrote to the log: none was started, or none could write to the log folder."
    assert said(state="FAILED") == [none]
    assert said(element_counts={"s/BatchElements[None]": 3}) == [
        "s: elements went through it, and no worker wrote of that: none could write to the log "
        "folder."
    ]


def test_a_runner_that_counts_nothing_leaves_it_open():
    cannot_tell = (
        "The runner counts no elements: whether every worker wrote to the log cannot be told."
    )
    assert notes(*use(3), elsewhere=True) == [cannot_tell]
    assert notes(*use(3), elsewhere=True, element_counts={"x": 3}) == []
    assert notes(*use(3)) == []
