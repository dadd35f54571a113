"""The page's script and `predict` give what naive code found: `tests/fixtures/lru.json`."""

from __future__ import annotations

import json

import pytest

import mmlab
from tests.fixtures.lru_vectors import FILE, text
from tests.unit.page import node

VECTORS = json.loads(FILE.read_text("utf-8"))


def test_the_file_is_what_the_naive_code_makes():
    assert FILE.read_text("utf-8") == text()


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_predict(vector):
    prediction = mmlab.predict(vector["accesses"])
    for under in vector["limits"]:
        limit = under["limit"]
        hint = None if limit is None or limit > len(prediction.models) else limit
        found = prediction.at(hint)
        assert found["loads"] == under["loads"]
        assert found["evictions"] == under["evictions"]
        assert found["optimum"] == under["optimum"]


ENGINE = """
  import { Accesses } from "SCRIPTS/engine.mjs";
  ---
  answer = given.map(({ accesses, limits }) => {
    const names = [...new Set(accesses)];
    const last = accesses.length;
    const them = new Accesses(accesses.map((name) => names.indexOf(name)), names.length);
    return limits.map(({ limit }) => ({
      limit,
      loads: them.loads(last, limit),
      evictions: them.evictions(last, limit),
      order: them.stack(last).slice(0, them.held(last, limit)).reverse().map((m) => names[m]),
      optimum: them.optimum(limit),
      total: them.total(limit),
    }));
  });
"""


def test_the_script():
    for vector, found in zip(VECTORS, node.run(ENGINE, VECTORS), strict=True):
        for under, of_script in zip(vector["limits"], found, strict=True):
            assert of_script.pop("total") == under["loads"], vector["name"]
            assert of_script == under, vector["name"]


EVERY_STEP = """
  import { Accesses } from "SCRIPTS/engine.mjs";
  ---
  answer = given.map(({ accesses, limits }) => {
    const names = [...new Set(accesses)];
    const them = new Accesses(accesses.map((name) => names.indexOf(name)), names.length);
    return limits.map(({ limit }) => accesses.map((_, i) => {
      const out = them.evicted(i + 1, limit);
      return [them.isHit(i + 1, limit), out < 0 ? null : names[out]];
    }));
  });
"""


def test_what_each_step_evicts():
    for vector, found in zip(VECTORS, node.run(EVERY_STEP, VECTORS), strict=True):
        for under, steps in zip(vector["limits"], found, strict=True):
            memory = []
            for model, (hit, evicted) in zip(vector["accesses"], steps, strict=True):
                assert hit == (model in memory)
                full = not hit and len(memory) == under["limit"]
                assert evicted == (memory[0] if full else None)
                memory = [other for other in memory if other not in (model, evicted)] + [model]
