"""Run the pipeline of an answer, watched, and keep its outputs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import torch
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import PCollection

from mmlab.beam.pipelines import root_transform
from mmlab.lessons.errors import without_logging
from mmlab.lessons.exercises.exercise import (
    UntouchedError,
    WrongError,
    first_line,
    require_function,
)
from mmlab.trace import Trace
from mmlab.watching import WatchRunner

_kept: dict[int, dict[str, list[Any]]] = {}


@dataclass(frozen=True)
class Ran:
    """The run of an answer's pipeline.

    Attributes:
      outputs: name to elements, in order of arrival; the name is "" if `build` returned one
        PCollection.
      trace: trace of the run.
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
    """Build a pipeline with `build(pipeline, *args)` and run it in this process.

    Args:
      build: adds steps and returns a PCollection, or a dict or tuple of several (a tuple's outputs
        are named "0", "1", …).
      args: further arguments of `build`.
      options: options of the pipeline.

    Raises:
      UntouchedError: `build` added no step.
      WrongError: `build` ran the pipeline, used another one, or returned something else.
    """
    require_function(build, "build")
    runner = WatchRunner("FnApiRunner", live=False)
    pipeline = beam.Pipeline(runner, options=options)
    collections = _build(build, pipeline, runner, args)
    kept = _kept.setdefault(id(pipeline), {name: [] for name in collections})
    try:
        for name, collection in collections.items():
            _ = collection | f"Keep {name or 'output'}" >> beam.Map(_keep, id(pipeline), name)
        with without_logging():
            pipeline.run()
    finally:
        del _kept[id(pipeline)]
    return Ran(kept, runner.trace)


def _build(
    build: Callable[..., Any],
    pipeline: beam.Pipeline,
    runner: WatchRunner,
    args: tuple[Any, ...],
) -> dict[str, PCollection[Any]]:
    """Call `build` and return the collections that it returns, by name."""
    with _recorded() as seen:
        try:
            returned = build(pipeline, *map(_copied, args))
        except BaseException as error:
            if _was_run(pipeline, runner, seen):
                raise WrongError(f"{_RAN} It stopped with {first_line(error)}") from error
            raise
    if _was_run(pipeline, runner, seen):
        raise WrongError(_RAN)
    if pipeline.runner is not runner:
        raise WrongError("build gave the pipeline another runner: leave pipeline.runner as it is.")
    _require_this_pipeline(pipeline, returned, seen)
    return _named(returned)


_RAN = (
    "build ran the pipeline that it was given (`with pipeline`, or `pipeline.run()`). Let it add "
    "steps only: the check runs them."
)


@dataclass(frozen=True)
class _Seen:
    """Pipelines that were created, and pipelines that were run."""

    made: list[beam.Pipeline]
    ran: list[beam.Pipeline]


def _was_run(pipeline: beam.Pipeline, runner: WatchRunner, seen: _Seen) -> bool:
    return pipeline in seen.ran or runner.has_run


@contextmanager
def _recorded() -> Iterator[_Seen]:
    """Record the pipelines that are created and run in the block, in any thread."""
    seen = _Seen([], [])
    make, run = beam.Pipeline.__init__, beam.Pipeline.run

    @functools.wraps(make)
    def made(self: beam.Pipeline, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        seen.made.append(self)

    @functools.wraps(run)
    def ran(self: beam.Pipeline, *args: Any, **kwargs: Any) -> Any:
        seen.ran.append(self)
        return run(self, *args, **kwargs)

    beam.Pipeline.__init__ = made  # type: ignore[method-assign]  # and put back below
    beam.Pipeline.run = ran  # type: ignore[method-assign]  # likewise
    try:
        yield seen
    finally:
        beam.Pipeline.__init__ = make  # type: ignore[method-assign]  # as it was
        beam.Pipeline.run = run  # type: ignore[method-assign]  # as it was


def _require_this_pipeline(pipeline: beam.Pipeline, returned: Any, seen: _Seen) -> None:
    """Raise if the steps were added to another pipeline or to none."""
    others = [c.pipeline for c in _collections(returned) if c.pipeline is not pipeline]
    untouched = not root_transform(pipeline).parts
    if not others and not untouched:
        return
    others += seen.made
    if others:
        whose = "made a beam.Pipeline of its own" if others[0] in seen.made else "used another one"
        and_ran = " and ran it" if any(other in seen.ran for other in others) else ""
        instead = "added no step to" if untouched else "returned no PCollection of"
        raise WrongError(
            f"build {whose}{and_ran}, and {instead} the pipeline that it was given. Begin with "
            "`pipeline | …`, and return what it ends in."
        )
    raise UntouchedError("build added no step to the pipeline that it was given.")


def _collections(returned: Any) -> list[PCollection[Any]]:
    if isinstance(returned, dict):
        returned = list(returned.values())
    values = returned if isinstance(returned, list | tuple) else [returned]
    return [value for value in values if isinstance(value, PCollection)]


def _copied(argument: Any) -> Any:
    """A copy for the answer, which may change it; the original is compared with the output."""
    if type(argument) in (list, tuple):
        return type(argument)(map(_copied, argument))
    return argument.clone() if isinstance(argument, torch.Tensor) else argument


def _named(returned: Any) -> dict[str, PCollection[Any]]:
    if isinstance(returned, PCollection):
        return {"": returned}
    if isinstance(returned, tuple | list):
        returned = {str(i): value for i, value in enumerate(returned)}
    if isinstance(returned, dict) and returned:
        others = [name for name, value in returned.items() if not isinstance(value, PCollection)]
        if not others:
            return {str(name): value for name, value in returned.items()}
    raise WrongError(
        f"build returned {_kind(returned)}: let it return the PCollection that it ends in."
    )


def _kind(returned: Any) -> str:
    return "nothing" if returned is None else type(returned).__name__


def _keep(element: Any, run_id: int, name: str) -> None:
    # The runner is local and its workers are threads of this process, so a global works.
    _kept[run_id][name].append(element)
