"""Beam's own counters after a run."""

from __future__ import annotations

from apache_beam.metrics.metric import MetricsFilter
from apache_beam.runners.runner import PipelineResult


def counters(result: PipelineResult, namespace: str) -> dict[str, int]:
    """Beam's counters of one namespace, by name.

    Args:
      result: result of a pipeline that has ended.
      namespace: the first argument of `Metrics.counter`; `RunInference` uses the metrics namespace
        of its model handler.
    """
    found = result.metrics().query(MetricsFilter().with_namespace(namespace))["counters"]
    return dict(sorted((one.key.metric.name, one.result) for one in found))
