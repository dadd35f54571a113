"""The template process: where it starts and ends."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading

import pytest

from mmlab.fresh import launch
from mmlab.fresh.process import run_fresh
from tests.integration import pipelines

pytestmark = [
    pytest.mark.runs,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX"),
    pytest.mark.usefixtures("without_torch"),
]


@pytest.fixture(autouse=True)
def none_yet():
    """Each test begins and ends without a template."""
    launch._stop_server()
    yield
    launch._stop_server()


def test_a_notebook_with_more_than_a_thousand_open_files_can_still_run():
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("this machine allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    with contextlib.ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(open(os.devnull))  # noqa: PTH123
        assert run_fresh(pipelines.small_models, 2).succeeded
        launch._stop_server()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_interrupt_while_the_template_starts_is_an_interrupted_run(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    wait_until_ready = launch._Template._wait_until_ready

    def interrupted(template):
        _interrupt()
        wait_until_ready(template)

    with monkeypatch.context() as patch:
        patch.setattr(launch._Template, "_wait_until_ready", interrupted)
        outcome = run_fresh(pipelines.small_models, 2)
    assert (outcome.interrupted, outcome.problem) == (True, "The run was interrupted.")
    assert list(outcome.trace.events) == []
    assert "interrupted" in repr(outcome)
    assert list(tmp_path.iterdir()) == []
    assert run_fresh(pipelines.small_models, 2).succeeded


def _interrupt():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def test_a_template_that_was_killed_is_replaced():
    run_fresh(pipelines.small_models, 1)
    os.kill(launch._template()._process.pid, signal.SIGKILL)
    launch._template()._process.wait()
    assert run_fresh(pipelines.small_models, 1).succeeded


def test_nothing_is_warmed_up_where_no_template_is_wanted(monkeypatch):
    monkeypatch.setenv(launch._VARIABLE, "spawn")
    launch.warm_up()
    assert launch._the_template is None
