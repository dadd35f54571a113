"""DOT text of graphs. Pure functions: equal graphs and colours give equal bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import unescape
from math import ceil

from mmlab import fonts
from mmlab._text import columns, named, plural
from mmlab.diagrams import text
from mmlab.diagrams.graph import Composite, Edge, Graph, Inference, Model, Step
from mmlab.draw.theme import INK, MUTED, PAPER, tint

SMALLEST = 10
"""Smallest font size of a picture, in points; HTML-like labels support whole numbers only."""
_LABEL = 12
FONT = "Arial"
"""A font whose ASCII letter widths are built into Graphviz."""
_MARGIN = 0.11
_DEAD = "#B42318"
_SOFT = "#F5F6F8"
_BREAK = '<BR ALIGN="LEFT"/>'
_GAP = '<FONT POINT-SIZE="10">&#160;</FONT>'
_MOST_ROWS = 12
_MOST_KEYS = 24
_MOST_TOOLTIP = 3000
"""Maximum length of a tooltip, in characters; Graphviz accepts at most 16,384."""


def pipeline_dot(graph: Graph, colours: Mapping[str, str], direction: str = "LR") -> str:
    """Return the DOT text of a pipeline.

    Args:
      colours: `#RRGGBB` by model name.
      direction: Graphviz's `rankdir`.
    """
    if not graph.steps:
        return _document(direction, [_note(text.EMPTY)])
    ids = {step.id: f"s{place}" for place, step in enumerate(graph.steps)}
    lines = list(_boxes(graph, None, ids, colours))
    lines += [f"{ids[source]} [ordering=out];" for source in _numbered(graph)]
    front = "w" if direction == "LR" else "n"
    # Cards are tall: without a port, edges may end anywhere along them, even at a corner.
    heads = {s.id: f"{ids[s.id]}:{front}" if s.inferences else ids[s.id] for s in graph.steps}
    for place, edge in enumerate(graph.edges):
        lines += _edge(edge, f"end{place}", ids, heads)
    return _document(direction, lines)


def mapping_dot(inference: Inference, colours: Mapping[str, str], direction: str = "LR") -> str:
    """Return the DOT text of a handler: keys, their cohorts, and the cohorts' models."""
    if inference.keyed != "many":
        return _document(direction, [_handler_card(inference, colours)])
    lines: list[str] = []
    shown, others = _busiest(inference.models, _MOST_KEYS)
    for place, model in enumerate(shown):
        lines += _cohort(place, model, colours[model.card.name])
    lines += _in_order(shown)
    if others:
        lines.append(_note(_others_text(others)))
    return _document(direction, lines, caption=_mapping_caption(inference))


def _numbered(graph: Graph) -> list[str]:
    """Ids of steps whose outputs are numbered and drawn in that order, such as `Partition`."""
    tags: dict[str, set[str]] = {}
    for edge in graph.edges:
        tags.setdefault(edge.source, set()).add(edge.tag)
    return [s for s, t in tags.items() if len(t) > 1 and all(map(str.isdecimal, t))]


# Escaping


def _quote(value: str) -> str:
    r"""Quote `value` as a DOT string, without escape sequences, entities or line breaks.

    >>> print(_quote('say "hi" & \\N'))
    "say \"hi\" &amp; \\N"
    """
    return '"' + "\\n".join(_quoted(text.clean(line)) for line in value.split("\n")) + '"'


def _quoted(line: str) -> str:
    return line.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')


def _escape(value: str) -> str:
    r"""Escape text for an HTML-like label.

    >>> _escape("<b> & 'c'")
    '&lt;b&gt; &amp; &#39;c&#39;'
    """
    # Even here Graphviz replaces \N by the name of the node, and so on; a backslash has no escape.
    value = re.sub(r"\\(?=[\\EGHLNT])", "\\\\\u200b", _shown(value))
    return "".join(_ENTITIES.get(character, character) for character in value)


def _shown(value: str) -> str:
    """Convert text to one line of drawable characters."""
    return fonts.drawable(text.clean(value))


def _short(value: str, width: int) -> str:
    return text.shorten(_shown(value), width)


def _wrapped(value: str, width: int) -> list[str]:
    return text.wrap(_shown(value), width)


def _tooltip(value: str) -> str:
    """Quote a tooltip as a DOT string; a text that is too long loses its middle."""
    if len(value) > _MOST_TOOLTIP:
        value = f"{value[: _MOST_TOOLTIP * 2 // 3]} … {value[-_MOST_TOOLTIP // 3 :]}"
    return _quote(value)


