"""Several workers: threads, processes, a Dask cluster, machines with clocks of their own."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from mmlab import Trace, WatchRunner
from mmlab.draw.lanes import lanes_of
from mmlab.events import Process
from mmlab.watching import WatchWarning
from tests import remote
from tests.handlers import AnsweringModels, NamedModels, keyed
from tests.integration.watching.faulty import watchers
from tests.remote import AnsweringModelsAfar
from tests.waiting import wait_for

pytestmark = [pytest.mark.runs, pytest.mark.usefixtures("without_torch")]

NO_COUNTS = "The runner counts no elements: whether every worker wrote to the log cannot be told."
COHORTS = [["K0"], ["K1"], ["K2"]]
PAIRS = [(f"K{i % 3}", i) for i in range(60)]


class WriteDown(beam.DoFn):
    """Keeps each prediction as a file: Dask's runner has no metrics, and returns nothing."""

    def __init__(self, folder):
        self._folder = str(folder)

    def process(self, element):
        key, result = element
        name = f"{key}-{result.example}-{result.inference.replace(' ', '_')}"
        Path(self._folder, name).touch()


def predictions(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(runner, handler, options, into):
    into.mkdir()
    with beam.Pipeline(runner, options=options) as pipeline:
        _ = (
            pipeline
            | beam.Create(PAIRS)
            | beam.Reshuffle()
            | "Score" >> RunInference(handler)
            | beam.ParDo(WriteDown(into))
        )
    return predictions(into)


@pytest.mark.parametrize("mode", ["multi_threading", "multi_processing"])
def test_two_workers_of_beams_own_runner(mode, tmp_path):
    options = PipelineOptions([f"--direct_running_mode={mode}", "--direct_num_workers=2"])
    runner = WatchRunner(log=tmp_path / "log")
    written = run(runner, keyed(COHORTS, 2, handler=AnsweringModels), options, tmp_path / "out")
    trace = runner.trace
    assert len(written) == len(PAIRS)
    assert trace.summary().elements == len(PAIRS)
    assert trace.notes == []
    askers = {use.process for r in trace.residences for use in r.uses}
    holders = {r.process for r in trace.residences}
    assert len(holders) == 1  # Beam keeps all models of a machine in one process
    threads = {event.tid for event in trace.of_kind("use_begin")}
    assert len(askers) == 2 if mode == "multi_processing" else len(threads) == 2
    assert [lane.model for lane in lanes_of(trace)] == [model.model for model in trace.models]


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed", reason='needs "apache-beam[dask]"')
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        silence_logs=50,
    ) as found:
        yield found
        with contextlib.suppress(ValueError):
            while True:  # Beam's runner leaves its clients open
                distributed.default_client().close()


@pytest.fixture
def dask(cluster):
    """The runner and the options of a pipeline on the cluster, in six partitions."""
    from apache_beam.runners.dask.dask_runner import DaskRunner

    arguments = [f"--dask_client_address={cluster.scheduler_address}", "--dask_npartitions=6"]
    return DaskRunner, PipelineOptions(arguments)


def in_workers(cluster, function) -> list:
    """What `function` returns in each of the worker processes."""
    from distributed import Client

    with Client(cluster.scheduler_address) as client:
        return list(client.run(function).values())


def worker_pids(cluster) -> set[int]:
    return set(in_workers(cluster, os.getpid))


def test_models_of_a_dask_cluster(cluster, dask, tmp_path):
    make, options = dask
    plain = run(make(), keyed(COHORTS, 2, handler=AnsweringModels), options, tmp_path / "plain")
    runner = WatchRunner(make(), log=tmp_path / "log")
    handler = keyed(COHORTS, 2, handler=AnsweringModels)
    with pytest.warns(WatchWarning, match="drops what a step emits when its bundle ends"):
        assert run(runner, handler, options, tmp_path / "watched") == plain
    assert 0 < len(plain) < len(PAIRS), "Beam has mended its DaskRunner: take the warning away"
    trace = runner.trace
    assert trace.state == "DONE"
    assert trace.notes == [NO_COUNTS]
    assert trace.summary().hint == 2
    assert trace.summary().loads >= 3
    askers = {event.pid for event in trace.of_kind("use_begin")}
    [holder] = {r.process.pid for r in trace.residences}  # Beam keeps all of a machine in one
    assert len(askers) >= 1
    assert askers | {holder} <= worker_pids(cluster)
    assert {event.pid for event in trace.of_kind("memory")} == askers | {holder}


