"""Runs the pipeline of an answer, watched, and keeps what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import PCollection

from mmlab.beam.internals import root_transform
from mmlab.lessons.errors import without_logging
from mmlab.lessons.exercises.exercise import UntouchedError, WrongError
from mmlab.trace import Trace
from mmlab.watching import WatchRunner

_kept: dict[int, dict[str, list[Any]]] = {}


@dataclass(frozen=True)
class Ran:
    """What the pipeline of an answer did.

    Attributes:
      outputs: name to elements, in the order in which they came; "" is the name where `build`
        returned one PCollection.
      trace: of its run.
    """

    outputs: dict[str, list[Any]]
    trace: Trace

    @property
    def output(self) -> list[Any]:
        """The elements of the one PCollection that `build` returned."""
        if list(self.outputs) != [""]:
            raise WrongError(f"build returned {', '.join(self.outputs)}: return one PCollection.")
        return self.outputs[""]


def run(build: Callable[..., Any], *args: Any, options: PipelineOptions | None = None) -> Ran:
    """Run what `build(pipeline, *args)` makes in this process.

    Args:
      build: adds its steps and returns a PCollection, or a dict or tuple of several (a tuple's
        outputs are named "0", "1", …).
      args: for `build`, after the pipeline.
      options: of the pipeline.

    Raises:
      UntouchedError: `build` added no step.
      WrongError: it returned something else.
    """
    pipeline = beam.Pipeline(WatchRunner(live=False), options=options)
    returned = build(pipeline, *args)
    if not root_transform(pipeline).parts:
        raise UntouchedError
    collections = _named(returned)
    kept = _kept.setdefault(id(pipeline), {name: [] for name in collections})
    try:
        for name, collection in collections.items():
            _ = collection | f"Keep {name or 'output'}" >> beam.Map(_keep, id(pipeline), name)
        with without_logging():
            trace = pipeline.run().trace
    finally:
        del _kept[id(pipeline)]
    return Ran(kept, trace)


def _named(returned: Any) -> dict[str, PCollection]:
    if isinstance(returned, PCollection):
        return {"": returned}
    if isinstance(returned, tuple | list):
        returned = {str(i): value for i, value in enumerate(returned)}
    if isinstance(returned, dict) and returned:
        others = [name for name, value in returned.items() if not isinstance(value, PCollection)]
        if not others:
            return {str(name): value for name, value in returned.items()}
    raise WrongError(
        f"build returned {type(returned).__name__}: let it return the PCollection that it ends in."
    )


def _keep(element: Any, run_id: int, name: str) -> None:
    # Workers are threads of this process: the runner is the local one.
    _kept[run_id][name].append(element)
