"""Experiments: each in a process of its own, under several hints, with a limit of memory."""

from mmlab.lab.compare import Comparison, compare_hints
from mmlab.lab.explorer import Explorer, explore
from mmlab.lab.grouping import GroupByModel
from mmlab.lab.outcome import FreshRunError, RunOutcome
from mmlab.lab.process import FreshRun, run_fresh
from mmlab.lab.setting import Setting

__all__ = [
    "Comparison",
    "Explorer",
    "FreshRun",
    "FreshRunError",
    "GroupByModel",
    "RunOutcome",
    "Setting",
    "compare_hints",
    "explore",
    "run_fresh",
]
