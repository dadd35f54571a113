"""Checks of a model handler or a pipeline before it runs."""

from mmlab.checks.problem import Problem

__all__ = ["Problem"]
