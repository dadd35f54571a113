"""Pipelines and model handlers as plain data for diagrams: steps, edges, models."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from apache_beam import Pipeline, pvalue
from apache_beam.ml.inference.base import KeyedModelHandler
from apache_beam.pipeline import AppliedPTransform
from apache_beam.transforms import window
from apache_beam.transforms.core import Windowing
from apache_beam.transforms.ptransform import label_from_callable

from mmlab.beam.cards import ModelCard, model_cards
from mmlab.beam.handlers import AnyHandler, handler_chain, keyed_handler, model_hint
from mmlab.beam.pipelines import (
    author_label,
    author_labels,
    collection_name,
    dead_letter_tag,
    inference_steps,
    inferences_of,
    is_unfinished,
    root_transform,
)

_MAX_STEPS = 1000
"""Maximum number of boxes: more are illegible, and take Graphviz minutes."""

_UNFINISHED = "unfinished RunInference"
"""Name of a step whose `RunInference` raised an error while it was applied."""


@dataclass(frozen=True)
class ModelStats:
    """Counts of one model in a run, and the seconds spent loading it."""

    loads: int
    reloads: int
    evictions: int
    elements: int
    load_seconds: float
    uses: int = 0


@dataclass(frozen=True)
class Model:
    """One model of a `RunInference`; `stats` is known only after a run."""

    card: ModelCard
    stats: ModelStats | None = None


@dataclass(frozen=True)
class Inference:
    """One `RunInference` or one handler.

    Attributes:
      step: label of the `RunInference`.
      models: models in mapping order.
      keyed: "many" models chosen by key, "one" model that takes keyed examples, or "".
      hint: `max_models_per_worker_hint` as given; None without one.
      preprocess: names of the functions that run before the model, in order.
      postprocess: names of the functions that run after the model, in order.
      exception_handling: whether failures go to a dead-letter output.
      updates: whether a side input can replace the model while the pipeline runs.
    """

    step: str
    models: tuple[Model, ...]
    keyed: str = ""
    hint: Any = None
    preprocess: tuple[str, ...] = ()
    postprocess: tuple[str, ...] = ()
    exception_handling: bool = False
    updates: bool = False

    @property
    def key_count(self) -> int:
        """Number of keys in the mapping."""
        return sum(len(model.card.keys) for model in self.models)


@dataclass(frozen=True)
class Step:
    """One box: a transform with everything inside it.

    Attributes:
      id: full label, unique in the pipeline.
      label: the last part of the full label.
      transform: name of the transform if the label does not contain it; else "".
      composite: id of the opened composite around the step, if any.
      inferences: every `RunInference` inside the step.
      outside: whether the step is only a neighbour of the composite that is drawn.
    """

    id: str
    label: str
    transform: str = ""
    composite: str | None = None
    inferences: tuple[Inference, ...] = ()
    outside: bool = False


@dataclass(frozen=True)
class Composite:
    """A composite transform that is drawn with its parts inside."""

    id: str
    label: str
    parent: str | None = None


@dataclass(frozen=True)
class Edge:
    """A PCollection between two steps.

    Attributes:
      source: id of the step that produces it.
      target: id of the step that reads it; None without one.
      collection: `collection_name` of the PCollection.
      tag: name of the source's output; "" for the only or main output.
      input_tag: name of the target's input; "" if inputs have no names.
      side: kind of the side input (`AsList`, …); "" for a main input.
      dead_letter: whether it is a dead-letter output.
      elements: number of elements, if a trace has it.
      batches: number of failed batches, if it holds failed batches.
    """

    source: str
    target: str | None
    collection: str
    tag: str = ""
    input_tag: str = ""
    side: str = ""
    dead_letter: bool = False
    elements: int | None = None
    batches: int | None = None


@dataclass(frozen=True)
class Graph:
    """Content of a diagram. `inside` is the composite that the diagram is limited to, if any."""

    steps: tuple[Step, ...]
    edges: tuple[Edge, ...]
    composites: tuple[Composite, ...] = ()
    inside: str | None = None

    @property
    def models(self) -> list[Model]:
        """All models of all `RunInference` steps, in the order of the steps."""
        return [m for step in self.steps for i in step.inferences for m in i.models]


def pipeline_graph(
    pipeline: Pipeline, *, trace: Any = None, depth: int | None = 1, step: str | None = None
) -> Graph:
    """Return the steps of `pipeline` and the PCollections between them.

    Args:
      trace: an `mmlab.Trace` of a run of this pipeline, for counts.
      depth: number of levels of composites to show: 1 shows the steps that the author applied,
        each further level opens all composites once more, None opens all of them.
      step: full label of a composite; only its parts and their neighbours are shown.

    Raises:
      ValueError: `step` or `depth` is not valid, or there are more than `_MAX_STEPS` steps.
    """
    _check_depth(depth)
    view = _View(depth)
    root = root_transform(pipeline)
    if step is None:
        view.open(root)
    else:
        view.open_only(root, _find(root, step))
    inside = [shown for shown in view.shown if not shown.outside]
    if len(inside) > _MAX_STEPS:
        raise ValueError(_too_many(len(inside), depth, step))

    counts = dict(trace.element_counts) if trace is not None else {}
    edges = _edges(view, counts, trace.dead_letters if trace is not None else {})
    touched = {edge.source for edge in edges} | {edge.target for edge in edges}
    shown = [s for s in view.shown if not s.outside or s.id in touched]
    stats = _stats_of(pipeline, trace)
    return _in_the_authors_words(
        Graph(
            steps=tuple(_step(s, stats) for s in shown),
            edges=tuple(edges),
            composites=tuple(view.composites),
            inside=step,
        )
    )


def _in_the_authors_words(graph: Graph) -> Graph:
    """Remove the cell numbers that Beam puts before labels in a notebook."""
    labels = [*(step.id for step in graph.steps), *(part.id for part in graph.composites)]
    names = author_labels(labels)

    def name(label: str | None) -> str | None:
        return None if label is None else names.get(label, label)

    def step(step: Step) -> Step:
        composite = name(step.composite)
        inferences = tuple(
            replace(inference, step=names.get(inference.step) or author_label(inference.step))
            for inference in step.inferences
        )
        return replace(step, id=names[step.id], composite=composite, inferences=inferences)

    return replace(
        graph,
        steps=tuple(map(step, graph.steps)),
        edges=tuple(
            replace(edge, source=names[edge.source], target=name(edge.target))
            for edge in graph.edges
        ),
        composites=tuple(
            replace(c, id=names[c.id], parent=name(c.parent)) for c in graph.composites
        ),
    )


def handler_inference(handler: AnyHandler, *, trace: Any = None) -> Inference:
    """Return the models of a handler without a pipeline.

    Raises:
      ValueError: `trace` has models with these names in more than one step.
    """
    found = _inference(handler, "RunInference")
    names = {model.card.name for model in found.models}
    rows = [row for row in trace.per_model() if row.model in names] if trace is not None else []
    steps = sorted({row.step for row in rows})
    if len(steps) > 1:
        raise ValueError(
            f"the trace has these models in {len(steps)} steps ({', '.join(steps)}): "
            "use diagram(pipeline, trace=...)"
        )
    by_model = {row.model: _stats(row) for row in rows}
    models = tuple(replace(m, stats=by_model.get(m.card.name)) for m in found.models)
    return replace(found, models=models)


# Boxes


@dataclass(frozen=True)
class _Shown:
    applied: AppliedPTransform
    composite: str | None
    outside: bool = False

    @property
    def id(self) -> str:
        return self.applied.full_label


class _View:
    """Walks the tree of transforms and decides which become boxes and which are opened."""

    def __init__(self, depth: int | None):
        self.depth = depth
        self.shown: list[_Shown] = []
        self.composites: list[Composite] = []

    def open(self, applied: AppliedPTransform, around: str | None = None, level: int = 1) -> None:
        for part in applied.parts:
            if part.parts and (self.depth is None or level < self.depth):
                self.composites.append(Composite(part.full_label, _last(part), around))
                self.open(part, part.full_label, level + 1)
            else:
                self.shown.append(_Shown(part, around))

    def open_only(self, applied: AppliedPTransform, focus: AppliedPTransform) -> None:
        for part in applied.parts:
            if part is focus:
                self.composites.append(Composite(part.full_label, _last(part)))
                self.open(part, part.full_label)
            elif _is_around(part, focus):
                self.open_only(part, focus)
            else:
                self.shown.append(_Shown(part, None, outside=True))


def _find(root: AppliedPTransform, label: str) -> AppliedPTransform:
    for applied in _with_parts(root):
        names = (applied.full_label, author_label(applied.full_label))
        if label in names and applied.parts:
            return applied
    composites = [author_label(part.full_label) for part in root.parts if part.parts]
    raise ValueError(
        f"no composite step is called {label!r}; "
        f"at the top level there are {', '.join(map(repr, composites[:12])) or 'none'}"
    )


def _with_parts(applied: AppliedPTransform) -> Iterator[AppliedPTransform]:
    yield applied
    for part in applied.parts:
        yield from _with_parts(part)


def _is_around(composite: AppliedPTransform, applied: AppliedPTransform | None) -> bool:
    """Compare by identity: labels may contain slashes, so that `a/b` need not be inside `a`."""
    while applied is not None and applied is not composite:
        applied = applied.parent
    return applied is composite


def _check_depth(depth: Any) -> None:
    if depth is None:
        return
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise ValueError(
            f"depth must be a whole number, 1 or more, or None for everything, got {depth!r}"
        )


def _too_many(count: int, depth: int | None, step: str | None) -> str:
    ways = [] if depth == 1 else ["a smaller depth="]
    ways.append(
        "one composite of it with step='its full label'" if step is None else "another step="
    )
    return (
        f"{count:,} steps are too many for one picture (at most {_MAX_STEPS:,}): "
        f"draw {' or '.join(ways)}"
    )


def _step(shown: _Shown, stats: dict[tuple[str, str], ModelStats]) -> Step:
    applied = shown.applied
    return Step(
        id=shown.id,
        label=_last(applied),
        transform=_UNFINISHED if is_unfinished(applied) else _transform_name(applied),
        composite=shown.composite,
        inferences=() if shown.outside else tuple(_inferences(applied, stats)),
        outside=shown.outside,
    )


def _last(applied: AppliedPTransform) -> str:
    """Return the label of a step without the labels of the composites around it.

    Labels may contain slashes, so the label of the enclosing composite is removed as a prefix.
    """
    around = applied.parent.full_label if applied.parent is not None else ""
    label = applied.full_label
    if around and label.startswith(around + "/"):
        return label[len(around) + 1 :]
    return author_label(label)


def _transform_name(applied: AppliedPTransform) -> str:
    transform = applied.transform
    windowing = getattr(transform, "windowing", None)
    if isinstance(windowing, Windowing):
        return _window_text(windowing.windowfn)
    kind = getattr(transform, "label", None)
    if not isinstance(kind, str) or kind.startswith("_") or kind in ("PTransform", _last(applied)):
        return ""
    # The bare class name can be too short: Count.Globally would be "Globally".
    whole = type(transform).__qualname__
    return whole if whole.endswith(f".{kind}") and "<locals>" not in whole else kind


def _window_text(windowfn: Any) -> str:
    """Describe a window function with its sizes in seconds.

    >>> _window_text(window.SlidingWindows(60, 10))
    'SlidingWindows(60 s, every 10 s)'
    """
    name = type(windowfn).__name__
    if isinstance(windowfn, window.FixedWindows):
        return f"{name}({_seconds(windowfn.size)})"
    if isinstance(windowfn, window.SlidingWindows):
        return f"{name}({_seconds(windowfn.size)}, every {_seconds(windowfn.period)})"
    if isinstance(windowfn, window.Sessions):
        return f"{name}(gap {_seconds(windowfn.gap_size)})"
    return name


def _seconds(duration: Any) -> str:
    return f"{duration.micros / 1e6:g} s"


# PCollections


@dataclass(frozen=True)
class _Use:
    """One input of a shown step."""

    target: str
    input_tag: str = ""
    side: str = ""


def _drawn_collections(
    view: _View, owner: dict[int, _Shown]
) -> tuple[dict[int, pvalue.PCollection[Any]], dict[int, list[_Use]]]:
    """PCollections between boxes or without a reader, and their readers, both keyed by `id`."""
    uses: dict[int, list[_Use]] = {}
    collections: dict[int, pvalue.PCollection[Any]] = {}
    for shown in view.shown:
        for collection, use in _reads(shown):
            if owner.get(id(collection.producer)) not in (None, shown):
                collections[id(collection)] = collection
                uses.setdefault(id(collection), []).append(use)
        for collection in _loose_ends(shown, owner):
            collections.setdefault(id(collection), collection)
    return collections, uses


def _edges(
    view: _View, counts: dict[str, int], dead_letters: dict[str, tuple[int, int]]
) -> list[Edge]:
    owner = {id(a): s for s in view.shown for a in _with_parts(s.applied)}
    order = {shown.id: place for place, shown in enumerate(view.shown)}
    collections, uses = _drawn_collections(view, owner)
    edges = []
    for key, collection in collections.items():
        source = owner[id(collection.producer)]
        end = _end_of(source, collection, counts, dead_letters)
        if key in uses:
            edges += [
                replace(end, target=u.target, input_tag=u.input_tag, side=u.side)
                for u in uses[key]
                if not (source.outside and view.shown[order[u.target]].outside)
            ]
        elif not source.outside and (end.tag or _is_inference(source.applied)):
            edges.append(end)
    return sorted(edges, key=lambda edge: _edge_order(edge, order))


def _end_of(
    source: _Shown,
    collection: pvalue.PCollection[Any],
    counts: dict[str, int],
    dead_letters: dict[str, tuple[int, int]],
) -> Edge:
    """The edge of a PCollection that nothing reads."""
    tag, dead = _output_tag(source.applied, collection)
    name = collection_name(collection)
    end = Edge(source.id, None, name, tag, dead_letter=dead, elements=counts.get(name))
    producer = collection.producer
    if dead and producer and (steps := inferences_of(producer)):
        _, elements = dead_letters.get(steps[0].label, (0, None))
        nothing = end.elements == 0
        return replace(end, elements=0 if nothing else elements, batches=end.elements)
    return end


def _edge_order(edge: Edge, order: dict[str, int]) -> tuple[Any, ...]:
    last = len(order)
    target = order.get(edge.target, last) if edge.target is not None else last
    return (
        order[edge.source],
        *_natural(edge.tag),
        edge.collection,
        target,
        *_natural(edge.input_tag),
        edge.side,
    )


def _natural(tag: str) -> tuple[int, str]:
    """Sort key of tags: numbers first, in numeric order."""
    return (int(tag) if tag.isdecimal() else 1 << 31 if tag else -1, tag)


def _reads(shown: _Shown) -> Iterator[tuple[pvalue.PCollection[Any], _Use]]:
    """Every PCollection that a box reads, as a main or side input, once per input."""
    main: dict[int, pvalue.PCollection[Any]] = {}
    side: dict[tuple[int, str], pvalue.PCollection[Any]] = {}
    for applied in _with_parts(shown.applied):
        if not applied.parts:
            main.update((id(v), v) for v in _main_inputs(applied))
        for value in applied.side_inputs:
            if isinstance(value, pvalue.AsSideInput):
                side[id(value.pvalue), _view_name(value)] = value.pvalue
    sides = {collection for collection, _ in side}
    for collection in _main_inputs(shown.applied):
        if id(collection) not in sides:
            main.setdefault(id(collection), collection)

    for collection in main.values():
        for tag in _input_tags(shown.applied, collection):
            yield collection, _Use(shown.id, input_tag=tag)
    for (_, view), collection in side.items():
        yield collection, _Use(shown.id, side=view)


def _main_inputs(applied: AppliedPTransform) -> list[pvalue.PCollection[Any]]:
    return [v for v in applied.main_inputs.values() if isinstance(v, pvalue.PCollection)]


def _view_name(side: pvalue.AsSideInput) -> str:
    name = type(side).__name__
    return "side input" if name.startswith("_") else name


def _input_tags(applied: AppliedPTransform, collection: pvalue.PCollection[Any]) -> list[str]:
    """Names of the inputs that read a PCollection; [""] if inputs have no names."""
    joins = [part for part in applied.parts if _last(part) == "CoGroupByKeyImpl"]
    named = joins[0] if joins else applied
    tags = {str(tag) for tag, value in named.main_inputs.items() if value is collection}
    if not joins:
        tags = {tag for tag in tags if tag != "None" and not tag.isdecimal()}
    return sorted(tags, key=_natural) or [""]


def _loose_ends(shown: _Shown, owner: dict[int, _Shown]) -> Iterator[pvalue.PCollection[Any]]:
    for value in shown.applied.outputs.values():
        if isinstance(value, pvalue.PCollection) and owner.get(id(value.producer)) is shown:
            yield value


_DEAD = re.compile(r"failed_(inferences|preprocessing|postprocessing)\b")


def _output_tag(
    applied: AppliedPTransform, collection: pvalue.PCollection[Any]
) -> tuple[str, bool]:
    """Name of an output in the author's code, and whether it is a dead-letter output."""
    keys = [k for k, value in applied.outputs.items() if value is collection]
    name = _tag_text(keys[0] if keys else collection.tag, collection, applied.outputs)
    bad = {dead_letter_tag(part) for part in _with_parts(applied)} - {None}
    return name, bool(_DEAD.match(name)) or name in bad


