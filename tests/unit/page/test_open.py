"""What can be dropped on the page without a run: logs of keys, replays, and what is neither."""

from __future__ import annotations

import json

import pytest

from mmlab.page.build import ReplayPage
from mmlab.page.content import run_content
from mmlab.page.renew import _FILE, _empty_page
from tests.unit.page import node
from tests.unit.page.runs import lru_run

OPEN = """
  import { contentOf, Unreadable } from "SCRIPTS/open.mjs";
  import { Manager } from "SCRIPTS/data.mjs";
  ---
  answer = given.map(([name, text, mapping]) => {
    try {
      const [content] = contentOf(name, text, mapping).managers;
      const manager = new Manager(content);
      const steps = [...Array(manager.length).keys()].map((i) => i + 1);
      return {
        keys: steps.map((step) => manager.keysOf(step)[0]),
        models: steps.map((step) => manager.models[manager.modelOf(step)].name),
        total: manager.total,
      };
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      return error.message;
    }
  });
"""


def opened(*files):
    return node.run(OPEN, [[*file, ""][:3] for file in files])


def test_logs_of_keys_in_every_form():
    keys = ["a", "b", "a", "c,d", 'say "e"']
    forms = [
        ("keys.txt", 'a\nb\na\n"c,d"\n"say ""e"""\n'),
        ("keys.csv", 'time,key\r\n1,a\r\n2,b\r\n3,a\r\n4,"c,d"\r\n5,"say ""e"""\r\n'),
        ("keys.jsonl", "\n".join(json.dumps({"key": key, "n": 1}) for key in keys)),
        ("keys.jsonl", "\n".join(map(json.dumps, keys))),
        ("keys.json", json.dumps(keys)),
        ("keys.csv", '\ufeffKey\na\nb\na\n"c,d"\n"say ""e"""'),
    ]
    for form, found in zip(forms, opened(*forms), strict=True):
        assert found == {"keys": keys, "models": keys, "total": 5}, form


def test_a_mapping_names_the_models():
    log = ("keys.txt", "a\nb\nc\n", "ONE: a, b\nTWO: c\n")
    assert opened(log)[0]["models"] == ["ONE", "ONE", "TWO"]


def test_numbers_as_keys():
    assert opened(("keys.jsonl", "1\n2\n1"))[0]["keys"] == ["1", "2", "1"]


def test_a_replay_as_data_and_as_page():
    content = run_content(lru_run(list("ABA"), 2))
    files = ("run.json", json.dumps(content)), ("run.html", ReplayPage(content).html)
    for found in opened(*files):
        assert found == {"keys": ["KA", "KB", "KA"], "models": list("ABA"), "total": 3}


def content_with(**changes):
    content = run_content(lru_run(list("ABA"), 2))
    content["managers"][0].update(changes)
    return json.dumps(content)


BAD = {
    "nothing": ("a.txt", " \n", "a.txt holds no keys."),
    "columns": ("a.csv", "x,y\n1,2", "a.csv has no column named key: its columns are x, y"),
    "json": ("a.json", "[1, 2", "a.json cannot be read: "),
    "unmapped": ("a.txt", "a\nb", "Line 2 has the key b, which the mapping does not name."),
    "format": ("a.json", '{"format":2,"managers":[]}', "a.json is no data of a replay"),
    "managers": ("a.json", '{"format":1,"managers":7}', "a.json is no data of a replay"),
    "models": ("a.json", content_with(models=[]), "a.json is no data of a replay"),
    "lengths": ("a.json", content_with(length=9), "a.json is no data of a replay"),
    "columns of times": ("a.json", content_with(begin="AA=="), "a.json is no data of a replay"),
    "base64": ("a.json", content_with(model="?"), "a.json is no data of a replay"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_get_a_sentence(name):
    file, text, sentence = BAD[name]
    [said] = opened((file, text, "ONE: a" if name == "unmapped" else ""))
    assert isinstance(said, str) and said.startswith(sentence), said


def test_the_file_in_the_package_is_up_to_date():
    assert _FILE.read_text("utf-8") == _empty_page(), "run python -m mmlab.page.renew"
