"""Keys of every kind give one answer; bad ones a sentence with the position and the fix."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping

import mmlab
from mmlab import WatchRunner
from tests.handlers import NamedModels, keyed, run_keyed

KEYS = [f"KEY_{i % 5 % 4}" for i in range(23)]
MAPPING = {"a": ["KEY_0"], "b": ["KEY_1", "KEY_2"], "c": ["KEY_3"], "idle": ["KEY_9"]}


def columns(tmp_path):
    frame = pd.DataFrame({"key": KEYS, "n": range(len(KEYS))})
    frame.to_csv(tmp_path / "keys.csv", index=False)
    frame.to_csv(tmp_path / "keys.csv.gz", index=False)
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "keys.parquet", row_group_size=5)
    (tmp_path / "folder").mkdir()
    for i in range(2):
        part = frame[: len(KEYS) // 2] if i == 0 else frame[len(KEYS) // 2 :]
        pq.write_table(pa.Table.from_pandas(part), tmp_path / "folder" / f"{i}.parquet")
    return {
        "list": KEYS,
        "tuple": tuple(KEYS),
        "generator": (key for key in KEYS),
        "numpy text": np.array(KEYS),
        "numpy objects": np.array(KEYS, object),
        "series": frame["key"],
        "series with another index": frame.set_index("n")["key"],
        "categorical": frame["key"].astype("category"),
        "pandas strings": frame["key"].astype("string"),
        "index": pd.Index(KEYS),
        "frame": frame,
        "arrow": pa.array(KEYS),
        "arrow chunks": pa.chunked_array([KEYS[:7], KEYS[7:]]),
        "arrow dictionary": pa.array(KEYS).dictionary_encode(),
        "arrow table": pa.Table.from_pandas(frame),
        "csv": tmp_path / "keys.csv",
        "csv.gz": str(tmp_path / "keys.csv.gz"),
        "parquet": tmp_path / "keys.parquet",
        "folder": tmp_path / "folder",
    }


def test_every_kind_of_keys_gives_the_same_answer(tmp_path):
    expected = mmlab.predict(KEYS, MAPPING, batch_size=2).table()
    for kind, keys in columns(tmp_path).items():
        found = mmlab.predict(keys, MAPPING, batch_size=2).table()
        pd.testing.assert_frame_equal(found, expected, obj=kind)


def test_every_kind_of_mapping_gives_the_same_answer():
    handlers = {name: NamedModels(name) for name in MAPPING}
    pairs = [KeyModelMapping(keys, handlers[name]) for name, keys in MAPPING.items()]
    by_key = {key: name for name, keys in MAPPING.items() for key in keys}
    expected = mmlab.predict(KEYS, MAPPING).table()
    for mapping in (pairs, KeyedModelHandler(pairs), by_key):
        pd.testing.assert_frame_equal(mmlab.predict(KEYS, mapping).table(), expected)


def test_keys_that_are_no_text(tmp_path):
    numbers = [3, 1, 3, 2, 1]
    assert mmlab.predict(numbers).models == ("3", "1", "2")
    assert mmlab.predict(np.array(numbers)).models == ("3", "1", "2")
    assert mmlab.predict([("eu", 1), ("us", 1), ("eu", 1)]).at(1)["loads"] == 3
    pd.DataFrame({"key": ["007", "7", "007"]}).to_csv(tmp_path / "agents.csv", index=False)
    assert mmlab.predict(tmp_path / "agents.csv").models == ("007", "7")
    pd.DataFrame({"key": numbers}).to_csv(tmp_path / "numbers.csv", index=False)
    mapping = {"low": [1, 2], "high": [3]}
    assert mmlab.predict(tmp_path / "numbers.csv", mapping).at(1)["loads"] == 4


BAD_KEYS = [
    ([], ValueError, "keys must have at least one key, got none"),
    (np.array([]), ValueError, "keys must have at least one key, got none"),
    (["a", "b", None, "a"], ValueError, r"keys\[2\] is missing .* drop such elements"),
    (["a", math.nan], ValueError, r"keys\[1\] is missing"),
    (np.array([1.0, 2.0, math.nan]), ValueError, r"keys\[2\] is missing"),
    (pd.Series(["a", pd.NA], dtype="string"), ValueError, r"keys\[1\] is missing"),
    (pa.array(["a", "b", None]), ValueError, r"keys\[2\] is missing"),
    (pa.array([1.0, math.nan]), ValueError, r"keys\[1\] is missing"),
    ([["a"], ["b"]], TypeError, r"keys\[0\] is \['a'\], which cannot be a key.* hashable"),
    (np.zeros((3, 2)), ValueError, r"shape \(3, 2\): give one,"),
    ({"a", "b"}, TypeError, "in the order of the elements"),
    (7, TypeError, "in the order of the elements"),
    ("no/such/file.parquet", FileNotFoundError, "there is no file no/such/file.parquet"),
]


@pytest.mark.parametrize(("keys", "error", "says"), BAD_KEYS)
def test_bad_keys(keys, error, says):
    with pytest.raises(error, match=says):
        mmlab.predict(keys)


def test_the_position_counts_from_the_first_key_of_all(monkeypatch):
    monkeypatch.setattr("mmlab.prediction.keys._PIECE", 10)
    with pytest.raises(ValueError, match=r"keys\[25\] is missing"):
        mmlab.predict([*"ab" * 12, "a", None])
    with pytest.raises(ValueError, match=r"keys\[24\] is 'x', which no mapping names: add it"):
        mmlab.predict([*"ab" * 12, "x"], {"m": ["a", "b"]})
    with pytest.raises(ValueError, match=r"begins with 'a': give the keys alone"):
        mmlab.predict([("a", 1), ("b", 2)], {"m": ["a", "b"]})


def test_bad_files(tmp_path):
    paths = {name: tmp_path / name for name in ("a.csv", "a.parquet", "a.txt", "bad.parquet")}
    frame = pd.DataFrame({"scanner": ["x", "y", None], "n": [1, 2, 3]})
    frame.to_csv(paths["a.csv"], index=False)
    frame.to_parquet(paths["a.parquet"])
    for path in (paths["a.txt"], paths["bad.parquet"]):
        path.write_text("nothing")
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(ValueError, match="no column 'key': it has scanner, n"):
            mmlab.predict(paths[name], column="key")
        with pytest.raises(ValueError, match="say which column .* scanner, n"):
            mmlab.predict(paths[name])
        with pytest.raises(ValueError, match=f"{name}, row 2 of column 'scanner' is missing"):
            mmlab.predict(paths[name], column="scanner")
    with pytest.raises(ValueError, match=r"ends in \.txt: give \.parquet, \.csv or \.csv\.gz"):
        mmlab.predict(paths["a.txt"])
    with pytest.raises(ValueError, match="cannot be read as parquet"):
        mmlab.predict(paths["bad.parquet"])
    with pytest.raises(ValueError, match="column must be None for keys without columns"):
        mmlab.predict(KEYS, column="key")


BAD_OPTIONS = [
    ({"batch_size": 0}, ValueError, "batch_size must be a whole number, 1 or more, got 0"),
    ({"workers": 1.5}, TypeError, "workers must be a whole number, 1 or more, got 1.5"),
    ({"copies": -1}, ValueError, "copies must be .* got -1"),
    ({"routing": "random"}, ValueError, "routing must be one of spray, by_key"),
    ({"sizes": {"a": 1, "b": -5, "c": 1}}, ValueError, "the size of model b must be .* got -5"),
    ({"sizes": {"a": 1, "c": 1}}, ValueError, "sizes has no bytes for model b: add them"),
    ({"sizes": {"a": 1, "B": 1}}, ValueError, "sizes names 'B', which is no model"),
    ({"sizes": [1, 2]}, ValueError, "sizes has 2 entries, but there are 4 models"),
    (
        {"sizes": {"a": "1 GB", "b": 1, "c": 1}},
        TypeError,
        "the size of model a must be .* got '1 GB'",
    ),
    ({"sizes": math.inf}, ValueError, "the size of model a must be .* got inf"),
    ({"step": "Score"}, ValueError, "step must be None unless the keys are a Trace"),
    ({"workers": 2**20}, ValueError, "too many"),
]


@pytest.mark.parametrize(("options", "error", "says"), BAD_OPTIONS)
def test_bad_options(options, error, says):
    with pytest.raises(error, match=says):
        mmlab.predict(KEYS, MAPPING, **options)


BAD_MAPPINGS = [
    ({}, ValueError, "the mapping must have at least one model"),
    ({"a": ["KEY_0"], "b": ["KEY_0"]}, ValueError, "'KEY_0' of model b is already in the mapping"),
    ({"KEY_0": "a", "KEY_1": None}, TypeError, "must map 'KEY_1' to the name of a model, got None"),
    (7, TypeError, "mapping_or_handler must be a KeyedModelHandler"),
    (NamedModels(), TypeError, "NamedModels has one model, which is loaded once"),
]


@pytest.mark.parametrize(("mapping", "error", "says"), BAD_MAPPINGS)
def test_bad_mappings(mapping, error, says):
    with pytest.raises(error, match=says):
        mmlab.predict(KEYS, mapping)


def test_bad_hints():
    prediction = mmlab.predict(KEYS, MAPPING)
    assert prediction.at(None) == prediction.at(4)
    with pytest.raises(ValueError, match="the hint is 5, but there are 4 models: give 1 to 4, as"):
        prediction.at(5)
    with pytest.raises(ValueError, match="the hint is 0, but there are 4 models: give 1 to 4$"):
        prediction.per_worker(0)
    for hint in ("2", 1.0, True):
        with pytest.raises(TypeError, match="hint must be a whole number from 1 to 4, or None"):
            prediction.at(hint)


@pytest.mark.runs
def test_traces_that_cannot_answer():
    runner = WatchRunner()
    run_keyed(runner, keyed([["a"], ["b"]], 1, 4), [*"abab"])
    whole = mmlab.predict(runner.trace)
    assert whole.visits == 2
    assert whole.batch_size is None
    with pytest.raises(ValueError, match="batches of up to 2 elements, .* from the keys"):
        mmlab.predict(runner.trace, batch_size=1)
    with pytest.raises(ValueError, match="no keyed step 'Read': it has 'Score'"):
        mmlab.predict(runner.trace, step="Read")
    single = WatchRunner()
    run_keyed(single, KeyedModelHandler(NamedModels()), [*"ab"])
    with pytest.raises(ValueError, match="no step with a KeyedModelHandler of several models"):
        mmlab.predict(single.trace)


@pytest.mark.runs
def test_a_trace_of_single_elements_answers_what_ifs():
    keys = [*"abcabcacab"]
    runner = WatchRunner()
    run_keyed(runner, keyed([["a"], ["b"], ["c"]], 2), keys)
    for options in ({"batch_size": 3}, {"workers": 2}, {"routing": "by_key"}):
        found = mmlab.predict(runner.trace, **options)
        expected = mmlab.predict(keys, keyed([["a"], ["b"], ["c"]]), **options)
        assert found.loads.tolist() == expected.loads.tolist()
    merged = mmlab.predict(runner.trace, {"m": ["a", "b"], "n": ["c"]})
    assert merged.models == ("m", "n")


@pytest.mark.runs
def test_ten_million_text_keys_stay_small():
    """Keys from a generator are never all there; what a prediction keeps is 2 bytes a visit."""
    code = """