_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}


# The document


def _document(direction: str, lines: Iterable[str], caption: str = "") -> str:
    head = [
        f'graph [rankdir={direction}, bgcolor="{PAPER}", pad=0.15, nodesep=0.22, ranksep=0.3, '
        f'fontname="{FONT}", fontsize={SMALLEST}, fontcolor="{INK}", tooltip=" "'
        + (f", label=<{_fitting(caption)}>, labelloc=t, labeljust=l" if caption else "")
        + "];",
        f'node [shape=box, style="rounded,filled", fillcolor="{PAPER}", color="{MUTED}", '
        f'fontname="{FONT}", fontsize={_LABEL}, fontcolor="{INK}", margin="{_MARGIN},0.06", '
        "height=0.3];",
        f'edge [color="{MUTED}", fontname="{FONT}", fontsize={SMALLEST}, fontcolor="{INK}", '
        "arrowsize=0.7];",
    ]
    body = "\n".join(f"  {line}" for line in (*head, *lines))
    return f"digraph mmlab {{\n{body}\n}}\n"


def _note(words: str) -> str:
    return f'note [shape=plaintext, style="", label={_quote(words)}, tooltip={_tooltip(words)}];'


def _font(words: str, *, size: int = SMALLEST, colour: str = MUTED, bold: bool = False) -> str:
    inner = f"<B>{_escape(words)}</B>" if bold else _escape(words)
    return f'<FONT POINT-SIZE="{size}" COLOR="{colour}">{inner}</FONT>'


def _lines(parts: Sequence[str]) -> str:
    """Lines of a table cell, aligned left; the last line needs a break too."""
    if len(parts) == 1:
        return parts[0]
    return "".join(part + _BREAK for part in parts)


# Widths


def _least_width(inner: str, *, padding: int) -> str:
    """WIDTH attribute of a table cell whose width Graphviz would underestimate.

    Graphviz knows the widths of ASCII letters in Arial, and guesses those of other letters.
    """
    if inner.isascii():
        return ""
    return f' WIDTH="{ceil(_width(inner)) + 2 * padding}"'


def _width(label: str) -> float:
    """Width of an HTML-like label, in points: that of its longest line."""
    longest, line, sizes, bold = 0.0, 0.0, [float(_LABEL)], False
    for tag, size, words in _PARTS.findall(label):
        if tag.startswith("BR"):
            longest, line = max(longest, line), 0.0
        elif tag == "FONT":
            sizes.append(float(size))
        elif tag == "/FONT":
            sizes.pop()
        elif tag in ("B", "/B"):
            bold = tag == "B"
        line += fonts.width(unescape(words).replace("\u200b", ""), sizes[-1], bold=bold)
    return max(longest, line)


_PARTS = re.compile(r'<(/?[A-Z]+)(?: POINT-SIZE="(\d+)")?[^>]*>|([^<]+)')


def _fitting(label: str) -> str:
    """Give the label of an edge, a composite or the picture the width of its text."""
    if label.isascii():
        return label
    cell = f"<TR><TD{_least_width(label, padding=0)}>{label}</TD></TR>"
    return f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0">{cell}</TABLE>'


def _node_width(label: str) -> str:
    """Attribute of the least width of a box with letters beyond ASCII, in inches."""
    if label.isascii():
        return ""
    return f", width={max(0.75, _width(label) / 72 + 2 * _MARGIN):.3f}"


# Steps


def _boxes(
    graph: Graph, around: str | None, ids: Mapping[str, str], colours: Mapping[str, str]
) -> Iterator[str]:
    for composite in graph.composites:
        if composite.parent == around:
            yield from _cluster(composite, graph, ids, colours)
    for step in graph.steps:
        if step.composite == around:
            yield _box(step, ids[step.id], colours)


def _cluster(
    composite: Composite, graph: Graph, ids: Mapping[str, str], colours: Mapping[str, str]
) -> Iterator[str]:
    place = graph.composites.index(composite)
    label = _fitting(_font(_short(text.plain_label(composite.label), 40), colour=INK, bold=True))
    yield f"subgraph cluster_{place} {{"
    yield (
        f'  label=<{label}>; labeljust=l; style="rounded"; color="{MUTED}"; margin=9; '
        f"tooltip={_tooltip(composite.id)};"
    )
    for line in _boxes(graph, composite.id, ids, colours):
        yield f"  {line}"
    yield "}"


