"""Writes every picture to `build/gallery/`, to be looked at."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

import mmlab
from tests.unit.diagrams.pipelines import (
    BUILDERS,
    Scale,
    keyed_handler,
    many_keys,
    scripts_handler,
    torch_handler,
)

SVG = "{http://www.w3.org/2000/svg}"
GALLERY = Path(__file__).parents[3] / "build" / "gallery"


def _row(model: str, loads: int, elements: int) -> SimpleNamespace:
    return SimpleNamespace(
        step="Inference",
        model=model,
        loads=loads,
        reloads=loads - 1,
        evictions=loads - 1,
        uses=elements,
        elements=elements,
        load_seconds=loads * 0.113,
        keys={},
    )


_TRACE = SimpleNamespace(
    per_model=lambda: [_row("config_1", 3, 40), _row("config_2", 41, 1300), _row("config_4", 7, 9)],
    element_counts={"Read/Map(decode)": 1349, "Inference/BeamML_RunInference": 1349},
    dead_letters={},
)
_OTHERS = {
    "handler keyed": lambda: mmlab.diagram(keyed_handler()),
    "handler keyed, no hint": lambda: mmlab.diagram(keyed_handler(None)),
    "handler keyed, TB": lambda: mmlab.diagram(keyed_handler(), direction="TB"),
    "handler keyed, after a run": lambda: mmlab.diagram(keyed_handler(), trace=_TRACE),
    "handler": lambda: mmlab.diagram(torch_handler("digits")),
    "handler, scripts": lambda: mmlab.diagram(scripts_handler()),
    "handler, 1,000 keys": lambda: mmlab.diagram(many_keys()),
    "handler with functions": lambda: mmlab.diagram(Scale().with_preprocess_fn(int)),
    "keyed, after a run": lambda: mmlab.diagram(BUILDERS["keyed"](), trace=_TRACE),
    "ab_partition, TB": lambda: mmlab.diagram(BUILDERS["ab_partition"](), direction="TB"),
    "nested, depth 2": lambda: mmlab.diagram(BUILDERS["nested_composites"](), depth=2),
    "nested, depth 3": lambda: mmlab.diagram(BUILDERS["nested_composites"](), depth=3),
    "nested, everything": lambda: mmlab.diagram(BUILDERS["nested_composites"](), depth=None),
    "nested, one step": lambda: mmlab.diagram(BUILDERS["nested_composites"](), step="Ensemble"),
    "dead_letters, one step": lambda: mmlab.diagram(BUILDERS["dead_letters"](), step="Model"),
}
PICTURES = {name: (lambda b=b: mmlab.diagram(b())) for name, b in BUILDERS.items()} | _OTHERS


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_well_formed_and_passive(name):
    GALLERY.mkdir(parents=True, exist_ok=True)
    picture = PICTURES[name]()
    picture.save(GALLERY / f"{name}.png")
    root = ElementTree.parse(picture.save(GALLERY / f"{name}.svg")).getroot()
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "title", "desc", "g", "polygon", "path", "polyline", "ellipse", "text"}
    names = {attribute for element in root.iter() for attribute in element.attrib}
    assert not [n for n in names if n.startswith("on") or "href" in n]