import resource, sys
import mmlab
from mmlab.prediction import keys
names = [f"customer-{i:04d}" for i in range(1000)]
stream = lambda n: (names[i * i % 997 % 1000] for i in range(n))
mmlab.predict(stream(2 * keys._PIECE), optimum=False)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
p = mmlab.predict(stream(10_000_000), optimum=False)
assert p.elements == 10_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 30_000  # KB, where the keys alone would be 80 MB of pointers


NONE_IS_SERVED = {"a": ["x", None], "b": ["y"]}


@pytest.mark.parametrize(
    "keys",
    [
        ["x", None, "y", None],
        np.array(["x", None, "y", None], object),
        pd.Series(["x", None, "y", None]),
        pd.Series(["x", None, "y", None], dtype=object),
        pa.array(["x", None, "y", None]),
        pa.array(["x", None, "y", None]).dictionary_encode("encode"),
        pd.Series(["x", None, "y", None], dtype="category"),
        pd.Series(["x", None, "y", None], dtype=pd.ArrowDtype(pa.string())),
        pd.DataFrame({"key": ["x", None, "y", None]}),
    ],
)
def test_none_is_a_key_where_the_mapping_names_it(keys):
    prediction = mmlab.predict(keys, NONE_IS_SERVED)
    assert (prediction.elements, prediction.keys) == (4, 3)
    assert prediction.at(1)["loads"] == 3


def test_a_key_that_is_not_a_number_stays_missing():
    with pytest.raises(ValueError, match=r"keys\[1\] is missing"):
        mmlab.predict(["x", float("nan"), None], NONE_IS_SERVED)


def test_none_is_a_key_of_nullable_numbers_too():
    keys = pd.Series([1, None, 2, None], dtype="Int64")
    prediction = mmlab.predict(keys, {"a": [1, None], "b": [2]})
    assert (prediction.elements, prediction.keys) == (4, 3)


def test_keys_of_several_types_are_told_apart():
    keys = np.array([None, 1, "1", None], object)
    prediction = mmlab.predict(keys, {"a": [None], "b": [1], "c": ["1"]})
    assert (prediction.keys, prediction.models_seen) == (3, 3)
