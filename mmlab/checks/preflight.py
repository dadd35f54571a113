"""`preflight`: what is wrong with a handler or a pipeline, said before it runs."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pandas as pd
from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping, ModelHandler
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from mmlab._arguments import short
from mmlab.beam import internals
from mmlab.beam.cards import key_text
from mmlab.beam.internals import InferenceStep, inference_steps
from mmlab.checks import (
    Problem,
    held_by,
    label_problems,
    large_hint,
    mapping_problems,
    memory_problem,
    missing_library_problems,
    odd_keys,
    refresh_problems,
    repeated_weights,
    step_problems,
    thread_problem,
)
from mmlab.prediction.keys import read_keys

MOST_ELEMENTS = 1_000_000
"""Of `data`, how many elements are looked at."""
MOST_KEYS = 5
"""How many unknown keys get a sentence of their own."""


def preflight(subject: Any, data: Any = None) -> list[Problem]:
    """What is wrong with a model handler or a pipeline, found without running it.

    No model is loaded and no file is unpickled: weights are judged by their first bytes and their
    size. Memory is that of this machine and of the container around it, and is only looked at where
    the pipeline runs here.

    Args:
      subject: a model handler; a list of `KeyModelMapping`, whose repeated keys Beam would refuse;
        a pipeline; or a function `build(pipeline)` that adds steps to the pipeline that it is given
        (`build(pipeline, hint)` too), for what Beam refuses while a pipeline is built.
      data: what the keyed steps will get: `(key, example)` pairs, or keys alone, as a list or
        another iterable, a NumPy array, a pandas or Arrow column, a table with the column `key`, or
        the path of a Parquet or CSV file. Up to a million elements are looked at; a generator is
        used up so far.

    Returns:
      The problems, those first with which the run would surely fail; empty when there are none.

    Raises:
      TypeError: `subject` is none of these, or `data` holds nothing that could be keys.
      ValueError, FileNotFoundError: `data` cannot be read.
    """
    steps, found = _read(subject)
    for step in steps:
        found += _of_handler(step)
    found += missing_library_problems() if steps else ()
    found += _of_memory(steps)
    keyed = [step for step in steps if step.keyed is not None]
    if data is not None and keyed:
        seen = _keys_of(data, keyed)
        found += [problem for step in keyed for problem in _unknown_keys(step, seen)]
    return sorted(found, key=lambda problem: not problem.fatal)


@dataclass(frozen=True)
class _Step:
    """A step to look at; `here` tells whether its models will be on this machine."""

    label: str
    handler: ModelHandler
    options: PipelineOptions | None = None
    here: bool = True
    files_are_here: bool = True

    @property
    def keyed(self) -> KeyedModelHandler | None:
        return internals.keyed_handler(self.handler)


def _read(subject: Any) -> tuple[list[_Step], list[Problem]]:
    """The steps to look at, and what was found while reading them."""
    if isinstance(subject, beam.Pipeline):
        return _of_pipeline(subject)
    if isinstance(subject, ModelHandler):
        return [_Step("RunInference", subject)], []
    if isinstance(subject, list | tuple) and subject:
        if all(isinstance(entry, KeyModelMapping) for entry in subject):
            found = mapping_problems(subject, "RunInference")
            handlers = [] if found else [KeyedModelHandler(list(subject))]
            return [_Step("RunInference", handler) for handler in handlers], found
    elif callable(subject) and not isinstance(subject, type):
        return _of_build(subject)
    raise TypeError(
        "preflight takes a ModelHandler, a list of KeyModelMapping, a beam.Pipeline or a function "
        f"build(pipeline), not {short(subject)}"
    )


def _of_pipeline(pipeline: beam.Pipeline) -> tuple[list[_Step], list[Problem]]:
    steps = inference_steps(pipeline)
    here = internals.runs_here(pipeline.runner, pipeline.options)
    found = [*label_problems(steps), *refresh_problems(steps), *repeated_weights(steps)]
    return [_step(step, pipeline.options, here) for step in steps], found


def _step(step: InferenceStep, options: PipelineOptions, here: bool) -> _Step:
    files_are_here = here and not step.loads_at_run_time
    return _Step(step.label, step.handler, options, here, files_are_here)


def _of_build(build: Callable[..., Any]) -> tuple[list[_Step], list[Problem]]:
    pipeline = beam.Pipeline(FnApiRunner())
    try:
        build(pipeline, *_hint_for(build))
    except Exception as error:
        return [], [_while_building(error)]
    return _of_pipeline(pipeline)


def _hint_for(build: Callable[..., Any]) -> tuple[None, ...]:
    """The hint of a function that is made for `compare_hints`."""
    code = getattr(build, "__code__", None)
    if code is None:
        return ()
    required = code.co_argcount - len(getattr(build, "__defaults__", None) or ())
    return (None,) if required == 2 else ()


def _while_building(error: Exception) -> Problem:
    again = re.match(r'A transform with label "(.*?)" already exists', str(error))
    if again:
        label = internals.author_label(again[1])
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


def _of_handler(step: _Step) -> Iterator[Problem]:
    yield from step_problems(step.handler, step.label, files_are_here=step.files_are_here)
    keyed = step.keyed
    if keyed is None:
        return
    if (threads := thread_problem(step.handler, step.label, step.options)) is not None:
        yield threads
    models = len(internals.cohort_handlers(keyed))
    large = large_hint(internals.model_hint(keyed), models, step.label)
    if large is not None:
        yield large
    yield from odd_keys(keyed, step.label)


def _of_memory(steps: Iterable[_Step]) -> list[Problem]:
    held = [held_by(step.handler, step.label, step.options) for step in steps if step.here]
    problem = memory_problem(held)
    return [] if problem is None else [problem]


# Keys of the data


@dataclass
class _Seen:
    """Keys that the data holds, each with its number of elements and its first place."""

    times: dict[Any, int]
    first: dict[Any, int]
    elements: int
    as_text: bool


def _keys_of(data: Any, steps: Collection[_Step]) -> _Seen:
    source = read_keys(data, None)
    known = {key for step in steps for key in internals.cohort_of_key(step.keyed)}
    seen = _Seen({}, {}, 0, source.as_text)
    elements = itertools.chain.from_iterable(map(_listed, source.pieces))
    for place, element in enumerate(itertools.islice(elements, MOST_ELEMENTS)):
        try:
            key = _key_of(element, known)
            if key not in seen.first:
                key = None if _is_missing(key) else key
                seen.first.setdefault(key, place)
            seen.times[key] = seen.times.get(key, 0) + 1
        except TypeError:
            raise TypeError(
                f"{source.place(place)} is {short(element)}, which is neither a key nor a (key, "
                "example) pair: Beam looks keys up in a dict, so they must be hashable, such as "
                "text or numbers"
            ) from None
    seen.elements = sum(seen.times.values())
    return seen


def _listed(piece: Any) -> list[Any]:
    return piece.to_pylist() if hasattr(piece, "to_pylist") else piece.tolist()


def _key_of(element: Any, known: Collection[Any]) -> Any:
    """The key of an element, which is a `(key, example)` pair or the key itself."""
    if isinstance(element, tuple) and len(element) == 2:
        try:
            return element if element in known else element[0]
        except TypeError:
            return element[0]  # the example cannot be looked up
    return element


def _is_missing(key: Any) -> bool:
    """None, NaN, and what pandas writes in their place."""
    try:
        return key is None or key is pd.NA or bool(key != key)
    except (TypeError, ValueError, RuntimeError):
        return False  # an array or a tensor, which Beam takes for a key all the same


def _unknown_keys(step: _Step, seen: _Seen) -> Iterator[Problem]:
    keys = list(internals.cohort_of_key(step.keyed))
    known = {key_text(key) if seen.as_text else key for key in keys}
    unknown = [key for key in seen.times if key not in known]
    for key in unknown[:MOST_KEYS]:
        missing = key is None
        what = (
            f"the data has elements without a key (None or NaN: {_often(seen, key)})."
            if missing
            else f"the data has the key {key!r} ({_often(seen, key)}), which no KeyModelMapping "
            "names."
        )
        fix = (
            "Drop them, or give them a key, before they reach RunInference."
            if missing
            else _fix(key, keys)
        )
        yield Problem(what, step.label, fix, fatal=True)
    if len(unknown) > MOST_KEYS:
        yield Problem(
            f"the data has {len(unknown) - MOST_KEYS} more keys that no KeyModelMapping names.",
            step.label,
            "Add them to a mapping, or filter them out before RunInference.",
            fatal=True,
        )


def _often(seen: _Seen, key: Any) -> str:
    times, elements = seen.times[key], seen.elements
    return f"{times:,} of {elements:,} elements, first at position {seen.first[key]:,}"


def _fix(key: Any, keys: Collection[Any]) -> str:
    """
    >>> _fix("key_1 ", ["KEY_1", "KEY_2"]), _fix(1, ["1"])[:43], _fix("KEY_9", ["KEY_1", "KEY_2"])
    ("Is it 'KEY_1'? Else add it to a mapping, or filter it out before RunInference.", \
"The mapping has '1', which is another type:", \
'Add it to a mapping, or filter it out before RunInference.')
    """
    add = "dd it to a mapping, or filter it out before RunInference."
    for other in keys:
        if str(other) == str(key):
            kinds = f"{type(other).__name__}, not {type(key).__name__}"
            return f"The mapping has {other!r}, which is another type: make the key a {kinds}."
    texts = {str(other).casefold().strip(): other for other in keys}
    wanted = str(key).casefold().strip()
    close = [wanted] if wanted in texts else difflib.get_close_matches(wanted, texts, 2, 0.8)
    return f"Is it {texts[close[0]]!r}? Else a{add}" if len(close) == 1 else f"A{add}"
