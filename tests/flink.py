"""`make flink`: jobs of a pipeline with four models on Flink, where Beam's job server can be had.

It starts an embedded Flink from the job server's jar: `MMLAB_FLINK_JAR`, or what Beam has in its
cache. Workers are threads of this process, in one parallel copy of the step and in four.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

JAR = "MMLAB_FLINK_JAR"
CACHE = Path.home() / ".apache_beam/cache/jars"
ELEMENTS = 1000
MODELS = 4
HINT = 2


def job_server() -> Path | None:
    """The jar of Beam's job server for Flink; None where there is none."""
    places = [Path(os.environ[JAR])] if JAR in os.environ else []
    places += sorted(CACHE.glob("beam-runners-flink-*-job-server-*.jar"))
    return next((place for place in places if place.is_file()), None)


def missing() -> str | None:
    """What a job on Flink needs and this machine lacks, in one line; None where nothing lacks."""
    lacks = []
    if shutil.which("java") is None:
        lacks.append("Java (Debian: apt install default-jre-headless)")
    if job_server() is None:
        lacks.append(
            f"the jar of Beam's job server for Flink (name it in {JAR}, or run a job with "
            "FlinkRunner() once where Beam can download it)"
        )
    return f"make flink needs {' and '.join(lacks)}." if lacks else None


def main() -> int:
    """Run the jobs; print a line for each, and return how many were not as they must be."""
    lacks = missing()
    if lacks is not None:
        print(lacks)
        return 1
    return sum(not _is_right(parallelism) for parallelism in (1, MODELS))


def _is_right(parallelism: int) -> bool:
    import apache_beam as beam
    from apache_beam.ml.inference.base import RunInference
    from apache_beam.options.pipeline_options import PipelineOptions

    from mmlab import WatchRunner
    from tests.handlers import keyed

    keys = [f"K{i}" for i in range(MODELS)]
    flags: Sequence[str] = [
        f"--flink_job_server_jar={job_server()}",
        f"--parallelism={parallelism}",
        "--environment_type=LOOPBACK",
    ]
    runner = WatchRunner("FlinkRunner", live=False)
    with beam.Pipeline(runner, options=PipelineOptions(flags)) as pipeline:
        _ = (
            pipeline
            | beam.Create([(keys[i % MODELS], i) for i in range(ELEMENTS)])
            | beam.Reshuffle()
            | "Score" >> RunInference(keyed([[key] for key in keys], HINT))
        )
    summary = runner.trace.summary()
    limit = HINT * parallelism
    # Each parallel copy of the step adds its hint; from four on, all models stay.
    right = summary.elements == ELEMENTS and summary.limit == limit
    right = right and (limit < MODELS or (summary.loads, summary.evictions) == (MODELS, 0))
    print(
        f"parallelism {parallelism}: {summary.elements} of {ELEMENTS} elements, {summary.loads} "
        f"loads, {summary.evictions} evictions, limit {summary.limit}: "
        f"{'as it must be' if right else 'not as it must be'}"
    )
    return right


if __name__ == "__main__":
    sys.exit(main())
