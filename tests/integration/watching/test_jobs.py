"""Jobs for clusters, built here: the handlers that travel in them are watched, and work alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.flink_runner import FlinkRunner
from apache_beam.runners.portability.local_job_service import LocalJobServicer
from apache_beam.runners.portability.portable_runner import PortableRunner

import mmlab
from mmlab import Trace, WatchRunner
from mmlab.watching import WatchWarning
from tests import remote, without_torch
from tests.handlers import keyed
from tests.remote import NamedModelsAfar

pytestmark = pytest.mark.runs

ROOT = Path(__file__).parents[3]
COHORTS = [["a"], ["b"]]
PAIRS = [("a", 1), ("b", 2), ("a", 3)]

WORKER = """
import sys

sys.modules["IPython"] = None  # to import it is an error
from apache_beam.internal import pickler
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.portability.common_urns import primitives

job = beam_runner_api_pb2.Pipeline.FromString(open(sys.argv[1], "rb").read())
for transform in job.components.transforms.values():
    if transform.spec.urn != primitives.PAR_DO.urn:
        continue
    payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
    dofn = pickler.loads(payload.do_fn.payload)[0]
    if hasattr(dofn, "_model_handler"):
        dofn.setup()
        results = dofn.process([("a", 1), ("b", 2), ("a", 3)], None, None)
        print(sorted((key, result.inference) for key, result in results))
