"""How often runs with several threads fail under a small hint: watched no more than unwatched."""

from __future__ import annotations

import itertools
import multiprocessing
import tempfile
from collections import Counter

import pytest
from scipy.stats import fisher_exact

RUNS = 12
"""Of each setting and side: 216 watched runs and as many unwatched ones."""
ELEMENTS = {0: 200, 5: 100, 50: 40}
"""Elements of a run, by the milliseconds that a load takes."""
SETTINGS = [
    {"threads": threads, "hint": hint, "load_ms": load_ms, "elements": ELEMENTS[load_ms]}
    for threads, hint, load_ms in itertools.product((2, 4), (1, 2, 3), ELEMENTS)
]
SECONDS = 120.0
"""A run that takes longer hangs, and has failed."""


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.integration.watching.threaded"])
    return context


def error_of(processes, setting) -> str | None:
    """How a run in a fresh process ended; None if it ended well."""
    from tests.integration.watching import threaded

    receiver, sender = processes.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder, receiver:
        process = processes.Process(target=threaded.outcome, args=(setting, folder, sender))
        process.start()
        sender.close()
        try:
            return receiver.recv()["error"] if receiver.poll(SECONDS) else "hangs"
        except EOFError:
            return "died"
        finally:
            process.kill()
            process.join()


@pytest.mark.part("threads")
@pytest.mark.timeout(3600)
def test_watched_runs_fail_no_more_often_than_unwatched_ones(processes, record_property):
    failed: Counter[bool] = Counter()
    errors: Counter[str] = Counter()
    for number in range(RUNS):
        for setting in SETTINGS:
            for watched in (number % 2 == 0, number % 2 == 1):
                error = error_of(processes, {**setting, "watched": watched})
                failed[watched] += error is not None
                if error is not None:
                    errors[f"{'watched' if watched else 'unwatched'} {setting}: {error[-90:]}"] += 1
        done = (number + 1) * len(SETTINGS)
        print(f"{failed[True]} watched and {failed[False]} unwatched of {done} failed", flush=True)
    runs = RUNS * len(SETTINGS)
    table = [[failed[True], runs - failed[True]], [failed[False], runs - failed[False]]]
    p_value = fisher_exact(table, alternative="greater").pvalue
    summary = f"{failed[True]} watched and {failed[False]} unwatched of {runs}, p = {p_value:.3f}"
    print(summary, *errors.items(), sep="\n")
    assert p_value >= 0.05, summary
