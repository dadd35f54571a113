"""Workers in processes of their own: Beam's worker pool, which Prism asks for them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

import mmlab
from mmlab import Trace, WatchRunner, WatchWarning
from tests import remote
from tests.handlers import NamedModels, keyed
from tests.waiting import wait_for

pytestmark = pytest.mark.runs

ROOT = Path(__file__).parents[3]
COHORTS = [["a"], ["b"], ["c"]]
PAIRS = [(key, i) for i, key in enumerate("abcabc")]


@pytest.fixture
def pool(prism, monkeypatch):
    """Flags for a job on Prism whose workers are processes."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(ROOT)  # workers import the tests' handlers
    address, server = BeamFnExternalWorkerPoolServicer.start(use_process=True)
    yield [
        f"--prism_location={prism}",
        "--environment_type=EXTERNAL",
        f"--environment_config={address}",
    ]
    server.stop(0)


def submitted(runner, flags, handler=NamedModels):
    pipeline = beam.Pipeline(runner, options=PipelineOptions(flags))
    pairs = pipeline | "Read" >> beam.Create(PAIRS)
    scores = pairs | "Score" >> RunInference(keyed(COHORTS, 2, handler=handler))
    _ = scores | "Name" >> beam.Map(str)
    return pipeline.run()


def test_a_worker_of_its_own_is_watched_and_its_elements_counted(pool, tmp_path):
    result = submitted(WatchRunner("PrismRunner", live=False, log=tmp_path), pool)
    result.wait_until_finish()
    trace = result.trace
    here = {event.pid for event in trace.of_kind("end")}
    assert not here & {event.pid for event in trace.of_kind("use_begin")}
    counts = {"loads": 6, "evictions": 4, "uses": 6, "elements": 6}
    assert trace.summary().counts().items() >= counts.items()
    assert trace.notes == []
    assert trace.element_counts["Score/BeamML_RunInference"] == len(PAIRS)
    print(str(mmlab.diagram(result)))
    assert "6 elements" in str(mmlab.diagram(result))


def test_workers_that_cannot_write_are_named(pool, tmp_path):
    # They know nothing of the file system that the log is on.
    runner = WatchRunner("PrismRunner", live=False, log=remote.uri(tmp_path))
    result = submitted(runner, pool)
    result.wait_until_finish()
    assert result.trace.summary().uses == 0
    assert any(
        "Score: elements went through it, and no worker wrote" in n for n in result.trace.notes
    )


class Killed(NamedModels):
    """Ends its process when a file says so, at element 3."""

    def __init__(self, name, pid_file):
        super().__init__(name)
        self.pid_file = pid_file

    def run_inference(self, batch, model, inference_args=None):
        if 3 in batch:
            Path(self.pid_file).write_text(str(os.getpid()))
            signal.pause()
        return super().run_inference(batch, model, inference_args)


def test_a_worker_that_is_killed_ends_the_run_with_its_error(pool, tmp_path):
    runner = WatchRunner("PrismRunner", live=False, log=tmp_path / "log")
    pid = tmp_path / "pid"
    result = submitted(runner, pool, handler=lambda name: Killed(name, str(pid)))
    wait_for(lambda: pid.exists() and pid.read_text())
    os.kill(int(pid.read_text()), signal.SIGKILL)
    with pytest.raises(RuntimeError):
        result.wait_until_finish()
    trace = runner.trace
    assert trace.state == "FAILED"
    assert trace.summary().loads == 4  # as far as it went
    assert any("the end of 1 batch was not seen" in note for note in trace.notes)
    assert Trace.load(tmp_path / "log").state == "FAILED"


def test_a_log_that_workers_may_not_reach_is_a_warning(pool):
    with pytest.warns(WatchWarning, match="workers of PrismRunner may be elsewhere.*give log="):
        submitted(WatchRunner("PrismRunner", live=False), pool).wait_until_finish()
