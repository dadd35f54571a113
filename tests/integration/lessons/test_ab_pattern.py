"""The A/B lesson: plausible wrong answers, equal models everywhere, and honest statistics."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from mmlab.lessons import ab
from mmlab.lessons.ab import comparison, digits, models
from tests.integration.lessons import notebook

PATH = notebook.FOLDER / "01_ab_pattern.ipynb"

WRONG_SIDES = {
    "by chance": ("import random\nreturn int(random.random() < 0.2)", "Asked twice", 1),
    "by Python's hash": ("return int(hash(digit[0]) % 100 < 20)", "Another process sends", 2),
    "the wrong way round": (
        "import zlib\nreturn int(zlib.crc32(digit[0].encode()) % 100 < 80)",
        "81 in 100 go to B: expected 20",
        2,
    ),
    "half and half": (
        "import zlib\nreturn zlib.crc32(digit[0].encode()) % sides",
        "in 100 go to B: expected 20",
        2,
    ),
    "by the pixels": ("return int(digit[1].sum() > 26)", "with another picture", 1),
    "by the number in the id": ("return int(int(digit[0][-3:]) % 5 == 0)", "ValueError", 1),
    "a share": ("return 0.2", "must return 0 for A or 1 for B", 1),
}

READ = """
def build(pipeline):
    data = (
        pipeline
        | 'Read' >> beam.io.ReadFromParquet(str(ab.digits_file()))
        | 'Pair' >> beam.Map(lambda row: (row['id'], torch.tensor(row['pixels'])))
    )
    from_a = data | 'Model A' >> RunInference(KeyedModelHandler(ab.handler('A')))
"""
CASCADE = """
    sure, unsure = from_a | beam.Partition(
        lambda answer, parts: int(torch.softmax(answer[1].inference, dim=0).max() {}), 2)
    from_b = (
        unsure
        | beam.Map(lambda answer: (answer[0], answer[1].example))
        | 'Model B' >> RunInference(KeyedModelHandler(ab.handler('B')))
    )
    return (sure, from_b) | beam.Flatten() | beam.Map(
        lambda answer: (answer[0], lessons.predicted_digit(answer[1])))