def test_each_dask_worker_holds_a_model_that_is_not_shared(cluster, dask, tmp_path):
    make, options = dask
    runner = WatchRunner(make(), log=tmp_path / "log")
    with beam.Pipeline(runner, options=options) as pipeline:
        _ = pipeline | beam.Create(range(600)) | "Score" >> RunInference(Waits())
    trace = runner.trace
    assert {r.process.pid for r in trace.residences} == worker_pids(cluster)
    assert [lane.label for lane in lanes_of(trace)] == ["worker 1 · Score", "worker 2 · Score"]
    assert all(r.process == use.process for r in trace.residences for use in r.uses)


@pytest.mark.parametrize("kept", [True, False])
def test_dask_workers_stop_sampling_when_the_run_has_ended(cluster, dask, tmp_path, kept):
    make, options = dask
    runner = WatchRunner(make(), log=tmp_path / "log" if kept else None)
    with beam.Pipeline(runner, options=options) as pipeline:
        _ = pipeline | beam.Create(range(600)) | "Score" >> RunInference(Waits())
    assert {event.pid for event in runner.trace.of_kind("memory")} == worker_pids(cluster)
    wait_for(lambda: not any(in_workers(cluster, watchers)))


class Waits(NamedModels):
    """Slow enough for both workers to get a part."""

    def load_model(self):
        time.sleep(0.3)
        return super().load_model()


def test_dask_workers_with_a_remote_log(cluster, dask, tmp_path):
    """They live on after the run, and write the rest of their segments when it has ended."""
    make, options = dask
    runner = WatchRunner(make(), log=remote.uri(tmp_path / "log"))
    handler = keyed(COHORTS, 2, handler=AnsweringModelsAfar)
    written = run(runner, handler, options, tmp_path / "out")
    trace = runner.trace
    assert trace.notes == [NO_COUNTS]
    assert trace.summary().elements >= len(written) > 0
    assert {event.pid for event in trace.of_kind("close")} >= {
        event.pid for event in trace.of_kind("use_begin")
    }
    assert Trace.load(remote.uri(tmp_path / "log")).summary() == trace.summary()


# Machines

SECOND = 10**9
NOON = 1_800_000_000 * SECOND


def write_log(folder, host, pid, booted, story):
    """The log of a process on a machine whose monotonic clock was 0 at `booted`, before noon."""
    lines = [("process", 0.0, {"wall_ns": NOON}), *story]
    with (folder / f"{host}-{pid}.jsonl").open("w") as file:
        for kind, second, fields in lines:
            t_ns = int((booted + second) * SECOND)
            base = {"v": 1, "run": "r", "host": host, "pid": pid, "tid": pid}
            file.write(json.dumps({**base, "t_ns": t_ns, "event": kind, **fields}) + "\n")


def one_load(model, begin):
    of = {"step": "Score", "model": model, "generation": 1}
    return [
        ("load_begin", begin, {**of, "rss": 10**8}),
        ("load_end", begin + 1, {**of, "bytes": 5}),
        ("use_begin", begin + 1, {**of, "n": 1}),
        ("use_end", begin + 2, of),
    ]


@pytest.fixture
def two_machines(tmp_path):
    """One has run for 100 days, the other for a second; each has two worker processes."""
    cards = [{"step": "Score", "model": model, "hint": 1} for model in ("a", "b")]
    head = [("run", 0.5, {"info": {"models": cards}})]
    write_log(tmp_path, "old", 7, 8_640_000, [*head, *one_load("a", 1), ("end", 9, {"info": {}})])
    write_log(tmp_path, "old", 8, 8_640_000, one_load("b", 2))
    write_log(tmp_path, "new", 7, 1, one_load("a", 3))
    write_log(tmp_path, "new", 9, 1, one_load("b", 4))
    return Trace.load(tmp_path)


def test_clocks_of_two_machines_are_aligned(two_machines):
    trace = two_machines
    begun = {r.process: (r.load_begin_ns - NOON) / SECOND for r in trace.residences}
    assert begun == {
        Process("old", 7): 1,
        Process("old", 8): 2,
        Process("new", 7): 3,
        Process("new", 9): 4,
    }
    assert trace.summary().wall_seconds == pytest.approx(8.5)
    assert trace.summary().most_resident == 1  # per process


def test_there_is_a_lane_for_each_model_of_each_process_of_each_machine(two_machines):
    labels = [lane.label for lane in lanes_of(two_machines)]
    assert labels == ["old 1 · a", "old 2 · b", "new 1 · a", "new 2 · b"]
    assert repr(two_machines.timeline())


def test_clocks_stay_aligned_when_a_trace_is_saved(two_machines, tmp_path):
    loaded = Trace.load(two_machines.save(tmp_path / "trace"))
    assert loaded.events == two_machines.events