def _box(step: Step, name: str, colours: Mapping[str, str]) -> str:
    tooltip = _tooltip(text.step_outline(step).removeprefix("- "))
    if step.inferences:
        return f'{name} [shape=plain, style="", label=<{_card(step, colours)}>, tooltip={tooltip}];'
    label = _title(step)
    box = f"label=<{label}>{_node_width(label)}"
    if step.outside:
        return f'{name} [{box}, style="rounded,dashed", tooltip={tooltip}];'
    return f"{name} [{box}, tooltip={tooltip}];"


def _title(step: Step) -> str:
    label = "<BR/>".join(_escape(t) for t in _wrapped(text.plain_label(step.label), 20))
    kind = _kind(step)
    return f"{label}<BR/>{_font(_short(kind, 36))}" if kind else label


def _kind(step: Step) -> str:
    kind = text.plain_label(step.transform)
    return "" if kind == text.plain_label(step.label) else kind


# Model cards


def _card(step: Step, colours: Mapping[str, str]) -> str:
    several = len(step.inferences) > 1
    kind = _kind(step)
    if several:
        kind = f"{len(step.inferences)} RunInference steps inside"
    rows = [_header(text.plain_label(step.label), kind)]
    for inference in step.inferences:
        if several:
            name = inference.step.removeprefix(step.id + "/")
            rows.append(_row(_font(_short(name, 40), size=11, colour=INK)))
        rows += _inference_rows(inference, colours)
    return _table(rows)


def _handler_card(inference: Inference, colours: Mapping[str, str]) -> str:
    rows = [_header("Model handler", "one model, no key mapping")]
    rows += _inference_rows(inference, colours)
    tooltip = _tooltip(text.mapping_outline(inference))
    return f'm0 [shape=plain, style="", label=<{_table(rows)}>, tooltip={tooltip}];'


def _table(rows: Iterable[str]) -> str:
    return (
        f'<TABLE BORDER="1" CELLBORDER="0" CELLSPACING="0" CELLPADDING="3" COLOR="{INK}" '
        f'BGCOLOR="{PAPER}">{"".join(rows)}</TABLE>'
    )


def _header(title: str, kind: str) -> str:
    label = [_font(line, size=_LABEL, colour=INK, bold=True) for line in _wrapped(title, 30)]
    if kind:
        label.append(_font(_short(kind, 36)))
    return _row(_lines(label), f' BGCOLOR="{_SOFT}"')


def _row(inner: str, more: str = "") -> str:
    # The browser's font may be wider than the font that Graphviz measured.
    more += _least_width(inner, padding=5)
    return f'<TR><TD ALIGN="LEFT" BALIGN="LEFT" CELLPADDING="5"{more}>{inner}</TD></TR>'


def _inference_rows(inference: Inference, colours: Mapping[str, str]) -> Iterator[str]:
    same = _common_facts(inference)
    if inference.keyed == "many":
        yield _row(_font(text.hint_text(inference), colour=INK))
        if same:
            yield _row(_font(_short(same, 44)))
    elif inference.keyed == "one":
        yield _row(_font("one model for every key"))
    if inference.preprocess:
        yield _row(_font("before: " + _function_names(inference.preprocess)))
    shown, others = _busiest(inference.models, _MOST_ROWS)
    yield f'<TR><TD CELLPADDING="0">{_models(inference, shown, colours, same)}</TD></TR>'
    if others:
        yield _row(_font(_others_text(others)))
    if inference.postprocess:
        yield _row(_font("after: " + _function_names(inference.postprocess)))
    if inference.exception_handling:
        yield _row(_font("exception handling: failures → dead letters", colour=_DEAD))
    if inference.updates:
        yield _row(_font("model updates through a side input"))


def _busiest(models: Sequence[Model], most: int) -> tuple[list[Model], list[Model]]:
    """Return the models to draw and the other models, both in mapping order.

    With a run, draw the models with the most loads and batches; without one, the first models.
    """

    def work(place: int) -> int:
        stats = models[place].stats
        return stats.loads + stats.uses if stats else 0

    drawn = set(sorted(range(len(models)), key=work, reverse=True)[:most])
    places = range(len(models))
    return [models[i] for i in places if i in drawn], [models[i] for i in places if i not in drawn]


