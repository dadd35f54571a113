"""Experiments: each in a process of its own, under several hints, with a limit of memory."""

from mmlab.lab.compare import Comparison, compare_hints
from mmlab.lab.grouping import GroupByModel
from mmlab.lab.process import FreshRun, FreshRunError, RunOutcome, run_fresh

__all__ = [
    "Comparison",
    "FreshRun",
    "FreshRunError",
    "GroupByModel",
    "RunOutcome",
    "compare_hints",
    "run_fresh",
]
