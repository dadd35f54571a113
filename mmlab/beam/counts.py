"""How many elements crossed the PCollections of a finished run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from apache_beam.metrics import monitoring_infos
from apache_beam.pipeline import AppliedPTransform, Pipeline
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.pvalue import PCollection
from apache_beam.runners.runner import PipelineResult

from mmlab.beam.pipelines import collection_name, root_transform


def element_counts(pipeline: Pipeline, result: PipelineResult) -> dict[str, int]:
    """How many elements crossed each PCollection of a finished run.

    Args:
      pipeline: the pipeline object that was run, not a copy of it.
      result: what `pipeline.run()` returned.

    Returns:
      `collection_name` to number of elements. PCollections that the runner optimised away (the
      inside of a combine) are missing; so are all of them when the runner does not count.
    """
    by_id: dict[str, int] = {}
    for info in _monitoring_infos(result):
        if info.urn == monitoring_infos.ELEMENT_COUNT_URN:
            collection = info.labels.get(monitoring_infos.PCOLLECTION_LABEL, "")
            # A PCollection between two stages is counted where it is written and where it is read.
            counted = monitoring_infos.extract_counter_value(info)
            by_id[collection] = max(counted, by_id.get(collection, 0))
    if not by_id:
        return {}
    ids = pipeline.component_id_map
    named = {
        collection_name(value): by_id.get(ids.get_or_assign(value, PCollection))
        for value in _collections(root_transform(pipeline))
    }
    return {name: count for name, count in named.items() if count is not None}


def _monitoring_infos(result: PipelineResult) -> Iterable[Any]:
    """All monitoring infos of a finished run, which can be read again afterwards.

    `FnApiRunner` keeps those of a stage that ran in several bundles as an iterator, which can be
    read once: by us, or by the author's `metrics()`. Portable runners leave them to the job
    service.
    """
    while isinstance(
        inner := getattr(result, "__dict__", {}).get("_underlying_result"), PipelineResult
    ):
        result = inner
    by_stage = getattr(result, "_monitoring_infos_by_stage", None)
    if isinstance(by_stage, dict):
        for stage, infos in by_stage.items():
            if isinstance(infos, Iterator):
                by_stage[stage] = list(infos)
    read = getattr(result, "monitoring_infos", None)
    if callable(read):
        told: Iterable[Any] = read()
        return told
    service, job = getattr(result, "_job_service", None), getattr(result, "_job_id", None)
    return () if service is None or job is None else _infos_of_job(service, job)


def _infos_of_job(service: Any, job: str) -> Iterable[Any]:
    """Monitoring infos of the attempts that counted; of all attempts, where a runner has no others.

    Raises:
      grpc.RpcError: the service is gone.
    """
    request = beam_job_api_pb2.GetJobMetricsRequest(job_id=job)
    metrics = service.GetJobMetrics(request, timeout=SERVICE_SECONDS).metrics
    counted: Iterable[Any] = metrics.committed or metrics.attempted
    return counted


SERVICE_SECONDS = 20
"""For which a job service is waited for, once the job has ended."""


def _collections(applied: AppliedPTransform) -> Iterator[PCollection[Any]]:
    yield from (v for v in applied.outputs.values() if isinstance(v, PCollection))
    for part in applied.parts:
        yield from _collections(part)
