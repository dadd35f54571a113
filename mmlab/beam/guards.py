"""Guards around Beam: missing private names, and callbacks that must not raise into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apache_beam as beam

from mmlab._faults import survived

_READ_IN = "2.77"


class BeamChangedError(RuntimeError):
    """A private name of Beam that mmlab uses does not exist in this version."""

    def __init__(self, name: str, purpose: str):
        super().__init__(
            f"apache-beam {beam.__version__} has no {name}, which mmlab needs to {purpose}. "
            f"Install apache-beam {_READ_IN}, or a newer mmlab."
        )


def private(owner: Any, name: str, purpose: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        label = getattr(owner, "__name__", type(owner).__name__)
        raise BeamChangedError(f"{label}.{name}", purpose) from None


def notify(callback: Callable[..., None], *arguments: Any) -> None:
    # Errors in a callback of mmlab must not reach the manager.
    with survived("note what Beam's model manager does"):
        callback(*arguments)
