"""A running pipeline becomes a trace."""

from mmlab.watching.handler import watch
from mmlab.watching.runner import WatchRunner, WatchWarning

__all__ = ["WatchRunner", "WatchWarning", "watch"]
