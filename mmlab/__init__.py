"""See what an Apache Beam pipeline with several ML models is, and what it does to memory."""

from mmlab._quiet import without_import_noise

with without_import_noise():
    from mmlab.diagrams import Diagram, diagram
    from mmlab.lab import GroupByModel, compare_hints, explore
    from mmlab.lab.preflight import preflight
    from mmlab.prediction import predict
    from mmlab.problems import Problem
    from mmlab.trace import Trace
    from mmlab.watching import WatchRunner, WatchWarning, watch

__all__ = [
    "Diagram",
    "GroupByModel",
    "Problem",
    "Trace",
    "WatchRunner",
    "WatchWarning",
    "compare_hints",
    "diagram",
    "explore",
    "predict",
    "preflight",
    "watch",
]