"""
DIGIT = "beam.Map(lambda answer: (answer[0], lessons.predicted_digit(answer[1])))"
WRONG_CASCADES = {
    "A alone": (f"    return from_a | {DIGIT}", "415 of 480 digits are right", 2),
    "B answers everything": (CASCADE.format("< 2"), "B answered 480 digits", 1),
    "B answers what A is sure of": (CASCADE.format("> 0.7"), "B answered 363 digits", 1),
    "too proud": (CASCADE.format("< 0.4"), "expected 431 right", 2),
    "both streams whole": (
        "    from_b = data | 'Model B' >> RunInference(KeyedModelHandler(ab.handler('B')))\n"
        f"    return (from_a, from_b) | beam.Flatten() | {DIGIT}",
        "480 digits came out more than once",
        1,
    ),
    "the unsure are lost": (
        CASCADE.format("< 0.7").replace("(sure, from_b) | beam.Flatten()", "sure"),
        "117 digits have no answer",
        1,
    ),
    "raw results": ("    return from_a", "The answers are PredictionResult", 1),
}


@pytest.mark.parametrize("name", WRONG_SIDES)
@pytest.mark.runs
def test_a_wrong_split_is_told_why(name):
    body, seen, hint = WRONG_SIDES[name]
    lines = "\n".join(f"    {line}" for line in body.split("\n"))
    source = f"def side(digit, sides):\n{lines}\nlessons.check('ab_pattern.split', side)"
    verdict = notebook.verdict(PATH, source)
    notebook.assert_incorrect(verdict, seen, hint)


@pytest.mark.parametrize("name", WRONG_CASCADES)
@pytest.mark.runs
def test_a_wrong_cascade_is_told_why(name):
    body, seen, hint = WRONG_CASCADES[name]
    source = (
        f"from mmlab.lessons import ab\n{READ}{body.strip(chr(10))}\n"
        "lessons.check('ab_pattern.cascade', build)"
    )
    verdict = notebook.verdict(PATH, source)
    notebook.assert_incorrect(verdict, seen, hint)


def answers_of(side, pixels):
    model = models._RECIPES[models.SIDES[side]].make()
    model.load_state_dict(torch.load(ab.weights_file(models.SIDES[side]), weights_only=True))
    with torch.no_grad():
        return model.eval()(pixels).softmax(1)


def test_the_numbers_in_the_words_of_the_lesson():
    table = pq.read_table(ab.digits_file()).to_pydict()
    pixels, labels = torch.tensor(table["pixels"]), torch.tensor(table["label"])
    a, b = (answers_of(side, pixels) for side in "AB")
    right = [(scores.argmax(1) == labels).numpy() for scores in (a, b, a + b)]
    assert [int(r.sum()) for r in right] == [415, 431, 439]
    assert ab.mcnemar_p_value(*right[:2]) == pytest.approx(0.0479, abs=5e-5)
    paired = ab.paired_difference(*right[:2])
    assert paired.tells_which and paired.points == pytest.approx(100 * 16 / 480)
    halves = ab.split_difference(right[0][::2], right[1][1::2])
    assert not halves.tells_which
    assert halves.high - halves.low > 1.5 * (paired.high - paired.low)


def test_the_digits_are_grainy_test_digits():
    table = pq.read_table(ab.digits_file()).to_pydict()
    upright, labels = digits.pictures("test")
    assert table["id"][:2] == ["digit-000", "digit-001"] and len(set(table["id"])) == 480
    assert table["label"] == labels.tolist()
    difference = np.array(table["pixels"]) - upright.reshape(480, 64)
    assert 0.1 < difference.std() < digits.GRAIN  # cut off at paper and at ink


@pytest.mark.parametrize("name", models._RECIPES)
def test_a_recipe_gives_the_same_weights_and_leaves_torch_as_it_was(name):
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    first, second = (models._fitted(models._RECIPES[name], steps=5) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads
    other = models._fitted(replace(models._RECIPES[name], seed=9), steps=5)
    pairs = list(zip(first.parameters(), second.parameters(), other.parameters(), strict=True))
    for one, same, different in pairs:
        assert torch.equal(one, same) and not torch.equal(one, different)
        assert torch.equal(one * models._GRID, (one * models._GRID).round())


def test_unknown_models_are_named():
    with pytest.raises(ValueError, match="name must be one of logistic_regression, .*, got 'x'"):
        ab.weights_file("x")
    with pytest.raises(ValueError, match="side must be .*, got 'C'"):
        ab.handler("C")


@pytest.mark.runs
def test_an_interval_holds_the_truth_as_often_as_it_says():
    random = np.random.default_rng(1)
    held = {"paired": 0, "split": 0}
    for _ in range(200):
        hard = random.random(200) < 0.3
        a = np.where(hard, random.random(200) < 0.5, random.random(200) < 0.95)
        b = np.where(hard, random.random(200) < 0.7, random.random(200) < 0.95)
        truth = 100 * 0.3 * 0.2
        paired = comparison.paired_difference(a, b)
        halves = comparison.split_difference(a[::2], b[1::2])
        held["paired"] += paired.low <= truth <= paired.high
        held["split"] += halves.low <= truth <= halves.high
    assert all(180 <= count <= 199 for count in held.values()), held


def test_mcnemar_looks_only_at_where_the_models_differ():
    a = np.array([True] * 2 + [False] * 8)
    b = ~a
    alike = np.ones(100, dtype=bool)
    expected = 2 * (1 + 10 + 45) / 2**10
    assert ab.mcnemar_p_value(a, b) == pytest.approx(expected)
    assert ab.mcnemar_p_value(np.r_[a, alike], np.r_[b, alike]) == pytest.approx(expected)
    assert ab.mcnemar_p_value(alike, alike) == 1.0


def test_pairs_must_be_pairs_and_digits_must_be_there():
    with pytest.raises(ValueError, match="must have one length, got 2 and 1"):
        ab.paired_difference([True, False], [True])
    with pytest.raises(ValueError, match="at least one digit"):
        ab.split_difference([], [True])


def test_tables_are_integers_beside_guesses():
    right = pd.DataFrame({"A": [True, False], "B": [True, True]})
    table = ab.score(right, {"A": 2, "B": None})
    assert table.values.tolist() == [[2, 1, 2], ["–", 2, 2]]
    assert ab.agreement(right["A"], right["B"]).values.tolist() == [[1, 0], [1, 0]]


def test_pictures_say_the_same_in_words():
    tossed = ab.paired_difference([True, False], [False, True])
    assert repr(ab.show_differences({"x": tossed})) == f"x: {tossed!r}"
    answers = pd.DataFrame(
        {"id": ["digit-000", "digit-001"], "label": [9, 6], "A": [9, 5], "B": [8, 5]}
    )
    words = repr(ab.show_disagreements(answers))
    assert re.findall(r": (\d) ", words) == ["1", "0"]
    assert repr(ab.show_digits(3)).startswith("The digits 9 6 7,")
