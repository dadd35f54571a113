"""Batches that failed, timed out, went to the dead letters or were done again."""

from __future__ import annotations

import numpy as np

from mmlab.draw.lanes import lanes_of
from mmlab.draw.pixels import TimeAxis
from mmlab.draw.progress import Reader
from mmlab.draw.timeline import draw_timeline
from mmlab.events import UNKNOWN
from mmlab.reports.summary import count_per_model, summarize
from mmlab.state import State
from tests.events import Event

SECOND = 10**9


def event(seconds, kind, *, tid=1, model="m", **fields):
    return Event("r", int(seconds * SECOND), "a", 1, tid, kind, "s", model, 1, **fields)


def use(begin, end, *, error=None, **at):
    ends = {} if error is None else {"error": error}
    return [event(begin, "use_begin", n=2, **at), event(end, "use_end", **ends, **at)]


def letter(seconds, n=2, **fields):
    return Event("r", int(seconds * SECOND), "a", 1, 1, "dead_letter", "s", n=n, **fields)


TIMED_OUT = {"timed_out": True, "model": "m", "thread": 7, "error": "TimeoutError: "}


def run_of(*events, state="DONE"):
    begin = Event("r", 0, "a", 1, 1, "run", info={"models": [{"step": "s", "model": "m"}]})
    load = [event(1, "load_begin"), event(2, "load_end")]
    end = Event("r", 10 * SECOND, "a", 1, 1, "end", info={"state": state})
    return State([begin, *load, *events, end])


def test_failed_batches_are_counted_for_each_model():
    state = run_of(*use(3, 4), *use(5, 6, error="ValueError: no"), letter(6))
    s, [of_model] = summarize(state), count_per_model(state)
    assert (s.uses, s.failed, s.timed_out, s.dead_letters, s.retried) == (2, 1, 0, 1, 0)
    assert (of_model.failed, of_model.timed_out) == (1, 0)
    assert state.dead_letters == {"s": (1, 2)}
    assert "failed              1 batch, 1 dead letter\n" in str(s)


def test_a_run_without_failures_says_nothing_of_them():
    assert "failed" not in str(summarize(run_of(*use(3, 4))))


def test_a_batch_that_timed_out_did_not_fail_however_it_ends():
    late = use(3, 8, tid=7, error="ValueError: much later")
    state = run_of(late[0], letter(5, **TIMED_OUT), late[1])
    s, [of_model] = summarize(state), count_per_model(state)
    assert (s.failed, s.timed_out, s.dead_letters) == (0, 1, 1)
    assert (of_model.failed, of_model.timed_out) == (0, 1)
    assert "failed              0 batches, 1 timed out, 1 dead letter\n" in str(s)


def test_one_whose_model_is_not_known_is_counted_for_the_run():
    state = run_of(letter(5, timed_out=True))
    assert summarize(state).timed_out == 1
    assert count_per_model(state)[0].timed_out == 0


def test_a_run_that_ended_well_has_done_again_what_failed():
    failed = use(3, 4, error="OSError: no")
    assert summarize(run_of(*failed, *use(5, 6))).retried == 1
    assert summarize(run_of(*failed, state="FAILED")).retried is UNKNOWN
    assert summarize(run_of(*failed, letter(4), state="FAILED")).retried == 0


def test_both_pictures_mark_them():
    late = use(6, 9, tid=7)
    state = run_of(*use(3, 4, error="ValueError: no"), late[0], letter(8, **TIMED_OUT), late[1])
    [lane] = lanes_of(state)
    assert (lane.failures, list(lane.timeouts)) == ([4 * SECOND], [8 * SECOND])
    labels = [text.get_text() for text in draw_timeline(state).figure.legends[0].get_texts()]
    assert labels[-2:] == ["batch failed", "batch timed out"]
    reader = Reader(state)
    reader.read()
    covers = reader.covers(TimeAxis(100, 10.0))
    assert np.flatnonzero(covers["batch failed"][0]).tolist() == [40]
    assert np.flatnonzero(covers["timed out"][0]).tolist() == [80]


def test_words_of_the_picture():
    state = run_of(*use(3, 4, error="ValueError: no"), letter(4))
    assert "1 batch, 2 elements, 1 failed" in repr(draw_timeline(state))
