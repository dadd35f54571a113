"""Words of diagrams: short labels, an outline for terminals and screen readers, alt text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from mmlab._text import columns, head, plural, some, without_middle
from mmlab.beam.cards import weights_name
from mmlab.diagrams.graph import Edge, Graph, Inference, Model, ModelStats, Step

EMPTY = "This pipeline has no steps yet."
_NO_TEXT = {"Cc", "Cs", "Cn"}
_BIDI = set("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean(text: str) -> str:
    r"""Make one line of printable text, replacing characters that XML forbids or that reorder text.

    >>> clean("a\nb\x00c\u202e")
    'a b\ufffdc\ufffd'
    """
    if text.isascii() and text.isprintable():
        return text
    one_line = re.sub(r"\s+", " ", text)
    return "".join(
        "\ufffd" if unicodedata.category(c) in _NO_TEXT or c in _BIDI else c for c in one_line
    )


def shorten(text: str, width: int) -> str:
    """Shorten text to `width` printable columns: see `without_middle`."""
    return without_middle(clean(text), width)


def wrap(text: str, width: int, lines: int = 2) -> list[str]:
    """Wrap `text` into at most `lines` lines of `width` columns, between words if possible.

    >>> wrap("read the handwritten digits", 16)
    ['read the', 'handwri…n digits']
    """
    text = clean(text)
    out: list[str] = []
    while columns(text) > width and len(out) < lines - 1:
        line = head(text, width)
        breaks = [m.end() for m in re.finditer(r"[\s/_.(,:-]+|(?<=[a-z])(?=[A-Z])", line)]
        cut = max((b for b in breaks if width // 3 <= columns(line[:b])), default=len(line))
        out.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    return [*out, without_middle(text, width)]


def plain_label(label: str) -> str:
    """Remove what Beam adds to labels that the author did not choose.

    >>> plain_label("Partition(CallableWrapperPartitionFn)"), plain_label("Map(<lambda at a.py:3>)")
    ('Partition', 'Map(lambda)')
    """
    label = re.sub(r"\((CallableWrapper\w*|WindowIntoFn)\)", "", label)
    return re.sub(r"<lambda at .*?:\d+>", "lambda", label)


def stats_text(stats: ModelStats) -> str:
    """Describe counts, such as `4 loads (3 again), 3 evictions, 0.52 s loading`."""
    again = f" ({stats.reloads:,} again)" if stats.reloads else ""
    return (
        f"{plural(stats.loads, 'load')}{again}, {plural(stats.evictions, 'eviction')}, "
        f"{stats.load_seconds:.2f} s loading"
    )


def hint_text(inference: Inference) -> str:
    """Describe the hint; "" for a step with one model."""
    if inference.keyed != "many":
        return ""
    if inference.hint is None:
        return "no max_models_per_worker_hint"
    return f"max_models_per_worker_hint={inference.hint}"


def edge_label(edge: Edge) -> str:
    """Tag, name of the input and kind of the side input, as far as they exist."""
    name = " → ".join(filter(None, (edge.tag, edge.input_tag)))
    return " · ".join(filter(None, (name, f"side: {edge.side}" if edge.side else ""))).replace(
        "side: side input", "side input"
    )


def outline(graph: Graph) -> str:
    """Describe the complete picture as text, one step per paragraph."""
    if not graph.steps:
        return EMPTY
    steps = [step for step in graph.steps if not step.outside]
    counts = plural(len(steps), "step")
    if graph.models:
        counts += f", {plural(len(graph.models), 'model')}"
    lines = [f"{'Inside ' + clean(graph.inside) if graph.inside else 'Pipeline'}: {counts}"]
    for step in graph.steps:
        lines += [_step_line(step), *_step_details(step, graph)]
    return "\n".join(lines)


def step_outline(step: Step) -> str:
    """Describe one step in full, for a tooltip."""
    return "\n".join([_step_line(step), *_inference_lines(step)])


def model_outline(model: Model) -> str:
    """Describe one model in full, for a tooltip."""
    return _model_line(model)


def mapping_outline(inference: Inference) -> str:
    """Describe a handler as text."""
    title = f"Model handler: {plural(len(inference.models), 'model')}"
    if inference.keyed == "many":
        title += f", {plural(inference.key_count, 'key')}, {hint_text(inference)}"
    facts = (fact for fact in _facts(inference) if fact != hint_text(inference))
    return "\n".join([title, *facts, *map(_model_line, inference.models)])


def alt(graph: Graph) -> str:
    """Describe the picture of a pipeline in one or two sentences."""
    if not graph.steps:
        return EMPTY
    steps = [step for step in graph.steps if not step.outside]
    names = [m.card.name for m in graph.models]
    text = f"Diagram of a pipeline with {plural(len(steps), 'step')}"
    if names:
        text += f" and {plural(len(names), 'model')}: {_some(names)}"
    return text + "."


def mapping_alt(inference: Inference) -> str:
    """Describe the picture of a handler in one or two sentences."""
    if inference.keyed != "many":
        return f"Diagram of a model handler with one model: {clean(inference.models[0].card.name)}."
    parts = [f"{_some(m.card.keys)} use {shorten(m.card.name, 60)}" for m in inference.models[:6]]
    more = f"; and {len(inference.models) - 6} more models" if len(inference.models) > 6 else ""
    return f"Diagram of a key mapping: {'; '.join(parts)}{more}. {hint_text(inference)}."


def _some(names: Iterable[str]) -> str:
    return some([shorten(name, 60) for name in names], most=6)


def _step_line(step: Step) -> str:
    kind = f" [{clean(plain_label(step.transform))}]" if step.transform else ""
    where = " (outside)" if step.outside else ""
    return f"- {clean(step.id)}{kind}{where}"


def _step_details(step: Step, graph: Graph) -> Iterator[str]:
    yield from _inference_lines(step)
    for edge in graph.edges:
        if edge.source == step.id:
            yield f"    -> {_target_text(edge)}"


def _inference_lines(step: Step) -> Iterator[str]:
    for inference in step.inferences:
        if inference.step != step.id:
            yield f"    RunInference {clean(inference.step)}"
        for line in (*_facts(inference), *map(_model_line, inference.models)):
            yield f"    {line}"


def _facts(inference: Inference) -> Iterator[str]:
    if inference.keyed == "many":
        yield hint_text(inference)
    if inference.keyed == "one":
        yield "one model for every key"
    if inference.preprocess:
        yield f"preprocess: {clean(', '.join(inference.preprocess))}"
    if inference.postprocess:
        yield f"postprocess: {clean(', '.join(inference.postprocess))}"
    if inference.exception_handling:
        yield "exception handling: what fails goes to a dead-letter output"
    if inference.updates:
        yield "the model may be replaced while the pipeline runs"


def _model_line(model: Model) -> str:
    card = model.card
    facts = [card.handler, weights_name(card.weights), card.device]
    keys = f"{', '.join(card.keys)} -> " if card.keys else ""
    stats = f": {stats_text(model.stats)}" if model.stats else ""
    return clean(f"{keys}model {card.name} ({', '.join(filter(None, facts))}){stats}")


def flow(edge: Edge) -> str:
    """Describe the number of elements of an edge, and of batches if it holds failed batches.

    >>> flow(Edge("a", "b", "c", elements=24)), flow(Edge("a", "b", "c"))
    ('24 elements', '')
    >>> flow(Edge("a", "b", "c", dead_letter=True, elements=25, batches=7))
    '25 elements in 7 batches'
    """
    elements = "" if edge.elements is None else plural(edge.elements, "element")
    if edge.batches is None:
        return elements
    batches = plural(edge.batches, "batch")
    return f"{elements} in {batches}" if elements else batches


def _target_text(edge: Edge) -> str:
    target = clean(edge.target) if edge.target is not None else "(not used)"
    notes = [edge_label(edge)]
    if edge.dead_letter:
        notes.append("dead letters")
    notes.append(flow(edge))
    text = ", ".join(clean(note) for note in notes if note)
    return f"{target} ({text})" if text else target