def _others_text(models: Sequence[Model]) -> str:
    """Describe the models that are not drawn: their number and their counts."""
    said = f"… and {plural(len(models), 'more model')}"
    stats = [model.stats for model in models if model.stats]
    if stats:
        loads, evictions = (sum(getattr(s, n) for s in stats) for n in ("loads", "evictions"))
        said += f": {plural(loads, 'load')}, {plural(evictions, 'eviction')}"
    return said


def _models(
    inference: Inference, shown: Sequence[Model], colours: Mapping[str, str], same: str
) -> str:
    """Table of models, separate so that long lines around it do not stretch the colour stripes."""
    with_stats = any(model.stats for model in shown)
    rows = [_stats_header(inference)] if with_stats else []
    for model in shown:
        words = [_lines(_model_words(inference, model, same))]
        if inference.keyed == "many":
            words.insert(0, _font(_some_keys(model.card.keys), size=11, colour=INK))
        cells = [_striped(words[0], colours[model.card.name]), *map(_cell, words[1:])]
        if with_stats:
            cells += _stats_cells(model)
        rows.append(f"<TR>{''.join(cells)}</TR>")
    return f'<TABLE BORDER="0" CELLSPACING="0" CELLPADDING="3">{"".join(rows)}</TABLE>'


def _striped(inner: str, colour: str) -> str:
    """A cell with the colour of the model as a thick left border."""
    inner = f"{_GAP}{inner.replace(_BREAK, _BREAK + _GAP).removesuffix(_GAP)}"
    style = f'BORDER="7" SIDES="L" COLOR="{colour}" CELLPADDING="1"'
    return f'<TD {style} ALIGN="LEFT" BALIGN="LEFT"{_least_width(inner, padding=8)}>{inner}</TD>'


def _cell(inner: str, align: str = "LEFT") -> str:
    least = _least_width(inner, padding=3)
    return f'<TD ALIGN="{align}" BALIGN="{align}"{least}>{inner}</TD>'


def _model_words(inference: Inference, model: Model, same: str) -> list[str]:
    """Name and facts; a model without a name is called by its handler."""
    card = model.card
    unnamed = card.name == inference.step
    name = card.handler if unnamed else card.name
    words = [_font(_short(name, 28), size=11, colour=INK, bold=True)]
    facts = card.device if unnamed else _facts(model)
    if facts and facts != same:
        words.append(_font(_short(facts, 40)))
    return words


def _facts(model: Model) -> str:
    """Handler, weights and device, without repeating the name."""
    card = model.card
    file = (card.weights or "").replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    weights = "" if file.startswith(card.name) else file
    handler = "" if card.name.startswith(card.handler) else card.handler
    return " · ".join(filter(None, (handler, weights, card.device)))


def _common_facts(inference: Inference) -> str:
    """Facts that all models of a keyed handler share, so that they are written once."""
    facts = {_facts(model) for model in inference.models}
    return facts.pop() if len(facts) == 1 and len(inference.models) > 1 else ""


def _function_names(names: Sequence[str]) -> str:
    return _short(" → ".join(text.plain_label(n) for n in names), 34)


def _some_keys(keys: Sequence[str]) -> str:
    shown: list[str] = []
    for key in map(_shown, map(named, keys)):
        if shown and columns(", ".join((*shown, key))) > 26:
            return f"{', '.join(shown)} +{len(keys) - len(shown):,}"
        shown.append(_short(key, 22))
    return ", ".join(shown)


def _stats_header(inference: Inference) -> str:
    blank = "<TD></TD>" * (2 if inference.keyed == "many" else 1)
    names = ("loads", "evicted", "load s")
    return f"<TR>{blank}{''.join(_cell(_font(name), 'RIGHT') for name in names)}</TR>"


def _stats_cells(model: Model) -> list[str]:
    stats = model.stats
    values = (
        (f"{stats.loads:,}", f"{stats.evictions:,}", f"{stats.load_seconds:.2f}")
        if stats
        else ("–",) * 3
    )
    return [_cell(_font(value, size=11, colour=INK), "RIGHT") for value in values]


# Edges


