"""Lanes: which tests run with which command, and at which size.

`make quick`: tests that run no pipeline, start no Python and take no seconds. They have no marker.
`make test`: these, and those that do, which are marked `@pytest.mark.runs`.
`make full PART=name`: the tests of one part. A test joins a part in one of three ways:

    @pytest.mark.part("threads")              # it runs in the part only
    def test_rates(): ...

    @examples("predictions", suite=200, full=1500)   # it runs in both, at another size
    @given(cases())
    def test_equal(case): ...

    ROUNDS = size("threads", suite=2, full=40)       # the same for what hypothesis does not draw
    @pytest.mark.part("threads", suite=True)
    def test_rounds(): ...

A new part gets a line in `PARTS`. This module is a plugin of pytest, named in conftest.py.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

PARTS = {
    "traces": "recorded logs in which something was changed, through every call that does not draw",
    "drawn_traces": "the same, through every picture and prediction",
    "interleavings": "events of several processes, in any order",
    "lru": "traces of real runs beside an LRU over cohorts",
    "reruns": "second and third runs beside an LRU that remembers the runs before",
    "predictions": "predictions beside an ordered dict for each hint",
    "random_pipelines": "random pipelines, watched and unwatched",
    "prism": "random pipelines on Prism, watched and unwatched, and beside an LRU",
    "threads": "runs with several threads and a small hint",
    "beams_own": "Beam's own tests of RunInference, watched and unwatched",
    "advice": "hints that are advised for models under a memory limit, and run",
    "exercises": "detours of learners, four or more for each exercise",
    "browser": "all that people do in the pages, beyond one pass through each",
    "replay": "random runs in the replay page under every hint, and runs of its largest size",
    "race": "several hints at once beside the same hints one after another, and predictions",
    "programs": "programs that nobody changed, under `mmlab run` and under Python",
    "install": "each layer of the install in an environment of its own; needs a network",
    "leaks": "hundreds of runs and reloads that leave nothing behind",
}
"""What `make full` can run, by name."""

_DRAWS = f"diagrams{os.sep}engine{os.sep}worker.py"

_chosen: str | None = None
_running: pytest.Item | None = None
_seen: dict[str, str] = {}
"""Tests that ran a pipeline or started a Python, and which of the two."""


def list_parts() -> str:
    """The parts in one sentence."""
    *most, last = (f"{name} ({what})" for name, what in PARTS.items())
    return f"make full needs PART=NAME, one of: {', '.join(most)} or {last}."


def size(part: str, *, suite: int, full: int) -> int:
    """`full` in `make full PART=part`, and `suite` everywhere else."""
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    return full if _chosen == part else suite


def examples(part: str, *, suite: int, full: int):
    """Give a hypothesis test so many examples in the suite, and so many in its part."""
    most = size(part, suite=suite, full=full)

    def mark(test):
        return pytest.mark.part(part, suite=True)(settings(max_examples=most)(test))

    return mark


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lanes")
    group.addoption("--quick", action="store_true", help="leave out tests marked `runs`")
    group.addoption("--part", metavar="NAME", help="run one part of `make full`, and nothing else")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the part before test modules are imported, and take the clock out of hypothesis."""
    global _chosen
    _chosen = config.getoption("part")
    if _chosen is not None and _chosen not in PARTS:
        raise pytest.UsageError(list_parts())
    # The suite draws the same examples each time, a part draws new ones.
    settings.register_profile(
        "lanes",
        deadline=None,
        derandomize=_chosen is None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("lanes")
    _note_calls(subprocess.Popen, "__init__", _started_python)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select the lane, and keep the cells of a notebook in their order."""
    for item in items:
        if _is_cell(item):
            item.add_marker("runs")
    cells = [item for item in items if _is_cell(item)]
    files = list(dict.fromkeys(item.path for item in cells))
    cells.sort(key=lambda item: (files.index(item.path), item.cell_num))
    items[:] = [cells.pop(0) if _is_cell(item) else item for item in items]
    quick = config.getoption("quick")
    left_out = [item for item in items if not _is_in_lane(item, quick)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if _is_in_lane(item, quick)]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect a notebook only where its own path is given."""
    if collection_path.suffix != ".ipynb":
        return None
    named = {Path(config.invocation_params.dir, arg.partition("::")[0]) for arg in config.args}
    return None if collection_path in named else True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    global _running
    if "apache_beam.pipeline" in sys.modules:
        _note_calls(
            sys.modules["apache_beam.pipeline"].Pipeline, "run", lambda *_: "runs a pipeline"
        )
    _running = item
    try:
        return (yield)
    finally:
        _running = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Fail a test of the quick lane that did what this lane leaves out."""
    report = yield
    done = _seen.pop(item.nodeid, None)
    if done and report.passed and item.config.getoption("quick"):
        report.outcome = "failed"
        report.longrepr = f"This test {done}: mark it with @pytest.mark.runs (see tests/lanes.py)."
    return report


def _is_in_lane(item: pytest.Item, quick: bool) -> bool:
    part = item.get_closest_marker("part")
    if _chosen is not None:
        return any(mark.args == (_chosen,) for mark in item.iter_markers("part"))
    if part is not None and not part.kwargs.get("suite", False):
        return False
    return not (quick and item.get_closest_marker("runs"))


def _is_cell(item: pytest.Item) -> bool:
    return item.path.suffix == ".ipynb"


def _note_calls(cls: type, name: str, what: Callable[..., str | None]) -> None:
    """Let `what` say of each call of a method what it does, and note that of the running test."""
    method = getattr(cls, name)
    if hasattr(method, "__wrapped__"):
        return

    @functools.wraps(method)
    def noting(*args, **kwargs):
        if _running is not None and (done := what(*args, **kwargs)):
            _seen.setdefault(_running.nodeid, done)
        return method(*args, **kwargs)

    setattr(cls, name, noting)


def _ran_a_pipeline(*_: Any, **__: Any) -> str:
    return "runs a pipeline"


def _started_python(self: subprocess.Popen, args: Any, *_: Any, **__: Any) -> str | None:
    words = [args] if isinstance(args, (str, bytes, os.PathLike)) else args
    words = [os.fsdecode(word) for word in words]
    # What draws diagrams is a Python of 0.1 s that serves all tests of a process.
    draws = any(word.endswith(_DRAWS) for word in words)
    return "starts a Python" if sys.executable in words and not draws else None


if __name__ == "__main__":
    sys.exit(list_parts() if sys.argv[1:2] not in [[name] for name in PARTS] else 0)
