"""The README's index, the map of the code and the API reference agree with the package."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from pkgutil import resolve_name

import pdoc
import pdoc.render
import pytest

import mmlab
from tests.structure import LAYERS

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text("utf-8")
MAP = (ROOT / "mmlab/README.md").read_text("utf-8")
PAGES = sorted([ROOT / "README.md", ROOT / "mmlab/README.md", *(ROOT / "docs").glob("*.md")])
MAKEFILE = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", "")
REFERENCE = re.search(r"^REFERENCE := (.*)", MAKEFILE, re.MULTILINE)[1].split()


def test_the_index_has_every_public_name():
    index = README.partition("## The API on one screen")[2]
    assert set(re.findall(r"\bmmlab\.(\w+)", index)) == set(mmlab.__all__)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(mmlab(?:\.\w+)+)\(", README))))
def test_the_readme_names_calls_that_exist(name):
    assert callable(resolve_name(name))


def test_traces_have_what_the_index_names():
    for name in re.findall(r"`trace\.(\w+)", README):
        assert hasattr(mmlab.Trace, name), name


def test_the_map_has_every_package_in_the_order_of_the_layers():
    rows = re.findall(r"^\| (`.*?) \|", MAP, re.MULTILINE)
    named = [tuple(re.findall(r"`(\w+)`", row)) for row in rows]
    assert named == [layer for layer in LAYERS if layer != ("",)]


def test_what_the_map_names_exists():
    names = re.findall(r"`(mmlab(?:\.\w+)+)`", MAP)
    paths = re.findall(r"`((?:mmlab|tests|docs|notebooks)/[\w./]*)`", MAP)
    assert len(names) > 20 and len(paths) > 5
    for name in names:
        assert resolve_name(name) is not None
    for path in paths:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
        assert "://" in link or (page.parent / link).exists(), link


@pytest.mark.parametrize("name", [name for name in mmlab.__all__ if name != "lessons"])
def test_every_public_name_is_documented(name):
    value = getattr(mmlab, name)
    assert inspect.getdoc(value)
    if inspect.isclass(value) and value.__module__.startswith("mmlab."):
        for member, own in vars(value).items():
            if not member.startswith("_") and (inspect.isroutine(own) or isinstance(own, property)):
                assert inspect.getdoc(getattr(value, member)), f"{name}.{member}"


@pytest.mark.runs  # it takes seconds
def test_the_reference_builds(tmp_path):
    assert REFERENCE[:2] == ["mmlab", "!mmlab.lessons"]
    for name in REFERENCE[2:]:
        resolve_name(name)
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc("mmlab.fit", output_directory=tmp_path)
    page = (tmp_path / "mmlab/fit.html").read_text("utf-8")
    assert 'id="fit_hint"' in page
    assert "<h6" in page and "Arguments:" in page and "Raises:" in page  # sections, not plain text
