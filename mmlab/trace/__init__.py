"""What happened, as data: events, logs, intervals, and the `Trace` over them."""

from mmlab.trace.trace import ModelCounts, Summary, Trace, TracedModel

__all__ = ["ModelCounts", "Summary", "Trace", "TracedModel"]
