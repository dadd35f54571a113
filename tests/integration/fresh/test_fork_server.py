"""The fork server: where it starts and ends, and what it takes with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest

from mmlab.fresh import launch
from mmlab.fresh.process import run_fresh
from tests.integration import pipelines
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.runs,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX"),
    pytest.mark.usefixtures("without_torch"),
]


@pytest.fixture(autouse=True)
def none_yet():
    """Each test begins and ends without a fork server."""
    launch.stop_server()
    yield
    launch.stop_server()


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
        launch.stop_server()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_interrupt_while_the_fork_server_starts_is_an_interrupted_run(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    wait_until_ready = launch._Template._wait_until_ready

    def interrupted(server):
        _interrupt()
        wait_until_ready(server)

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


def test_a_fork_server_that_was_killed_is_replaced():
    run_fresh(pipelines.small_models, 1)
    os.kill(launch._template()._process.pid, signal.SIGKILL)
    launch._template()._process.wait()
    assert run_fresh(pipelines.small_models, 1).succeeded


PARENT = """
from mmlab.fresh.process import FreshRun
from tests.integration import pipelines
from tests.lanes import size
from tests.waiting import wait_for
run = FreshRun(pipelines.sleepy, 2)
run.wait(lambda events: print(run.pid, run.folder, flush=True))
"""


def test_when_the_notebook_is_killed_its_runs_and_files_go_too(tmp_path):
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", PARENT]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, cwd=root) as parent:
        pid, folder = parent.stdout.readline().split()
        parent.kill()
    wait_for(lambda: not (psutil.pid_exists(int(pid)) or Path(os.fsdecode(folder)).exists()))


def test_nothing_is_warmed_up_where_no_fork_server_is_wanted(monkeypatch):
    monkeypatch.setenv(launch.VARIABLE, "spawn")
    launch.warm_up()
    assert launch._the_template is None
