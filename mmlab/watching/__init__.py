"""Record a running pipeline as a trace. Public names are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmlab import _faults

if TYPE_CHECKING:
    from mmlab.watching.runner import WatchRunner
    from mmlab.watching.warning import WatchWarning
    from mmlab.worker.handler import watch

_MODULE_OF = {
    "WatchRunner": "mmlab.watching.runner",
    "WatchWarning": "mmlab.watching.warning",
    "watch": "mmlab.worker.handler",
}

__all__ = ["WatchRunner", "WatchWarning", "watch"]

_faults.warn()  # workers import mmlab.worker, never this package


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
