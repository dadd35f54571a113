"""No text crosses its border, in any script; each character that is drawn has a shape."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fontTools.ttLib import TTFont

import mmlab
from mmlab import fonts
from tests.unit.diagrams.pipelines import BUILDERS, SCRIPTS, many_keys, scripts_handler

SVG = "{http://www.w3.org/2000/svg}"
PICTURES = {
    "scripts": lambda: mmlab.diagram(BUILDERS["scripts"]()),
    "scripts, TB": lambda: mmlab.diagram(BUILDERS["scripts"](), direction="TB"),
    "mapping": lambda: mmlab.diagram(scripts_handler()),
    "many keys": lambda: mmlab.diagram(many_keys()),
    "hostile": lambda: mmlab.diagram(BUILDERS["hostile_labels"]()),
    "keyed": lambda: mmlab.diagram(BUILDERS["keyed"]()),
    "dead letters": lambda: mmlab.diagram(BUILDERS["dead_letters"]()),
}


@pytest.fixture(scope="module", params=PICTURES)
def root(request):
    return ElementTree.fromstring(PICTURES[request.param]().svg)


def _span(text: ElementTree.Element) -> tuple[float, float]:
    x, width = float(text.get("x")), float(text.get("textLength", 0))
    left = x - width / 2 if text.get("text-anchor") == "middle" else x
    left -= width if text.get("text-anchor") == "end" else 0
    return left, left + width


def _border(group: ElementTree.Element) -> tuple[float, float]:
    places: list[float] = []
    for shape in group.iter():
        numbers = re.findall(r"(-?[\d.]+),-?[\d.]+", shape.get("points") or shape.get("d") or "")
        places += map(float, numbers)
    return min(places), max(places)


def test_text_stays_in_its_box(root):
    boxes = 0
    for group in root.iterfind(f".//{SVG}g[@class='node']"):
        if group.find(f".//{SVG}path") is None and group.find(f".//{SVG}polygon") is None:
            continue
        left, right = _border(group)
        for text in group.iter(f"{SVG}text"):
            begin, end = _span(text)
            assert left + 1 < begin and end < right - 1, text.text
            boxes += 1
    assert boxes


def test_the_picture_is_wide_enough(root):
    left, _, width, _ = map(float, root.get("viewBox").split())
    [graph] = root.iterfind(f"{SVG}g")
    shift = float(re.search(r"translate\(([\d.]+)", graph.get("transform"))[1])
    for text in root.iter(f"{SVG}text"):
        begin, end = _span(text)
        assert left <= begin + shift and end + shift <= left + width, text.text


def test_every_character_has_a_shape_in_our_fonts(root):
    known = {code for file in fonts.files() for code in TTFont(file).getBestCmap()}
    words = "".join(text.text or "" for text in root.iter(f"{SVG}text"))
    assert {c for c in words if ord(c) not in known} == set()


def test_words_in_scripts_that_we_have_are_not_escaped():
    drawn = "".join(ElementTree.fromstring(mmlab.diagram(scripts_handler()).svg).itertext())
    for script in ("Hangul", "Han", "Kana", "Cyrillic", "Greek"):
        assert SCRIPTS[script] in drawn
    assert "<U+1F996>" in drawn


def test_the_families_of_the_svg_have_these_scripts_on_each_system():
    svg = mmlab.diagram(scripts_handler()).svg
    families = re.search(r'<svg[^>]* font-family="([^"]*)"', svg)[1].split(", ")
    for windows, mac, linux in (
        ("Malgun Gothic", "Apple SD Gothic Neo", "Noto Sans CJK KR"),
        ("Microsoft YaHei", "PingFang SC", "Noto Sans CJK KR"),
        ("Yu Gothic", "Hiragino Sans", "Noto Sans CJK KR"),
    ):
        assert {windows, mac, linux} <= set(families)
    assert families[0] == "Arial" and families[-1] == "sans-serif"
    assert svg.count("font-family") == 1


# The fonts


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("regular", "sans.ttf"),
        ("bold", "sans-bold.ttf"),
        ("wide", "sans-cjk.otf"),
    ],
)
def test_widths_are_those_of_the_fonts(name, file):
    font = TTFont(fonts.HERE / f"mmlab-{file}")
    unit = font["head"].unitsPerEm
    for code, glyph in list(font.getBestCmap().items())[::37]:
        known = fonts._advance(chr(code), name)
        assert known == -(-font["hmtx"][glyph][0] * 1000 // unit)


def test_widths_of_matplotlibs_font_are_known():
    import matplotlib

    font = TTFont(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    for code, glyph in list(font.getBestCmap().items())[::37]:
        wide = -(-font["hmtx"][glyph][0] * 1000 // font["head"].unitsPerEm)
        assert fonts._advance(chr(code), "dejavu") == wide


@pytest.mark.parametrize("codec", ["euc_kr", "shift_jis", "gb2312", "iso8859_5", "iso8859_7"])
def test_all_letters_of_the_national_standards_can_be_drawn(codec):
    pairs = [bytes((a, b)) for a in range(0x81, 0xFF) for b in range(0x40, 0xFF)]
    text = {c for pair in pairs for c in pair.decode(codec, "ignore") if c.isalpha()}
    assert len(text) > 60
    assert {c for c in text if "<U+" in fonts.drawable(c)} == set()


@pytest.mark.parametrize("name", ["mmlab-sans", "mmlab-sans-cjk"])
def test_licences_lie_beside_the_fonts(name):
    text = (fonts.HERE / f"{name}.LICENSE").read_text()
    assert "SIL OPEN FONT LICENSE" in text


def test_the_fonts_are_small():
    assert sum(path.stat().st_size for path in fonts.HERE.iterdir() if path.is_file()) < 6_000_000
