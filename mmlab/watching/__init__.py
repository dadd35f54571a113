"""A running pipeline becomes a trace."""

from mmlab.watching.runner import WatchRunner
from mmlab.watching.warning import WatchWarning
from mmlab.worker.handler import watch

__all__ = ["WatchRunner", "WatchWarning", "watch"]
