"""Growth of memory stands for the size of a model where nothing else explains it."""

from __future__ import annotations

import pytest

from mmlab.events import UNKNOWN, Frees, LoadBegins, LoadEnds, Process, UseBegins, UseEnds
from mmlab.state.process import WHAT_IT_DOES as DO
from mmlab.state.process import ProcessState

GROWTH = 50_000_000


def loads(*events):
    state = ProcessState(Process("h", 1), 0, 0)
    for t_ns, (kind, model, generation, more) in enumerate(events):
        event = kind(step="s", model=model, generation=generation, t_ns=t_ns, **more)
        DO[kind](state, event)
    return [(load.bytes, load.sized_by) for load in state.loads]


def begin(model, generation=1):
    return LoadBegins, model, generation, {}


def end(model, generation=1, growth=GROWTH):
    return LoadEnds, model, generation, {"rss_growth": growth}


def free(model, generation=1):
    return Frees, model, generation, {}


def test_a_load_on_its_own_is_sized_by_growth():
    assert loads(begin("a"), end("a"), begin("b"), end("b", growth=2 * GROWTH)) == [
        (GROWTH, "rss"),
        (2 * GROWTH, "rss"),
    ]


def test_a_reload_is_as_large_as_the_first_load():
    again = (begin("a", 2), end("a", 2, growth=0))
    assert loads(begin("a"), end("a"), free("a"), *again) == [(GROWTH, "rss")] * 2


@pytest.mark.parametrize(
    "events",
    [
        (begin("b"), begin("a"), end("a")),
        (begin("b"), begin("a"), end("b"), end("a")),
        (begin("b"), end("b"), free("b"), begin("a"), end("a")),
        (begin("a"), end("a", growth=10_000)),
        (begin("a"), end("a", growth=-GROWTH)),
        (begin("b"), end("b"), (UseBegins, "b", 1, {"n": 1}), begin("a"), end("a")),
        (
            begin("b"), end("b"), (UseBegins, "b", 1, {"n": 1}), begin("a"),
            (UseEnds, "b", 1, {}), end("a"),
        ),
    ],
)  # fmt: skip
def test_what_else_may_have_taken_memory_makes_it_unknown(events):
    assert loads(*events)[-1][0] is UNKNOWN
