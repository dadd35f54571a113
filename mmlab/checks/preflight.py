"""`preflight`: find problems of a handler or a pipeline before it runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping, ModelHandler
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from mmlab._arguments import short
from mmlab.beam.handlers import cohort_of_key, keyed_handler
from mmlab.beam.pipelines import InferenceStep, author_label, inference_steps
from mmlab.beam.runners import runs_here
from mmlab.checks.data import data_problems
from mmlab.checks.handler import mapping_problems
from mmlab.checks.problem import Problem
from mmlab.checks.steps import worth_a_warning


def preflight(subject: Any, data: Any = None) -> list[Problem]:
    """Find problems of a model handler or a pipeline without running it.

    No model is loaded and no file is unpickled: weights are checked by their first bytes and their
    size. Memory is checked against this machine and its container, and only if the pipeline runs
    here.

    Args:
      subject: a model handler; a list of `KeyModelMapping`; a pipeline; or a function
        `build(pipeline)` or `build(pipeline, hint)` that adds steps to a pipeline. A list also
        shows repeated keys, and a function errors while the pipeline is built.
      data: the input of the keyed steps: `(key, example)` pairs, or keys alone, as a list or
        another iterable, a NumPy array, a pandas or Arrow column, a table with the column `key`, or
        the path of a Parquet or CSV file. Up to a million elements are checked, and consumed if
        `data` is a generator.

    Returns:
      The problems, fatal ones first; empty if there are none.

    Raises:
      TypeError: `subject` is none of these, or `data` has an element that cannot be a key.
      ValueError, FileNotFoundError: `data` cannot be read.
    """
    read = _read(subject)
    found = read.problems
    found += worth_a_warning(read.steps, read.options, runs_here=read.runs_here, harmless_too=True)
    keyed = [
        (step.label, list(cohort_of_key(handler)))
        for step in read.steps
        if (handler := keyed_handler(step.handler)) is not None
    ]
    if data is not None and keyed:
        found += data_problems(data, keyed)
    return sorted(found, key=lambda problem: not problem.fatal)


class _AloneStep(InferenceStep):
    """A step for a handler outside a pipeline, so no argument of a step replaces its model path."""

    @property
    def loads_at_run_time(self) -> bool:
        return False


@dataclass(frozen=True)
class _Read:
    """The steps to check, and the problems found while reading them."""

    steps: Sequence[InferenceStep] = ()
    problems: list[Problem] = field(default_factory=list)
    options: PipelineOptions | None = None
    runs_here: bool = True


def _read(subject: Any) -> _Read:
    if isinstance(subject, beam.Pipeline):
        return _of_pipeline(subject)
    if isinstance(subject, ModelHandler):
        return _of_handler(subject)
    if isinstance(subject, list | tuple) and subject:
        if all(isinstance(entry, KeyModelMapping) for entry in subject):
            found = mapping_problems(subject, "RunInference")
            return _Read((), found) if found else _of_handler(KeyedModelHandler(list(subject)))
    elif callable(subject) and not isinstance(subject, type):
        return _of_build(subject)
    raise TypeError(
        "subject must be a ModelHandler, a list of KeyModelMapping, a beam.Pipeline or a function "
        f"build(pipeline), got {short(subject)}"
    )


def _of_handler(handler: ModelHandler[Any, Any, Any]) -> _Read:
    dofn = beam.DoFn()
    return _Read([_AloneStep("RunInference", "RunInference", handler, dofn)])


def _of_pipeline(pipeline: beam.Pipeline) -> _Read:
    here = runs_here(pipeline.runner, pipeline.options)
    return _Read(inference_steps(pipeline), [], pipeline.options, here)


def _of_build(build: Callable[..., Any]) -> _Read:
    pipeline = beam.Pipeline(FnApiRunner())
    try:
        build(pipeline, *_hint_for(build))
    except Exception as error:
        return _Read((), [_while_building(error)])
    return _of_pipeline(pipeline)


def _hint_for(build: Callable[..., Any]) -> tuple[None, ...]:
    """The second argument of a function `build(pipeline, hint)`, as in `compare_hints`."""
    code = getattr(build, "__code__", None)
    if code is None:
        return ()
    required = code.co_argcount - len(getattr(build, "__defaults__", None) or ())
    return (None,) if required == 2 else ()


def _while_building(error: Exception) -> Problem:
    again = re.match(r'A transform with label "(.*?)" already exists', str(error))
    if again:
        label = author_label(again[1])
        return Problem(
            f"two steps have the label {label!r}.",
            label,
            f"Give each a label of its own, such as 'Model A' >> {label.split('(')[0]}(…).",
            fatal=True,
        )
    return Problem(
        f"the pipeline cannot be built: {type(error).__name__}: {error}",
        "build",
        "The traceback of build(beam.Pipeline()) shows the line.",
        fatal=True,
    )
