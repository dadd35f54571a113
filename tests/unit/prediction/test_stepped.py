"""What the page shows of a log of keys that nobody ran."""

from __future__ import annotations

import numpy as np
import pytest

import mmlab
from mmlab.page import content
from mmlab.prediction import stepped
from tests.unit.page import node
from tests.unit.prediction.oracle import visits_of

MAPPING = {"A": ["a"], "B": ["b", "bb"], "C": ["c"]}
KEYS = ["a", "b", "c", "bb", "a", "a", "c", "b", "bb", "c"]
MODEL = {key: model for model, keys in MAPPING.items() for key in keys}

READ = """
  import { Manager, Shown } from "SCRIPTS/data.mjs";
  ---
  answer = given.managers.map((content) => {
    const manager = new Manager(content);
    const steps = [...Array(manager.length).keys()].map((i) => i + 1);
    const shown = new Shown(manager, 2, false);
    return {
      name: manager.step,
      total: manager.total,
      models: steps.map((step) => manager.models[manager.modelOf(step)].name),
      keys: steps.map((step) => manager.keysOf(step)),
      elements: [...manager.elements],
      bytes: manager.models.map((model) => model.bytes),
      loads: shown.loads(manager.length),
      evictions: shown.evictions(manager.length),
    };
  });
"""


def read(prediction, first=1):
    totals = prediction.managers.visits.tolist()
    return node.run(READ, prediction.stepped.content(prediction.models, totals, first))


def test_accesses_keys_elements_and_sizes():
    prediction = mmlab.predict(KEYS, MAPPING, batch_size=4, sizes=[1, 2, 3])
    [found] = read(prediction)
    assert found["models"] == visits_of([MODEL[key] for key in KEYS], 4)
    assert found["keys"] == [["a"], ["b", "bb"], ["c"], ["a"], ["c"], ["b"], ["bb"], ["c"]]
    assert found["elements"] == [1, 2, 1, 2, 1, 1, 1, 1]
    assert found["bytes"] == [1, 2, 3]
    assert found["loads"] == prediction.at(2)["loads"]
    assert found["evictions"] == prediction.at(2)["evictions"]


def test_each_manager():
    prediction = mmlab.predict(KEYS * 5, MAPPING, workers=3)
    found = read(prediction)
    assert [each["total"] for each in found] == prediction.managers.visits.tolist()
    assert [len(each["models"]) for each in found] == [each["total"] for each in found]
    assert sum(each["loads"] for each in found) == prediction.at(2)["loads"]
    assert found[0]["name"] == "manager 1"


def test_a_recorded_trace():
    from tests.unit.page.runs import lru_run

    trace = lru_run(list("ABCABA"), 2)
    [found] = read(mmlab.predict(trace))
    assert found["models"] == list("ABCABA")
    assert found["loads"] == trace.summary().loads


def test_a_long_log_of_many_models_is_cut(monkeypatch):
    monkeypatch.setattr(content, "_MOST_MODELS", 20)
    keys = np.arange(1_000) % 50
    [found] = read(mmlab.predict(keys))
    assert (len(found["models"]), found["total"]) == (20, 1_000)
    assert len(found["bytes"]) == 20


def test_a_window_of_a_long_log(monkeypatch):
    """Keys are kept for the first elements, models for all."""
    monkeypatch.setattr(stepped, "_MOST_ELEMENTS", 6)
    monkeypatch.setattr(stepped, "MOST_ACCESSES", 4)
    prediction = mmlab.predict(KEYS, MAPPING, sizes=1)
    models = [MODEL[key] for key in KEYS]
    [found] = read(prediction, first=4)
    assert (found["models"], found["total"]) == (models[3:7], 10)
    assert found["keys"] == [["bb"], ["a"], ["a"], []]
    before, until = (mmlab.predict(KEYS[:n], MAPPING).at(2) for n in (3, 7))
    assert found["loads"] == until["loads"] - before["loads"]
    assert found["evictions"] == until["evictions"] - before["evictions"]
    assert repr(prediction.replay(first=10)).startswith("Replay of accesses 10 to 10 of 10 of")


def test_accesses_that_were_not_kept(monkeypatch):
    monkeypatch.setattr(stepped, "_MOST_ELEMENTS", 6)
    prediction = mmlab.predict(KEYS, MAPPING, optimum=False)
    assert read(prediction, first=6)[0]["keys"] == [["a"]]
    with pytest.raises(
        ValueError, match="^first is 7: of these accesses 6 were kept; predict with"
    ):
        prediction.replay(first=7)
    with pytest.raises(
        ValueError, match="^first must be the number of an access, up to 10, got 11"
    ):
        prediction.replay(first=11)


def test_it_says_that_nothing_was_run():
    page = mmlab.predict(KEYS, MAPPING).replay()
    assert repr(page) == "Replay of 10 accesses of 3 models, not run"
    assert "image/png" in page._repr_mimebundle_()[0]
