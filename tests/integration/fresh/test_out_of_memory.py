"""Out of memory: what is advised can help, and what only looks like it is not taken for it."""

from __future__ import annotations

import pytest

from mmlab.reports.shortage import is_out_of_memory, out_of_memory
from mmlab.trace import Trace
from tests.events import Event

UNFIT = "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes"


def event(kind, second, **fields):
    return Event("r", second * 10**9, "h", 1, 1, kind, **fields)


def run_out_of_memory(held, hint=None, limit=None, *, used=False):
    """A run that holds so many models when the next one is loaded, or else the last one is used."""
    models = [{"step": "s", "model": f"m{i}", "keys": [f"k{i}"], "hint": hint} for i in range(9)]
    events = [event("run", 0, info={"models": models}), event("memory_limit", 0, bytes=10**8)]
    if limit is not None:
        events.append(event("limit", 0, step="s", limit=limit))
    for i in range(held):
        site = {"step": "s", "model": f"m{i}", "generation": 1}
        events += [event("load_begin", i + 1, **site), event("load_end", i + 1, bytes=5, **site)]
    site = {"step": "s", "model": f"m{held - used}", "generation": 1}
    events.append(event("use_begin" if used else "load_begin", held + 1, n=1, **site))
    events.append(event("end", held + 2, info={"state": "FAILED"}, error=UNFIT))
    return out_of_memory(Trace(events))


@pytest.mark.parametrize(
    ("held", "hint", "limit", "advised"),
    [
        (3, None, None, 3),  # no hint: as many as there was room for
        (2, 4, 4, 2),
        (3, 2, 2, 1),  # evicted ones are not freed yet: 2 was the hint that failed
        (2, 2, 2, 1),
        (1, 1, 1, None),
        (3, 2, 4, 1),  # two workers share them: a hint of 2 lets four stay
        (1, 2, 4, None),
        (4, 4, 8, 2),
        (0, None, None, None),
    ],
)
def test_a_hint_that_is_advised_lets_fewer_models_stay_than_the_one_that_ruled(
    held, hint, limit, advised
):
    unfit = run_out_of_memory(held, hint, limit)
    assert (unfit.held, unfit.hint, unfit.limit) == (held, hint, limit)
    if advised is None:
        assert unfit.advice == ("Raise the memory limit above 100 MB, or use smaller models.")
    else:
        assert unfit.advice.startswith(f"Set max_models_per_worker_hint={advised}, or raise")


def test_a_model_that_answers_needs_room_beside_those_that_are_held():
    assert run_out_of_memory(3, used=True).advice.startswith("Set max_models_per_worker_hint=2")
    assert run_out_of_memory(1, used=True).advice.startswith("Raise the memory limit")


def test_a_signal_alone_is_no_sign_of_memory():
    assert not is_out_of_memory("Killed: the process was ended by SIGKILL")
    assert is_out_of_memory("Killed: the process was ended by SIGABRT: … 'std::bad_alloc'")
