"""The folded answers of lesson 05 are those that a prediction gives."""

from __future__ import annotations

import re

import mmlab
from mmlab.explorer.setting import Setting
from tests.integration.lessons import notebook

PATH = notebook.FOLDER / "05_explorer.ipynb"
TASK = re.compile(
    r"\*\*(\d)\. [^*]+\*\*.+?<details><summary>Answer</summary>\s*(.+?)\s*</details>", re.S
)


def answers():
    text = "\n".join(c.source for c in notebook.cells(PATH) if c.cell_type == "markdown")
    return {int(number): " ".join(answer.split()) for number, answer in TASK.findall(text)}


def loads(**setting):
    """Loads of hints 1, 2, 3, …"""
    one = Setting(**setting)
    mapping = {model: list(keys) for model, keys in one.mapping.items()}
    return list(mmlab.predict(one.keys(), mapping, batch_size=one.batch_size).table()["loads"])


def test_each_task_has_a_folded_answer():
    assert list(answers()) == [1, 2, 3, 4, 5, 6, 7]


def test_the_cliff():
    assert loads(models=8) == [32] * 7 + [8]
    assert "8. Hints 1 to 7 all need 32 loads, hint 8 needs 8." in answers()[1]
    assert loads()[:3] == [32] * 3


def test_skewed_keys():
    assert loads(order="skewed") == [37, 17, 9, 4]
    assert "hints 1 to 4 need 37, 17, 9 and 4 loads" in answers()[2]


def test_batches():
    few, many = loads(order="random", batch_size=8)[1], loads(order="random")[1]
    assert f"{few} instead of {many}." in answers()[3]
