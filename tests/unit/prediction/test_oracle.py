"""Predictions equal an ordered dict per hint, and Belady by brute force."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmlab
from mmlab import lru
from mmlab.prediction.workload import Asked, _by_name, _sprayed
from tests.fixtures.lru_vectors import FILE
from tests.lanes import examples
from tests.unit.prediction.oracle import fewest_loads, visits_of
from tests.unit.prediction.oracle import lru as one_lru

VECTORS = json.loads(FILE.read_text("utf-8"))
MODES = [pytest.param(True, id="compiled"), pytest.param(False, id="Python")]


@pytest.fixture(params=MODES if lru._IS_FAST else MODES[1:])
def compiled(request, monkeypatch):
    """Loops in machine code, and as Python runs them without numba."""
    if not request.param:
        monkeypatch.setattr(lru, "_IS_FAST", False)
        for name in ("_walk", "_next_uses", "_count", "_ones", "_first_in_batch"):
            loop = getattr(lru, name)
            monkeypatch.setattr(lru, name, getattr(loop, "py_func", loop))


@st.composite
def fleets(draw):
    models = draw(st.integers(1, 9))
    keys_each = draw(st.lists(st.integers(1, 3), min_size=models, max_size=models))
    numbers = iter(range(100))
    mapping = {f"m{i}": [f"K{next(numbers)}" for _ in range(n)] for i, n in enumerate(keys_each)}
    every_key = [key for keys in mapping.values() for key in keys]
    return {
        "keys": draw(st.lists(st.sampled_from(every_key), min_size=1, max_size=60)),
        "mapping": mapping,
        "sizes": {name: draw(st.integers(0, 50)) for name in mapping},
        "batch_size": draw(st.integers(1, 7)),
        "copies": draw(st.integers(1, 3)),
        "workers": draw(st.integers(1, 3)),
        "processes": draw(st.integers(1, 2)),
        "routing": draw(st.sampled_from(["spray", "by_key", "by_model"])),
        "seed": draw(st.integers(0, 3)),
    }


def dealt(case):
    """The keys that each manager gets, by the documented draws, and after a GroupByKey."""
    managers = case["workers"] * case["processes"]
    model_of = {key: name for name, keys in case["mapping"].items() for key in keys}
    at_key = dict(zip(model_of, _by_name(list(model_of), managers, case["seed"]), strict=True))
    names = list(case["mapping"])
    at_model = dict(zip(names, _by_name(names, managers, case["seed"]), strict=True))
    draws = _sprayed(0, len(case["keys"]), managers, case["seed"])
    where = {
        "spray": lambda i, key: draws[i],
        "by_key": lambda i, key: at_key[key],
        "by_model": lambda i, key: at_model[model_of[key]],
    }[case["routing"]]
    parts = [[] for _ in range(managers)]
    groups = [{} for _ in range(managers)]
    for i, key in enumerate(case["keys"]):
        parts[where(i, key)].append(model_of[key])
        groups[at_key[key]].setdefault(key, []).append(model_of[key])
    grouped = [[m for models in each.values() for m in models] for each in groups]
    return parts, grouped


@examples("predictions", suite=150, full=6000)
@given(fleets())
def test_equal_to_an_ordered_dict_per_hint(case):
    keys, mapping = case["keys"], case["mapping"]
    options = {name: case[name] for name in case if name not in ("keys", "mapping")}
    prediction = mmlab.predict(keys, mapping, **options)
    parts, grouped = dealt(case)
    visits = [visits_of(part, case["batch_size"]) for part in parts]
    grouped = [visits_of(part, case["batch_size"]) for part in grouped]
    assert prediction.visits == sum(map(len, visits))
    assert prediction.models_seen == len({m for part in parts for m in part})
    each = prediction.managers
    for hint in range(1, len(mapping) + 1):
        room = hint * case["copies"]
        runs = [one_lru(part, room, case["sizes"]) for part in visits]
        loads, evictions, most = (list(column) for column in zip(*runs, strict=True))
        row = prediction.at(hint)
        assert row["loads"] == sum(loads)
        assert row["evictions"] == sum(evictions)
        assert row["model bytes"] == max(most)
        assert row["after GroupByKey"] == sum(one_lru(part, room)[0] for part in grouped)
        column = min(room, len(mapping)) - 1
        assert each.loads[:, column].tolist() == loads
        assert each.evictions[:, column].tolist() == evictions
        assert each.bytes[:, column].tolist() == most
        machines = np.array(most).reshape(-1, case["processes"])
        assert prediction.machine_bytes[hint - 1] == machines.sum(axis=1).max()
    assert each.elements.tolist() == [len(part) for part in parts]
    assert (prediction.optimum <= prediction.loads).all()


@examples("predictions", suite=80, full=2000)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=14))
def test_the_optimum_equals_belady_by_brute_force(visits):
    fewest = lru.fewest_loads(np.array(visits), 5)
    assert fewest.tolist() == [fewest_loads(visits, room) for room in range(1, 6)]


def pieces_of(accesses, cuts):
    found = lru.StackDistances()
    for piece in np.split(accesses, cuts):
        found = found.after(piece)
    return found


@examples("predictions", suite=30, full=800)
@given(st.data())
def test_distances_are_those_of_an_ordered_dict_whatever_the_pieces(data):
    models = data.draw(st.sampled_from([1, 3, 31, 32, 33, 300, 1025, 5000]))
    seed, n = data.draw(st.integers(0, 99)), data.draw(st.sampled_from([0, 1, 3000, 11_003]))
    rng = np.random.default_rng(seed)
    drawn = (models * rng.random(n) ** data.draw(st.sampled_from([1, 4]))).astype(np.int32)
    accesses = np.repeat(drawn, data.draw(st.sampled_from([1, 1, 2, 16])))[:n]
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=4)))
    found = pieces_of(accesses, cuts)
    assert found.stack.tolist() == list(dict.fromkeys(accesses[::-1].tolist()))[::-1]
    for capacity in {1, models // 2 + 1, models}:
        assert found.loads(models)[capacity - 1] == one_lru(accesses.tolist(), capacity)[0]


@pytest.mark.parametrize("models", [1, 2, 31, 32, 33, 64, 1000, 4096, 4097])
def test_the_tree_and_the_list_count_the_same_distances(models):
    """Over several lines of the tree: the list walks all accesses at once."""
    rng = np.random.default_rng(models)
    drawn = (models * rng.random(6 * lru._LINE) ** 6).astype(np.int32)
    accesses = np.concatenate([np.arange(models, dtype=np.int32), drawn])
    found = pieces_of(accesses, [5, len(accesses) // 2])
    by_list, _ = lru._walked(accesses, -np.arange(len(accesses)), np.zeros(0, int), models)
    assert found.counts.tolist() == by_list.tolist()


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_vectors_that_the_page_is_held_to(vector, compiled):
    names = list(dict.fromkeys(vector["accesses"]))
    accesses = np.array([names.index(name) for name in vector["accesses"]], np.int32)
    found = lru.StackDistances().after(accesses)
    loads, optimum = found.loads(len(names)), lru.fewest_loads(accesses, len(names))
    bytes_of_ones = lru.most_bytes(accesses, np.ones(len(names), np.int64))
    for under in vector["limits"]:
        capacity = min(under["limit"] or len(names), len(names))
        assert loads[capacity - 1] == under["loads"]
        assert optimum[capacity - 1] == under["optimum"]
        assert bytes_of_ones[capacity - 1] == len(under["order"])
        assert [names[i] for i in found.stack[-capacity:]] == under["order"]


@pytest.mark.runs
def test_the_answer_is_the_same_without_numba():
    """In a process of its own, where numba cannot be imported."""
    code = """
import sys
{block}
import numpy as np, mmlab
from mmlab.lru import _IS_FAST
rng = np.random.default_rng(7)
keys = rng.integers(0, 30, 5000)
p = mmlab.predict(keys, batch_size=3, workers=2, sizes={{str(i): i * i for i in range(30)}})
print(_IS_FAST, file=sys.stderr)
print(p.table().to_csv(), p.per_worker(3).to_csv())
"""
    said = []
    for block in ("", "sys.modules['numba'] = None"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(block=block)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert "False" in done.stderr
    assert said[0] == said[1]


@examples("predictions", suite=80, full=1500)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=80), st.integers(1, 9), st.data())
def test_batches_are_cut_alike_whatever_the_pieces(models, size, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(models)), max_size=4)))
    asked = Asked()
    for piece in np.split(np.array(models, np.int32), cuts):
        asked = asked.after_elements(piece, size, keep=True)
    assert asked.ended(keep=True).accesses.tolist() == visits_of(models, size)
