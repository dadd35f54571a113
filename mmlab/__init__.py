"""See what an Apache Beam pipeline with several ML models is, and what it does to memory.

Public names are imported on first use, so that a worker that unpickles a watched handler imports
only what it needs to record, and no plotting or tables.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mmlab._extras import extra_for
from mmlab._quiet import hold_back_remarks

if TYPE_CHECKING:
    from mmlab import lessons, prediction
    from mmlab.checks import Problem
    from mmlab.checks.preflight import preflight
    from mmlab.compare.hints import compare_hints
    from mmlab.compare.traces import compare_traces
    from mmlab.diagrams import Diagram, diagram
    from mmlab.explorer.explorer import explore
    from mmlab.fit import fit_hint
    from mmlab.fresh.process import run_fresh
    from mmlab.machine import doctor
    from mmlab.prediction import predict
    from mmlab.trace import Trace
    from mmlab.transforms import GroupByModel
    from mmlab.watching import WatchRunner, WatchWarning, watch
    from mmlab.watching.follow import follow
    from mmlab.watching.programs import watched_pipelines

_MODULE_OF = {
    "Diagram": "mmlab.diagrams",
    "GroupByModel": "mmlab.transforms",
    "Problem": "mmlab.checks",
    "Trace": "mmlab.trace",
    "WatchRunner": "mmlab.watching",
    "WatchWarning": "mmlab.watching",
    "compare_hints": "mmlab.compare.hints",
    "compare_traces": "mmlab.compare.traces",
    "diagram": "mmlab.diagrams",
    "doctor": "mmlab.machine",
    "explore": "mmlab.explorer.explorer",
    "fit_hint": "mmlab.fit",
    "follow": "mmlab.watching.follow",
    "load_ipython_extension": "mmlab.magics",
    "unload_ipython_extension": "mmlab.magics",
    "predict": "mmlab.prediction",
    "preflight": "mmlab.checks.preflight",
    "run_fresh": "mmlab.fresh.process",
    "watch": "mmlab.watching",
    "watched_pipelines": "mmlab.watching.programs",
}
_PACKAGES = ("lessons", "prediction")
"""Packages with further public names, available after `import mmlab`."""

__all__ = [
    "Diagram",
    "GroupByModel",
    "Problem",
    "Trace",
    "WatchRunner",
    "WatchWarning",
    "compare_hints",
    "compare_traces",
    "diagram",
    "doctor",
    "explore",
    "fit_hint",
    "follow",
    "lessons",
    "predict",
    "prediction",
    "preflight",
    "run_fresh",
    "watch",
    "watched_pipelines",
]

hold_back_remarks()


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        with extra_for(f"{__name__}.{name}"):
            return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with extra_for(f"{__name__}.{name}"):
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
