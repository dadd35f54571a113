"""Count the elements in the PCollections of a finished run."""

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
    """Count the elements in each PCollection of a finished run.

    Args:
      pipeline: the pipeline object that was run, not a copy.
      result: the result of `pipeline.run()`.
    Returns:
      Number of elements by `collection_name`. PCollections that the runner optimised away (inside
      a combine) are missing; if the runner does not count, all are.
    """
    by_id: dict[str, int] = {}
    for info in _monitoring_infos(result):
        if info.urn == monitoring_infos.ELEMENT_COUNT_URN:
            collection = info.labels.get(monitoring_infos.PCOLLECTION_LABEL, "")
            # A PCollection between two stages is counted twice: on writing and on reading.
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
    """Return all monitoring infos of a finished run, and keep them readable for the author.

    For a stage that ran in several bundles, `FnApiRunner` keeps them as an iterator, which would
    then be exhausted for the author's `metrics()`. Portable runners have them in the job service.
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
    """Return the monitoring infos of committed attempts; of all attempts, if there are no others.

    Raises:
      grpc.RpcError: the service does not answer.
    """
    request = beam_job_api_pb2.GetJobMetricsRequest(job_id=job)
    metrics = service.GetJobMetrics(request, timeout=_SERVICE_SECONDS).metrics
    counted: Iterable[Any] = metrics.committed or metrics.attempted
    return counted


_SERVICE_SECONDS = 20
"""Timeout of a request to the job service after the end of a job."""


def _collections(applied: AppliedPTransform) -> Iterator[PCollection[Any]]:
    yield from (v for v in applied.outputs.values() if isinstance(v, PCollection))
    for part in applied.parts:
        yield from _collections(part)