def _edge(edge: Edge, end: str, ids: Mapping[str, str], heads: Mapping[str, str]) -> Iterator[str]:
    """One edge, after the small circle `end` if no step reads the PCollection."""
    target = heads[edge.target] if edge.target is not None else end
    if edge.target is None:
        yield (
            f'{target} [shape=circle, label="", width=0.11, height=0.11, fixedsize=true, '
            'tooltip="nobody reads this output"];'
        )
    attributes = [f"tooltip={_tooltip(_edge_tooltip(edge))}"]
    label = _edge_words(edge)
    if label:
        attributes.append(f"label=<{_fitting(label)}>")
    if edge.side:
        attributes.append("style=dashed")
    elif edge.dead_letter:
        attributes.append(f'style=dotted, penwidth=1.6, color="{_DEAD}"')
    if edge.target is None:
        attributes.append("arrowhead=none")
    yield f"{ids[edge.source]} -> {target} [{', '.join(attributes)}];"


def _edge_words(edge: Edge) -> str:
    colour = _DEAD if edge.dead_letter else INK
    words = []
    name = text.edge_label(edge)
    if name:
        words.append(_font(f" {_short(name, 24)} ", colour=colour))
    if edge.batches is not None:
        words.append(_font(f" {text.flow(edge)} ", size=11, colour=colour, bold=True))
    elif edge.elements is not None:
        words.append(_font(f" {edge.elements:,} ", size=11, colour=colour, bold=True))
    return "<BR/>".join(words)


def _edge_tooltip(edge: Edge) -> str:
    source = edge.source
    target = edge.target if edge.target is not None else "nobody"
    lines = [f"{source} → {target}", text.edge_label(edge)]
    if edge.dead_letter:
        lines.append("dead letters")
    lines.append(text.flow(edge))
    return "\n".join(filter(None, lines))


# The key mapping


def _mapping_caption(inference: Inference) -> str:
    models = plural(len(inference.models), "model")
    hint = inference.hint
    rest = "all may stay in memory" if hint is None else f"{hint} at a time in a worker process"
    facts = [
        _font(text.hint_text(inference), size=_LABEL, colour=INK, bold=True),
        _font(f"{models}: {rest}"),
    ]
    if inference.preprocess:
        facts.append(_font("before: " + _function_names(inference.preprocess)))
    if inference.postprocess:
        facts.append(_font("after: " + _function_names(inference.postprocess)))
    return _lines(facts)


def _cohort(place: int, model: Model, colour: str) -> Iterator[str]:
    card = model.card
    cohort = f"c{place}"
    shown = card.keys[:_MOST_KEYS]
    for number, key in enumerate(shown):
        name = f"k{place}_{number}"
        label = _escape(_short(named(key), 28))
        yield f"{name} [label=<{label}>{_node_width(label)}, tooltip={_tooltip(key)}];"
        yield f'{name} -> {cohort} [color="{colour}", penwidth=1.6];'
    if len(card.keys) > len(shown):
        rest = plural(len(card.keys) - len(shown), "more key")
        name = f"k{place}_more"
        yield f'{name} [shape=plaintext, style="", label={_quote(f"… {rest}")}];'
        yield f'{name} -> {cohort} [color="{colour}", penwidth=1.6];'
    first = card.keys[0] if card.keys else ""
    words = _font("cohort") + "<BR/>" + _font(_short(named(first), 20), size=11, colour=INK)
    yield (
        f"{cohort} [label=<{words}>{_node_width(words)}, "
        f'fillcolor="{tint(colour, 0.16)}", color="{colour}", '
        f"tooltip={_tooltip('cohort ' + first)}];"
    )
    yield (
        f'm{place} [shape=plain, style="", label=<{_model_table(model, colour)}>, '
        f"tooltip={_tooltip(text.model_outline(model))}];"
    )
    yield f'{cohort} -> m{place} [color="{colour}", penwidth=1.6];'


def _in_order(models: Sequence[Model]) -> Iterator[str]:
    """Keep the keys in mapping order: Graphviz would stack them from the bottom."""
    keys = [
        f"k{place}_{number}"
        for place, model in enumerate(models)
        for number in range(len(model.card.keys[:_MOST_KEYS]))
    ]
    if len(keys) > 1:
        yield f"{{rank=same; {' -> '.join(keys)} [style=invis];}}"


def _model_table(model: Model, colour: str) -> str:
    words = [_font(_short(model.card.name, 32), size=_LABEL, colour=INK, bold=True)]
    facts = _facts(model)
    if facts:
        words.append(_font(_short(facts, 44)))
    if model.stats:
        words.append(_font(text.stats_text(model.stats), colour=INK))
    return _table([f"<TR>{_striped(_lines(words), colour)}</TR>"])
