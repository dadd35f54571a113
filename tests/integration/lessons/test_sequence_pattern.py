"""Notebook 02: what plausible wrong answers are told, and the noisy scans and their restorer."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from mmlab import lessons
from mmlab.lessons import sequence
from mmlab.lessons.digits import pictures
from mmlab.lessons.exercises.running import run
from mmlab.lessons.sequence import models, scans
from tests.integration.lessons import notebook

NOTEBOOK = notebook.FOLDER / "02_sequence_pattern.ipynb"


def told(exercise: str, answer: str):
    check = notebook.stubs(NOTEBOOK)[exercise].strip().split("\n")[-1]
    return notebook.verdict(NOTEBOOK, f"{answer.strip()}\n{check}")


@pytest.mark.parametrize(
    ("returned", "words", "hint"),
    [
        ("result.inference", "The name is gone", 1),
        ("pair", "would get a PredictionResult", 1),
        ("(name, 1 - result.example)", "as they were before model A", 1),
        ("(name, result.inference)", "of 48 digits right", 2),
        ("('scan', 1 - result.inference)", "are not those of the scans", 1),
        ("(name, result.inference.argmax())", "a tensor of 64 pixels", 1),
        ("result.name", "AttributeError", 1),
    ],
)
@pytest.mark.runs
def test_wrong_post_processing(returned, words, hint):
    answer = f"""
def some_post_processing(pair):
    name, result = pair
    return {returned}
