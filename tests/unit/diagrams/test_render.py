"""The Diagram object: how it shows itself, and how it is saved."""

from __future__ import annotations

import io
import stat
import struct
from types import SimpleNamespace
from xml.etree import ElementTree

import apache_beam as beam
import pytest
from apache_beam.ml.inference.base import RunInference
from PIL import Image

import mmlab
from mmlab.diagrams import GraphvizError, engine
from tests.unit.diagrams.pipelines import (
    BUILDERS,
    keyed_handler,
    long_chain,
    new_pipeline,
    torch_handler,
)

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def keyed() -> mmlab.Diagram:
    return mmlab.diagram(BUILDERS["keyed"]())


def test_a_notebook_gets_svg_png_and_text(keyed):
    """And no HTML: GitHub would prefer it, and then remove the SVG from it."""
    data, metadata = keyed._repr_mimebundle_()
    assert set(data) == {"image/svg+xml", "image/png", "text/plain"}
    assert metadata["image/png"]["alt"] == metadata["image/svg+xml"]["alt"] == keyed.alt
    assert 0 < metadata["image/png"]["width"] <= 1200


def test_in_a_notebook_the_page_shines_through_the_paper(keyed):
    shown = keyed._repr_mimebundle_()[0]["image/svg+xml"]
    assert shown.count('fill="#ffffff"') == shown.count('fill="#ffffff" fill-opacity="0.87"') == 1
    assert "fill-opacity" not in keyed.svg and "fill-opacity" not in keyed.html


def test_only_what_is_asked_for(keyed):
    assert set(keyed._repr_mimebundle_(include=["text/plain"])[0]) == {"text/plain"}
    assert "image/png" not in keyed._repr_mimebundle_(exclude=["image/png"])[0]


def test_the_svg_has_a_name_and_a_description(keyed):
    root = ElementTree.fromstring(keyed.svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == keyed.alt == root.find(f"{SVG}title").text
    assert "KEY_2, KEY_3 -> model config_2" in root.find(f"{SVG}desc").text


def test_tooltips_hold_the_whole_name(keyed):
    titles = [t.text or "" for t in ElementTree.fromstring(keyed.svg).iter(f"{SVG}title")]
    assert any("models/config_4.pt" in title for title in titles)
    assert not [title for title in titles if title in ("s0", "s0->s1", " ")]


def test_the_picture_scrolls_before_it_gets_unreadable():
    wide = mmlab.diagram(long_chain(40))
    assert wide._repr_mimebundle_()[1]["image/svg+xml"]["unconfined"]
    html = wide.html
    assert "overflow-x:auto" in html
    assert int(html.split("min-width:")[1].split("px")[0]) > 2000


def test_a_small_picture_fits_the_notebook(keyed):
    assert not keyed._repr_mimebundle_()[1]["image/svg+xml"]["unconfined"]


def test_the_outline_is_what_a_terminal_shows(keyed):
    assert str(keyed) == keyed.outline == keyed._repr_mimebundle_()[0]["text/plain"]
    assert keyed.outline.splitlines() == [
        "Pipeline: 3 steps, 4 models",
        "- Read [Create]",
        "    -> Inference",
        "- Inference [RunInference]",
        "    max_models_per_worker_hint=2",
        "    KEY_1 -> model config_1 (PytorchModelHandlerTensor, models/config_1.pt, cpu)",
        "    KEY_2, KEY_3 -> model config_2 (PytorchModelHandlerTensor, models/config_2.pt, cpu)",
        "    KEY_4 -> model config_3 (PytorchModelHandlerTensor, models/config_3.pt, cpu)",
        "    KEY_5, KEY_6 -> model config_4 (PytorchModelHandlerTensor, models/config_4.pt, cpu)",
        "    -> Show",
        "- Show [Map(print)]",
    ]


def test_alt_text(keyed):
    assert keyed.alt == (
        "Diagram of a pipeline with 3 steps and 4 models: config_1, config_2, config_3, config_4."
    )
    assert mmlab.diagram(keyed_handler()).alt.startswith(
        "Diagram of a key mapping: KEY_1 use config_1; KEY_2, KEY_3 use config_2;"
    )
    assert mmlab.diagram(torch_handler("digits")).alt.endswith("one model: digits.")


# Files


@pytest.mark.parametrize(
    ("ending", "start"),
    [
        (".svg", b"<?xml"),
        (".png", b"\x89PNG"),
        (".dot", b"digraph"),
        (".SVG", b"<?xml"),
    ],
)
def test_save(keyed, tmp_path, ending, start):
    path = keyed.save(tmp_path / f"한글 picture{ending}")
    assert path.read_bytes().startswith(start)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) & 0o400


@pytest.mark.parametrize("name", ["x.gif", "x", "x.svg.gz", ".svg", "x.pdf"])
def test_other_endings_are_refused(keyed, tmp_path, name):
    with pytest.raises(ValueError, match=r"\.svg, \.png or \.dot"):
        keyed.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_failed_save_leaves_the_old_file(keyed, tmp_path, monkeypatch):
    def fail(*_):
        raise GraphvizError("no")

    monkeypatch.setattr(engine, "png", fail)
    path = tmp_path / "x.png"
    path.write_text("old")
    with pytest.raises(GraphvizError):
        keyed.save(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


def test_a_png_for_a_notebook_is_not_too_wide():
    width, height = struct.unpack(">II", mmlab.diagram(long_chain(40)).png[16:24])
    assert 1790 <= width <= 1800
    assert height > 10


@pytest.mark.parametrize("name", ["ab_branches", "keyed", "dead_letters"])
def test_a_png_is_opaque_up_to_its_border(name):
    """In a dark theme, what is not would be a line along the border."""
    picture = Image.open(io.BytesIO(mmlab.diagram(BUILDERS[name]()).png)).convert("RGBA")
    assert picture.getchannel("A").getextrema() == (255, 255)


@pytest.mark.runs
def test_500_steps():
    assert mmlab.diagram(long_chain(500)).svg.count('class="node"') == 500


# What can be drawn


@pytest.mark.parametrize("subject", ["pipeline", None, 3, object(), [keyed_handler]])
def test_other_things_are_refused(subject):
    with pytest.raises(TypeError, match="a beam.Pipeline, a ModelHandler or the result"):
        mmlab.diagram(subject)


@pytest.mark.runs
def test_near_misses_get_a_hint():
    p = new_pipeline()
    with pytest.raises(TypeError, match=r"use diagram\(pcollection.pipeline\)"):
        mmlab.diagram(p | beam.Create([1]))
    with pytest.raises(TypeError, match="give the handler"):
        mmlab.diagram(RunInference(torch_handler("x")))
    with pytest.raises(TypeError, match="got the class"):
        mmlab.diagram(beam.Pipeline)
    with pytest.raises(TypeError, match=r"an unwatched run: use diagram\(pipeline, trace="):
        mmlab.diagram(p.run())


def test_a_watched_result():
    trace = SimpleNamespace(per_model=list, element_counts={"Read/Map(decode)": 7}, dead_letters={})
    result = SimpleNamespace(trace=trace, pipeline=BUILDERS["keyed"]())
    assert "<B> 7 </B>" in mmlab.diagram(result).dot


def test_direction_is_checked():
    with pytest.raises(ValueError, match='"LR" or "TB"'):
        mmlab.diagram(new_pipeline(), direction="RL")
