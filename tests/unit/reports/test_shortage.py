"""Out of memory: what is recognised as such, what was seen, and what to call next."""

from __future__ import annotations

import pytest

from mmlab.reports.shortage import is_out_of_memory, out_of_memory
from mmlab.trace import Trace
from mmlab.worker.recorder import describe
from tests.events import Event
from tests.stories import UNFIT

MB = 1_000_000

FORMS = {
    "torch": (UNFIT, 64 * MB),
    "torch on Windows": (
        "RuntimeError: DefaultCPUAllocator: not enough memory: you tried to allocate 400 bytes.",
        400,
    ),
    "CUDA": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a …",
        20 << 20,
    ),
    "NumPy": (
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 114. MiB for an array with "
        "shape (15000000,) and data type float64",
        114 << 20,
    ),
    "Python": ("MemoryError: ", None),
    "the system": ("OSError: [Errno 12] Cannot allocate memory", None),
    "C++": ("Killed: the process was ended by SIGABRT: … 'std::bad_alloc'", None),
    "OpenMP": ("libgomp: Thread creation failed: Resource temporarily unavailable", None),
    "a thread": ("RuntimeError: can't start new thread", None),
}
"""What libraries say, and the bytes that they name."""

OTHERS = [
    "Killed: the process was ended by SIGKILL",
    "RuntimeError: Worker subprocess exited with return code -9",
    "ValueError: the memory of the elders is allocated to nobody",
    "ZeroDivisionError: division by zero",
]


def event(kind, second, **fields):
    return Event("r", second * 10**9, "h", fields.pop("pid", 1), 1, kind, **fields)


def run_out_of_memory(held, *, used=False, limit=100 * MB, keyed=True, error=UNFIT, others=()):
    """A run that holds so many models when the next one is loaded, or else the last one is used."""
    keys = [[f"k{i}"] if keyed else [] for i in range(9)]
    models = [{"step": "s", "model": f"m{i}", "keys": keys[i]} for i in range(9)]
    events = [event("run", 0, info={"models": models})]
    events += [event("memory", 0, rss=300 * MB, pid=pid) for pid in others]
    events += [event("memory_limit", 0, bytes=limit)] if limit else []
    for i in range(held):
        site = {"step": "s", "model": f"m{i}", "generation": 1}
        events.append(event("load_begin", i + 1, **site))
        events.append(event("load_end", i + 1, bytes=5 * MB, **site))
    site = {"step": "s", "model": f"m{held - used}", "generation": 1}
    events.append(event("use_begin" if used else "load_begin", held + 1, n=1, **site))
    events.append(event("memory", held + 1, rss=700 * MB))
    events.append(event("end", held + 2, info={"state": "FAILED"}, error=error))
    return out_of_memory(Trace(events))


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_it_is_recognised_with_the_bytes_that_it_names(form):
    error, asked = FORMS[form]
    assert is_out_of_memory(error)
    assert run_out_of_memory(2, error=error).asked_bytes == asked


def test_what_a_worker_says_in_the_last_line_of_a_long_traceback_is_recognised():
    said = describe(RuntimeError("Traceback …\n" + "  a frame\n" * 90 + "can't start new thread"))
    assert len(said) == 500
    assert said.startswith("RuntimeError: Traceback …")
    assert run_out_of_memory(2, error=said) is not None


@pytest.mark.parametrize("error", OTHERS)
def test_a_form_that_we_do_not_know_is_an_error_like_any_other(error):
    assert not is_out_of_memory(error)
    assert run_out_of_memory(2, error=error) is None


@pytest.mark.parametrize("error", OTHERS[:2])
def test_a_killed_process_was_out_of_memory_where_the_kernel_says_so(error):
    assert is_out_of_memory(error, oom_kills=1)
    assert not is_out_of_memory(error, oom_kills=0)
    assert not is_out_of_memory(OTHERS[3], oom_kills=1)


def test_it_says_what_was_held_what_was_refused_and_where():
    unfit = run_out_of_memory(3, others=[2, 3])
    assert unfit.what == (
        "m3 did not fit: 3 models (15 MB) were held, 64 MB more were refused, under a memory limit "
        "of 100 MB."
    )
    assert unfit.where == "Peak RSS was 700 MB in process 1 of 3."
    assert run_out_of_memory(1).where == "Peak RSS was 700 MB."
    said = run_out_of_memory(2, used=True, error="MemoryError: ").what
    assert said.startswith("Memory ran out while m1 answered: 2 models (10 MB) were held, under")


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("limit", [100 * MB, None])
@pytest.mark.parametrize("held", [0, 1, 3])
def test_no_hint_and_no_limit_is_recommended_that_nobody_has_tried(held, limit, keyed):
    advice = run_out_of_memory(held, limit=limit, keyed=keyed).advice
    assert not any(character.isdigit() for character in advice.replace("100MB", ""))
    helps = keyed and held > 0
    assert ("fit_hint" in advice) == helps
    assert ("memory_limit='100MB'" in advice) == (helps and limit is not None)
    assert ("not one model fits" in advice) == (held == 0)