def _tag_text(key: Any, collection: pvalue.PCollection[Any], outputs: dict[Any, Any]) -> str:
    if key is None or str(key) == "None" or len(outputs) == 1:
        return ""
    if str(key).isdecimal() and collection.tag != key:
        numbered = [k for k in outputs if str(k).isdecimal()]
        return f"[{key}]" if len(numbered) > 1 else ""
    # RunInference returns (results, RunInferenceDLQ), named "1.failed_preprocessing.0" by Beam.
    name = re.sub(r"^\d+\.", "", str(key))
    counted = re.fullmatch(r"(.*)\.(\d+)", name, re.DOTALL)
    stem, number = counted.groups() if counted else (name, None)
    alone = sum(f".{stem}." in f".{k}." for k in outputs) == 1
    return stem if alone or number is None else f"{stem}[{number}]"


# Models


def _is_inference(applied: AppliedPTransform) -> bool:
    return any(inferences_of(part) for part in _with_parts(applied))


def _inferences(
    applied: AppliedPTransform, stats: dict[tuple[str, str], ModelStats]
) -> Iterator[Inference]:
    for part in _with_parts(applied):
        for found in inferences_of(part):
            inference = _inference(found.handler, found.full_label)
            models = tuple(
                replace(m, stats=stats.get((found.full_label, m.card.name)))
                for m in inference.models
            )
            if applied.full_label.startswith(found.full_label + "/"):
                # The RunInference is drawn open, so these functions have their own boxes.
                inference = replace(inference, preprocess=(), postprocess=())
            yield replace(
                inference,
                models=models,
                exception_handling=_handles_exceptions(part),
                updates=any(isinstance(s, pvalue.AsSideInput) for s in part.side_inputs),
            )


