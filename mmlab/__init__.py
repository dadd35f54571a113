"""See what an Apache Beam pipeline with several ML models is, and what it does to memory."""

from mmlab._quiet import without_import_noise

with without_import_noise():
    from mmlab.checks import Problem
    from mmlab.checks.preflight import preflight
    from mmlab.compare import compare_hints
    from mmlab.diagrams import Diagram, diagram
    from mmlab.explorer.explorer import explore
    from mmlab.fresh.process import run_fresh
    from mmlab.prediction import predict
    from mmlab.trace import Trace
    from mmlab.transforms import GroupByModel
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
    "run_fresh",
    "watch",
]