"""
"""What a worker of another machine does: it has the job and the packages, and no notebook."""


def answers_of_a_worker(job: beam_runner_api_pb2.Pipeline, tmp_path) -> str:
    file = tmp_path / "job.pb"
    file.write_bytes(job.SerializeToString())
    own = tmp_path / "temporary"  # Beam shares models through the temporary folder of a machine
    own.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=without_torch.environment(TMPDIR=str(own)),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(pipeline, handler):
    _ = pipeline | beam.Create(PAIRS) | "Score" >> RunInference(handler)


def handler():
    return keyed(COHORTS, 1, handler=NamedModelsAfar)


def check_what_a_worker_writes(job, log: str, tmp_path) -> None:
    answers = answers_of_a_worker(job, tmp_path)
    assert answers == "[('a', 'm0'), ('a', 'm0'), ('b', 'm1')]\n"
    trace = Trace.load(log)
    uses = trace.of_kind("use_begin")
    assert [(use.model, use.n) for use in uses] == [
        ("NamedModelsAfar a", 2),
        ("NamedModelsAfar b", 1),
    ]
    assert [event.limit for event in trace.of_kind("limit")] == [1]
    assert [event.model for event in trace.of_kind("evict")] == ["NamedModelsAfar a"]


@pytest.mark.parametrize("place", [str, remote.uri], ids=["shared folder", "remote"])
def test_a_handler_that_is_watched_on_its_own_travels_in_a_job(place, tmp_path):
    log = place(tmp_path / "log")
    pipeline = beam.Pipeline()
    build(pipeline, mmlab.watch(handler(), log, step="Score"))
    check_what_a_worker_writes(pipeline.to_runner_api(), log, tmp_path)


class Catching(LocalJobServicer):
    """Beam's own job service, which keeps what it was sent: Flink's speaks the same protocol."""

    def create_beam_job(self, preparation_id, job_name, pipeline, options):
        self.job = beam_runner_api_pb2.Pipeline.FromString(pipeline.SerializeToString())
        return super().create_beam_job(preparation_id, job_name, pipeline, options)


@pytest.fixture
def service(tmp_path):
    servicer = Catching(str(tmp_path / "staging"))
    port = servicer.start_grpc_server()
    yield (
        servicer,
        PipelineOptions(
            [
                f"--job_endpoint=localhost:{port}",
                "--environment_type=LOOPBACK",
                "--flink_version=1.20",
            ]
        ),
    )
    servicer.stop()


@pytest.mark.parametrize("runner", [PortableRunner, FlinkRunner])
def test_a_job_for_flink_is_sent_and_watched(runner, service, tmp_path):
    servicer, options = service
    watching = WatchRunner(runner(), log=tmp_path / "log")
    with beam.Pipeline(watching, options=options) as pipeline:
        build(pipeline, handler())
    trace = watching.trace
    assert trace.state == "DONE"
    assert trace.summary().elements == len(PAIRS)
    assert trace.summary().hint == 1
    answers = answers_of_a_worker(servicer.job, tmp_path)
    assert answers == "[('a', 'm0'), ('a', 'm0'), ('b', 'm1')]\n"
    elsewhere = {event.pid for event in Trace.load(tmp_path / "log").of_kind("use_begin")}
    assert len(elsewhere - {event.pid for event in trace.events}) == 1


@pytest.fixture
def dataflow(tmp_path):
    pytest.importorskip(
        "apache_beam.runners.dataflow.internal.apiclient",
        reason='needs "apache-beam[gcp]"',
        exc_type=ImportError,
    )
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

    arguments = [
        "--job_name=watched",
        "--project=some-project",
        "--region=us-central1",
        f"--staging_location={tmp_path}",
        f"--temp_location={tmp_path}",
        "--sdk_location=container",
        "--dry_run=True",
        "--dataflow_endpoint=http://localhost:1",  # else Beam asks Google for a bucket
        "--no_auth",
    ]
    return DataflowRunner, arguments


def test_a_job_for_dataflow_is_built(dataflow, tmp_path):
    make, arguments = dataflow
    runner = WatchRunner(make(), log=remote.uri(tmp_path / "log"))
    pipeline = beam.Pipeline(runner, options=PipelineOptions(arguments))
    build(pipeline, handler())
    pipeline.run()
    (environment,) = runner.proto_pipeline.components.environments.values()
    assert environment.urn == "beam:env:docker:v1"
    check_what_a_worker_writes(runner.proto_pipeline, remote.uri(tmp_path / "log"), tmp_path)


def flags_of_the_page(places):
    """The options that docs/dataflow.md gives, with folders of this machine."""
    page = (ROOT / "docs/dataflow.md").read_text("utf-8")
    flags = re.findall(r"^  (--\S+)", page, re.MULTILINE)
    assert len(flags) >= 7
    for known, place in places.items():
        flags = [flag.replace(known, place) for flag in flags]
    return flags


def test_the_options_of_the_page_make_a_job_that_installs_the_workers(dataflow, tmp_path):
    _, offline = dataflow
    (wheel := tmp_path / "mmlab-0.1.0-py3-none-any.whl").write_bytes(b"as built by `make wheel`")
    places = {"gs://YOUR_BUCKET": str(tmp_path), "dist/mmlab-0.1.0-py3-none-any.whl": str(wheel)}
    flags = [flag for flag in flags_of_the_page(places) if flag != "--save_main_session"]
    flags += [flag for flag in offline if flag.partition("=")[0] in OFFLINE]
    runner = WatchRunner(log=remote.uri(tmp_path / "log"))
    pipeline = beam.Pipeline(runner, options=PipelineOptions(flags))
    build(pipeline, handler())
    pipeline.run()
    (environment,) = runner.proto_pipeline.components.environments.values()
    installed = [
        beam_runner_api_pb2.ArtifactFilePayload.FromString(dependency.type_payload).path
        for dependency in environment.dependencies
    ]
    assert any(path.endswith(wheel.name) for path in installed)
    check_what_a_worker_writes(runner.proto_pipeline, remote.uri(tmp_path / "log"), tmp_path)


OFFLINE = {"--sdk_location", "--dry_run", "--dataflow_endpoint", "--no_auth"}
"""Options that keep Beam from asking Google."""


def test_a_template_is_not_silently_unwatched(dataflow, tmp_path):
    make, arguments = dataflow
    arguments.append(f"--template_location={tmp_path / 'template.json'}")
    pipeline = beam.Pipeline(WatchRunner(make()), options=PipelineOptions(arguments))
    build(pipeline, handler())
    with pytest.warns(WatchWarning, match="A template runs later"):
        pipeline.run()