def _handles_exceptions(applied: AppliedPTransform) -> bool:
    return any(output.tag is not None for output in applied.outputs.values())


def _inference(handler: AnyHandler, step: str) -> Inference:
    keyed = keyed_handler(handler)
    one = any(isinstance(h, KeyedModelHandler) for h in handler_chain(handler))
    return Inference(
        step=step,
        models=tuple(Model(card) for card in model_cards(handler, step)),
        keyed="many" if keyed else "one" if one else "",
        hint=model_hint(keyed) if keyed else None,
        preprocess=_names(handler.get_preprocess_fns()),
        postprocess=_names(handler.get_postprocess_fns()),
    )


def _names(functions: Iterable[Callable[..., Any]]) -> tuple[str, ...]:
    return tuple(str(label_from_callable(function)) for function in functions)


def _stats_of(pipeline: Pipeline, trace: Any) -> dict[tuple[str, str], ModelStats]:
    """Counts of each model in the trace, keyed by the full label of its step and its name."""
    full = {step.label: step.full_label for step in inference_steps(pipeline)}
    rows = trace.per_model() if trace is not None else []
    return {(full.get(row.step, row.step), row.model): _stats(row) for row in rows}


def _stats(row: Any) -> ModelStats:
    return ModelStats(
        row.loads, row.reloads, row.evictions, row.elements, row.load_seconds, row.uses
    )
