"""The lessons' data and models: real, seeded, written whole, and as accurate as promised."""

from __future__ import annotations

import threading

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from apache_beam.ml.inference.base import RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from mmlab import lessons
from mmlab.lessons import cache, digits, models

pytestmark = pytest.mark.runs

CORRECT: list[bool] = []


def judge(pair):
    label, result = pair
    CORRECT.append(lessons.predicted_digit(result) == label)


class Labelled(lessons.FixedBatches):
    """Carries the label around the model inside the key."""

    def run_inference(self, batch, model, inference_args=None):
        keyed = [(key, tensor) for key, (tensor, _) in batch]
        results = super().run_inference(keyed, model, inference_args)
        # One element per batch, so that order is no question.
        return [(label, result[1]) for (_, (_, label)), result in zip(batch, results, strict=True)]

    def get_num_bytes(self, batch):
        return 0


def accuracy(configs):
    CORRECT.clear()
    handler = Labelled(lessons.mapping(configs), None, batch_size=1)
    with beam.Pipeline(FnApiRunner()) as pipeline:
        _ = (
            pipeline
            | beam.io.ReadFromParquet(str(lessons.scans_file()))
            | beam.Map(lambda row: (row["key"], (torch.tensor(row["pixels"]), row["label"])))
            | RunInference(handler)
            | beam.Map(judge)
        )
    assert len(CORRECT) == digits.TEST_DIGITS
    return sum(CORRECT) / len(CORRECT)


def test_the_right_mapping_is_accurate_and_the_wrong_one_is_not():
    assert accuracy(lessons.MAPPING) >= 0.93
    names, keys = list(lessons.MAPPING), list(lessons.MAPPING.values())
    rotated = dict(zip(names, keys[1:] + keys[:1], strict=True))
    assert accuracy(rotated) <= 0.5


def test_models_are_big_enough_to_be_seen_and_load_as_weights_only():
    for name in lessons.MAPPING:
        path = lessons.weights_file(name)
        assert path.stat().st_size >= 60_000_000
        assert torch.load(path, weights_only=True, mmap=True).keys()
    assert lessons.handler("CONFIG_1")._load_model_args == {"weights_only": True}


def test_training_is_seeded():
    pixels = torch.rand(50, 64, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(50) % 10
    before = torch.random.get_rng_state()
    first, second = (models._fitted(pixels, labels, seed=3, hidden=16) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_scans_take_turns_and_the_test_digits_are_not_trained_on():
    table = pq.read_table(lessons.scans_file(rows=24)).to_pydict()
    assert table["key"] == list(lessons.SCANNERS) * 4
    upright, labels = digits.pictures("test")
    assert table["label"] == labels[:24].tolist()
    assert np.allclose(table["pixels"][0], upright[0].ravel())
    assert np.allclose(table["pixels"][1], 1 - upright[1].ravel())
    train, _ = digits.pictures("train")
    assert len(train) + len(upright) == 1797


@pytest.mark.parametrize("rows", [0, -1, 481])
def test_rows_that_are_not_there_are_refused(rows):
    with pytest.raises(ValueError, match="whole number from 1 to 480"):
        lessons.scans_file(rows=rows)


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="name must be one of CONFIG_1, .*, got 'CONFIG_9'"):
        lessons.weights_file("CONFIG_9")


def test_a_cached_file_is_made_once_by_many_threads(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    made = []

    def make(path):
        made.append(path)
        path.write_text("whole")

    threads = [threading.Thread(target=cache.made_once, args=("f", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert cache.made_once("f", make).read_text() == "whole"


def test_a_file_that_fails_half_way_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))

    def fail(path):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cache.made_once("f", fail)
    assert not cache.is_made("f")
    left = [path.name for path in cache.cache_folder().iterdir() if not path.name.endswith("lock")]
    assert left == []


def test_a_cache_that_cannot_be_made_says_how_to_move_it(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file"))
    with pytest.raises(OSError, match=cache.VARIABLE):
        lessons.weights_file("CONFIG_1")


def test_the_scans_are_shown():
    assert repr(lessons.show_scans()).splitlines()[1:] == [
        "  KEY_1: upright, read by CONFIG_1",
        "  KEY_2: dark background, read by CONFIG_2",
        "  KEY_3: dark background, read by CONFIG_2",
        "  KEY_4: mirrored, read by CONFIG_3",
        "  KEY_5: rotated, read by CONFIG_4",
        "  KEY_6: rotated, read by CONFIG_4",
    ]
