"""Predictions equal an ordered dict per hint, and Belady by brute force."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmlab
from mmlab import lru
from mmlab.prediction import batches, belady
from mmlab.prediction.routing import by_name, sprayed
from tests.lanes import examples
from tests.unit.prediction.oracle import fewest_loads, visits_of
from tests.unit.prediction.oracle import lru as one_lru

SIZES = [1, 2, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025, 4096, 4097, 40_000]
ENGINES = [lru.SortedDepths] + ([lru.BitDepths] if lru.IS_FAST else [])


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
    at_key = dict(zip(model_of, by_name(list(model_of), managers, case["seed"]), strict=True))
    names = list(case["mapping"])
    at_model = dict(zip(names, by_name(names, managers, case["seed"]), strict=True))
    draws = sprayed(0, len(case["keys"]), managers, case["seed"])
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
    fewest = belady.fewest_loads(np.array(visits), 5)
    assert fewest.tolist() == [fewest_loads(visits, room) for room in range(1, 6)]


@pytest.mark.parametrize("engine", ENGINES)
@examples("predictions", suite=30, full=800)
@given(st.data())
def test_engines_count_depths_whatever_the_pieces(engine, data):
    models = data.draw(st.sampled_from([1, 3, 40, 63, 64, 65, 300, 1023, 1024, 1025, 1500, 5000]))
    seed, n = data.draw(st.integers(0, 99)), data.draw(st.sampled_from([0, 1, 3000, 11_003]))
    rng = np.random.default_rng(seed)
    drawn = (models * rng.random(n) ** data.draw(st.sampled_from([1, 4]))).astype(np.int32)
    visits = np.repeat(drawn, data.draw(st.sampled_from([1, 1, 2, 16])))[:n]
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=4)))
    depths = engine(data.draw(st.sampled_from([0, models])))
    for piece in np.split(visits, cuts):
        depths.grow(int(piece.max(initial=-1)) + 1)
        depths.feed(piece)
    depths.grow(models)
    for room in {1, models // 2 + 1, models}:
        assert depths.loads(models)[room - 1] == one_lru(visits.tolist(), room)[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("models", SIZES)
def test_engines_at_the_sizes_where_their_tables_grow(engine, models):
    rng = np.random.default_rng(models)
    visits = np.concatenate([np.arange(models), rng.integers(0, models, 3 * models + 5000)])
    depths = engine(models)
    for piece in np.array_split(visits.astype(np.int32), 3):
        depths.feed(piece)
    last = {}
    expected = np.zeros(models + 1, int)
    for t, model in enumerate(visits[: models + 400].tolist()):
        if model in last:
            expected[len(set(visits[last[model] : t].tolist()))] += 1
        last[model] = t
    short = engine(models)
    short.feed(visits[: models + 400].astype(np.int32))
    assert short.counts.tolist() == expected.tolist()
    others = [other for other in ENGINES if other is not engine]
    for other in others:
        twin = other(models)
        twin.feed(visits.astype(np.int32))
        assert twin.counts.tolist() == depths.counts.tolist()


@pytest.mark.skipif(not lru.IS_FAST, reason="compares the compiled engine with the other one")
@examples("predictions", suite=5, full=300)
@given(
    st.lists(st.integers(1, 1100), min_size=1, max_size=5),
    st.sampled_from([1, 2, 5]),
    st.sampled_from([1, 3, 11, 500]),
    st.integers(0, 99),
)
def test_engines_agree_on_full_lines_while_models_are_added(stages, run, pieces, seed):
    rng = np.random.default_rng(seed)
    twins = [engine() for engine in ENGINES]
    for models in stages:
        visits = np.repeat(rng.integers(0, models, 20_000 // run, np.int32), run)
        for depths in twins:
            depths.grow(models)
            for piece in np.array_split(visits, pieces):
                depths.feed(piece)
    one, other = twins
    assert one.first == other.first
    assert one.counts.tolist() == other.counts.tolist()


@pytest.mark.runs
def test_the_answer_is_the_same_without_numba():
    """In a process of its own, where numba cannot be imported."""
    code = """
import sys
{block}
import numpy as np, mmlab
from mmlab.lru import IS_FAST
rng = np.random.default_rng(7)
keys = rng.integers(0, 30, 5000)
p = mmlab.predict(keys, batch_size=3, workers=2, sizes={{str(i): i * i for i in range(30)}})
print(IS_FAST, file=sys.stderr)
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
    cutter = batches.Batches(size)
    found = [
        visit
        for piece in np.split(np.array(models, np.int32), cuts)
        for visit in cutter.visits(piece, 10).tolist()
    ]
    assert found == visits_of(models, size)
