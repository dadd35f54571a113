"""Care with Beam: private names that may be gone, callbacks that must not disturb it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apache_beam as beam

from mmlab._faults import survived

READ_IN = "2.77"


class BeamChangedError(RuntimeError):
    """A private name of Beam that mmlab relies on is not there any more."""

    def __init__(self, name: str, purpose: str):
        super().__init__(
            f"apache-beam {beam.__version__} has no {name}, which mmlab needs to {purpose}. "
            f"Install apache-beam {READ_IN}, or a newer mmlab."
        )


def private(owner: Any, name: str, purpose: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        label = getattr(owner, "__name__", type(owner).__name__)
        raise BeamChangedError(f"{label}.{name}", purpose) from None


def notify(callback: Callable[..., None], *arguments: Any) -> None:
    # What goes wrong in a callback of ours must not reach the manager.
    with survived("note what Beam's model manager does"):
        callback(*arguments)
