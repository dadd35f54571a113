"""A notebook that is killed leaves no process and no file of its runs, whenever that happens."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from mmlab.fresh import launch, process
from tests.integration import pipelines
from tests.waiting import wait_for
from tests.without_torch import environment

pytestmark = [
    pytest.mark.runs,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX"),
]

NOTEBOOK = "from tests.integration.fresh import test_killed_parent; test_killed_parent.notebook()"


def _die(*_, **__):
    psutil.Process().kill()


def _when_a_python_is_started():
    start = subprocess.Popen.__init__

    def start_and_die(*args, **kwargs):
        start(*args, **kwargs)
        _die()

    launch._the_template = None
    subprocess.Popen.__init__ = start_and_die


def _when_half_of_the_request_is_sent():
    dumps = launch.pickle.dumps
    launch.pickle.dumps = lambda request: dumps(request)[:-9]
    launch.Supervised._answer = _die


def _when_the_request_is_sent():
    launch.Supervised._answer = _die


def _when_the_run_is_there():
    process.FreshRun.wait = _die


def _when_it_has_loaded_a_model():
    wait = process.FreshRun.wait
    process.FreshRun.wait = lambda run, _: wait(run, _die)


def _when_it_has_ended():
    pipelines.sleepy = pipelines.small_models
    process.FreshRun._collect = _die


MOMENTS = {name: do for name, do in globals().items() if name.startswith("_when_")}
CASES = [("fork", moment) for moment in MOMENTS] + [
    ("spawn", "_when_a_python_is_started"),
    ("spawn", "_when_the_request_is_sent"),
    ("spawn", "_when_it_has_loaded_a_model"),
]


def notebook():
    """Run a pipeline and be killed, as each line says, in a fork for each line."""
    launch.warm_up()
    launch._template()._wait_until_ready()
    launch._template().is_alive = lambda: True  # for the forks too
    print("ready", flush=True)
    for line in sys.stdin:
        start, moment = line.split()
        if (pid := os.fork()) == 0:
            os.environ[launch._VARIABLE] = start
            MOMENTS[moment]()
            process.run_fresh(pipelines.sleepy, 2)
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with suppress(OSError):  # refused, when the request before it has its supervisor
            launch._template().start(Path(), b"")
        print(ended, flush=True)


@pytest.fixture(scope="module")
def kill(tmp_path_factory):
    """Kills a notebook at a moment; returns what is left, each time that it is asked."""
    folder = tmp_path_factory.mktemp("temporary")
    with subprocess.Popen(
        [sys.executable, "-c", NOTEBOOK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(TMPDIR=str(folder)),
        cwd=Path(__file__).parents[3],
        text=True,
    ) as notebook:
        assert notebook.stdout.readline() == "ready\n"

        def kill(start, moment):
            before = _files_and_processes(folder)
            notebook.stdin.write(f"{start} {moment}\n")
            notebook.stdin.flush()
            assert notebook.stdout.readline() == "-9\n"
            return lambda: _files_and_processes(folder) - before

        yield kill


def _files_and_processes(folder):
    """Files of this folder, and processes that began with it as their folder for such files."""
    found = {path.name for path in folder.iterdir()}
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            if one.environ().get("TMPDIR") == str(folder):
                found.add(one.pid)
    return found


@pytest.mark.parametrize(("start", "moment"), CASES)
def test_a_killed_notebook_leaves_nothing(kill, start, moment):
    left = kill(start, moment)
    wait_for(lambda: not left())
