"""Diagrams of Beam pipelines and their models."""

from __future__ import annotations

from typing import Any, Literal

from apache_beam import Pipeline
from apache_beam.ml.inference.base import KeyModelMapping, ModelHandler, RunInference
from apache_beam.pvalue import PCollection
from apache_beam.runners.runner import PipelineResult

from mmlab._arguments import short
from mmlab.beam.handlers import AnyHandler
from mmlab.diagrams import dot, graph, text
from mmlab.diagrams.render import Diagram, GraphvizError
from mmlab.draw.theme import model_palette
from mmlab.trace import Trace

__all__ = ["Diagram", "GraphvizError", "diagram"]


def diagram(
    subject: Any,
    *,
    trace: Any = None,
    depth: int | None = 1,
    step: str | None = None,
    direction: Literal["LR", "TB"] = "LR",
) -> Diagram:
    """Draw a pipeline, a model handler, or a run.

    Args:
      subject: a `beam.Pipeline`, before or after its run; a `ModelHandler`, for its key mapping;
        or the result of a watched pipeline.
      trace: the `mmlab.Trace` of a run. It adds numbers of elements to the edges, and loads,
        evictions and seconds of loading to the models.
      depth: number of levels of composites to draw. 1 draws the steps that the author applied,
        None draws everything.
      step: full label of a composite; only its steps are drawn.
      direction: "LR" from left to right, "TB" from top to bottom.

    Raises:
      TypeError: `subject` is none of the above.
      ValueError: `depth`, `step` or `direction` is not valid, or the pipeline has too many steps
        for one picture.
    """
    if direction not in ("LR", "TB"):
        raise ValueError(f'direction must be "LR" or "TB", got {short(direction)}')
    if trace is not None and not hasattr(trace, "per_model"):
        raise TypeError(f"trace must be an mmlab.Trace, such as result.trace, got {short(trace)}")
    if isinstance(subject, Pipeline):
        return _pipeline_diagram(subject, trace, depth, step, direction)
    if isinstance(subject, ModelHandler):
        if step is not None:
            raise ValueError(
                f"step must be None for a model handler, got {short(step)}: leave it out"
            )
        return _handler_diagram(subject, trace, direction)
    pipeline = getattr(subject, "pipeline", None)
    if isinstance(pipeline, Pipeline) and hasattr(subject, "trace"):
        trace = subject.trace if trace is None else trace
        return _pipeline_diagram(pipeline, trace, depth, step, direction)
    raise TypeError(_expected(subject))


def _pipeline_diagram(
    pipeline: Pipeline, trace: Any, depth: int | None, step: str | None, direction: str
) -> Diagram:
    found = graph.pipeline_graph(pipeline, trace=trace, depth=depth, step=step)
    colours = model_palette.colours(model.card.name for model in found.models)
    source = dot.pipeline_dot(found, colours, direction)
    return Diagram(source, text.outline(found), text.alt(found))


def _handler_diagram(handler: AnyHandler, trace: Any, direction: str) -> Diagram:
    found = graph.handler_inference(handler, trace=trace)
    colours = model_palette.colours(model.card.name for model in found.models)
    source = dot.mapping_dot(found, colours, direction)
    return Diagram(source, text.mapping_outline(found), text.mapping_alt(found))


def _expected(subject: Any) -> str:
    message = "subject must be a beam.Pipeline, a ModelHandler or the result of a watched run"
    if isinstance(subject, PipelineResult):
        return f"{message}, got the result of an unwatched run: use diagram(pipeline, trace=...)"
    if isinstance(subject, PCollection):
        return f"{message}, got a PCollection: use diagram(pcollection.pipeline)"
    if isinstance(subject, Trace):
        return f"{message}, got a Trace: use diagram(pipeline, trace=trace)"
    if isinstance(subject, list | tuple) and subject and isinstance(subject[0], KeyModelMapping):
        return f"{message}, got a list of KeyModelMapping: use KeyedModelHandler(mappings)"
    if isinstance(subject, RunInference):
        return f"{message}, got a RunInference: give the handler that it was made with"
    if isinstance(subject, type) and issubclass(subject, (Pipeline, ModelHandler)):
        return f"{message}, got the class {subject.__name__}: give an object of it"
    return f"{message}, got {type(subject).__name__}"