"""
    notebook.assert_incorrect(told("sequence_pattern.post_processing", answer), words, hint)


SOLUTION = notebook.solutions(NOTEBOOK)["sequence_pattern.nothing_lost"]


@pytest.mark.parametrize(
    ("right", "wrong", "words", "hint"),
    [
        ("batch_size': 1", "batch_size': 4", "failed with a torn neighbour", 2),
        ("sequence.sureness(result) < 0.9", "sequence.sureness(result) < 0.5", "among the", 2),
        ("int(sequence", "1 - int(sequence", "among the", 2),
        (
            "beam.FlatMap(\n            lambda failure: [name for name, pixels in failure[0]])",
            "beam.FlatMap(lambda failure: [])",
            "2 of 24 scans are in no output: scan-007, scan-016.",
            1,
        ),
        (".with_exception_handling()", "", "non-iterable", 1),
        ("doubtful | 'Names' >> beam.Keys()", "restored | 'Names' >> beam.Keys()", "than once", 1),
        ("'doubtful': doubtful | 'Names' >> beam.Keys()", "'unsure': doubtful", "build returns", 1),
        ("doubtful | 'Names' >> beam.Keys()", "doubtful", "make it names of scans", 1),
        ("lessons.predicted_digit(result)", "result", "pairs of name and digit", 1),
    ],
)
@pytest.mark.runs
def test_what_loses_scans_or_misplaces_them(right, wrong, words, hint):
    assert right in SOLUTION
    answer = SOLUTION.replace(right, wrong)
    notebook.assert_incorrect(told("sequence_pattern.nothing_lost", answer), words, hint)


def test_the_scans_are_noisy_test_digits_with_names():
    table = pq.read_table(sequence.scans_file()).to_pydict()
    upright, labels = pictures("test")
    assert table["id"][:2] == ["scan-000", "scan-001"]
    assert [sequence.label_of(name) for name in table["id"]] == labels.tolist()
    pixels = np.array(table["pixels"])
    assert pixels.shape == (480, 64)
    assert 0 <= pixels.min() < pixels.max() <= 1
    clean = pq.read_table(sequence.scans_file(lamp="new")).to_pydict()
    assert clean["id"] == table["id"]
    assert np.array_equal(clean["pixels"], upright.reshape(480, 64))
    assert np.abs(pixels - upright.reshape(480, 64)).mean() > 0.2


def test_noise_is_seeded():
    upright = pictures("test")[0][:3]
    first, second = (scans.noisy(upright, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.dtype == np.float32


def test_the_damaged_scans():
    table = pq.read_table(sequence.damaged_file()).to_pydict()
    pixels = dict(zip(table["id"], table["pixels"], strict=True))
    assert len(pixels) == 24
    assert [name for name, p in pixels.items() if p is not None and len(p) < 64] == [*sequence.TORN]
    assert [name for name, p in pixels.items() if p is None] == [scans._MISSING]
    assert np.isnan(pixels[sequence.BLANK]).all()


@pytest.mark.parametrize("rows", [0, 481])
def test_rows_that_are_not_there_are_refused(rows):
    with pytest.raises(ValueError, match="rows must be .* from 1 to 480"):
        sequence.scans_file(rows=rows)


def test_a_lamp_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match='"old" or "new"'):
        sequence.scans_file(lamp="none")


def test_the_restorer_brings_scans_nearer_to_what_was_written():
    model = sequence.Restorer()
    model.load_state_dict(torch.load(sequence.weights_file(), weights_only=True))
    pairs = scans.first_scans(100)
    seen = torch.tensor(np.array([pixels for _, pixels in pairs]))
    meant = torch.tensor(np.array([scans.written(name).ravel() for name, _ in pairs]))
    with torch.no_grad():
        restored = model(seen)
    assert (restored - meant).abs().mean() < 0.4 * (seen - meant).abs().mean()


@pytest.mark.runs
def test_its_training_is_seeded():
    before = torch.random.get_rng_state()
    first, second = (models._fitted(hidden=8, steps=3) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_tables_round_what_differs_between_machines():
    names = [name for name, _ in scans.first_scans(24)]
    pairs = [(name, sequence.label_of(name)) for name in names]
    wrong = [(name, (digit + 1) % 10) for name, digit in pairs[:2]] + pairs[2:]
    table = sequence.read_right({"all": pairs, "most": wrong}, {"most": 80})
    assert table["read right, of 100"].tolist() == [100, 90]
    assert table["my guess, of 100"].tolist() == ["–", 80]
    assert sequence.beside({"loads": 3}, {"loads": 2, "uses": 1}).loc["uses"].tolist() == ["–", 1]
    counts = sequence.outcomes({4: {"digits": [1, 2], "failed": []}}, {})
    assert counts.loc[4].tolist() == ["–", 2, 0]


def test_pictures_say_what_they_show():
    assert repr(sequence.show_lamp(3)) == "The digits 9 6 7: written, scanned"
    names = ["scan-000", "scan-001"]
    pixels = [np.zeros(64), torch.ones(64)]
    shown = sequence.show({"restored": pixels}, names, {"restored": [9, 3]})
    captions = [axes.get_xlabel() for axes in shown.figure.axes]
    assert captions == ["9", "✗ 3"]


def test_sureness_is_a_probability():
    result = type("R", (), {"inference": torch.tensor([0.0, 0.0])})
    assert sequence.sureness(result) == pytest.approx(0.5)


@pytest.mark.runs
def test_what_fails_in_a_map_is_no_dead_letter():
    # The notebook says so beside the dead letters of the model.
    import apache_beam as beam
    from apache_beam.ml.inference.base import KeyedModelHandler, RunInference

    def build(pipeline):
        pixels = torch.from_numpy(scans.first_scans(1)[0][1])
        restored, _ = (
            pipeline
            | beam.Create([("a", pixels)])
            | RunInference(KeyedModelHandler(sequence.restorer())).with_exception_handling()
        )
        return restored | beam.Map(lambda pair: pair[2])

    with pytest.raises(IndexError):
        run(build)


def test_a_label_that_is_there_twice_is_named_without_the_number_of_its_cell(capsys):
    with lessons.real_error():
        raise RuntimeError('A transform with label "[4]: RunInference" already exists')
    assert capsys.readouterr().out.endswith('with label "RunInference" already exists\n')
