"""The page as a file: what is in it, and that nothing in a trace can leave its place there."""

from __future__ import annotations

import json
import re

import pytest

from mmlab.page.build import _MODULES, _embedded, _script
from tests.unit.page import node
from tests.unit.page.runs import lru_run

HOSTILE = ["</script>", "<!--", "]]>", "a\u2028b\u2029", "\ud800", "http://example.com/", "&lt;"]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_in_its_element(text):
    written = _embedded({"name": text})
    assert json.loads(written) == {"name": text}
    assert not re.search(r"[<>&\u2028\u2029]|://", written)
    assert node.run("answer = JSON.parse(given).name === JSON.parse(given).name;", written)


def test_numbers_that_json_does_not_have_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        _embedded({"seconds": float("nan")})


def test_the_script_is_whole():
    assert not re.search(r"^(import|export) ", _script(), re.MULTILINE)
    assert {path.stem for path in node.SCRIPTS.glob("*.mjs")} == set(_MODULES)


def test_no_name_stands_twice_in_the_script():
    declared = re.findall(r"^(?:function|class|const|let) (\w+)", _script(), re.MULTILINE)
    assert len(declared) == len(set(declared))


def test_every_text_is_used_and_there():
    source = _script() + (node.SCRIPTS / "template.html").read_text("utf-8")
    texts = node.SCRIPTS / "texts.mjs"
    table = re.findall(r"^  (\w+):", texts.read_text("utf-8").partition("\n};")[0], re.MULTILINE)
    said = set(re.findall(r'(?:say|pieces)\(\s*"(\w+)"', source))
    said |= set(re.findall(r'data-(?:text|label)="(\w+)"', source))
    assert said <= set(table)


def test_the_same_run_gives_the_same_page(tmp_path):
    one, other = (lru_run(list("ABCA"), 2).replay() for _ in range(2))
    assert one.html == other.html
    assert one.save(tmp_path / "run.html").read_text("utf-8") == one.html


def test_a_path_that_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="path must be in a folder that exists"):
        lru_run(["A"], 1).replay().save(tmp_path / "missing" / "run.html")
