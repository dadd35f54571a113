"""What is wrong with a model handler, found without loading a model or running anything."""

from mmlab.checks.handler import (
    hint_problem,
    large_hint,
    leaves_of,
    mapping_problems,
    missing_weights,
    odd_keys,
    step_problems,
)
from mmlab.checks.memory import Held, held_by, memory_problem, thread_problem
from mmlab.checks.problem import Problem
from mmlab.checks.steps import (
    label_problems,
    missing_library_problems,
    refresh_problems,
    repeated_weights,
)

__all__ = [
    "Held",
    "Problem",
    "held_by",
    "hint_problem",
    "label_problems",
    "large_hint",
    "leaves_of",
    "mapping_problems",
    "memory_problem",
    "missing_library_problems",
    "missing_weights",
    "odd_keys",
    "refresh_problems",
    "repeated_weights",
    "step_problems",
    "thread_problem",
]
