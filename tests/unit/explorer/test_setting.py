"""The explorer's pipelines: what a setting means, and what is refused."""

from __future__ import annotations

import inspect
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmlab
from mmlab.explorer.setting import GROUPS, ORDERS, Layer, Setting, build
from mmlab.fresh.process import run_fresh

SMALL = {"models": 3, "megabytes": 1, "elements": 12}
"""Keys KEY_1 … KEY_4; CONFIG_2 answers two of them."""


def test_models_answer_one_key_and_two_keys_in_turn():
    assert Setting(models=4).mapping == {
        "CONFIG_1": ("KEY_1",),
        "CONFIG_2": ("KEY_2", "KEY_3"),
        "CONFIG_3": ("KEY_4",),
        "CONFIG_4": ("KEY_5", "KEY_6"),
    }


@given(st.sampled_from(ORDERS), st.integers(1, 8), st.integers(1, 200), st.sampled_from(GROUPS))
def test_keys_are_as_many_as_elements_and_the_same_again(order, models, elements, group):
    setting = Setting(order=order, models=models, elements=elements, group=group)
    keys = setting.keys()
    assert len(keys) == elements
    assert keys == setting.keys()
    assert set(keys) <= {key for keys in setting.mapping.values() for key in keys}


def test_orders_are_what_they_are_called():
    turns, even, skewed = (
        Setting(order=order, elements=192).keys() for order in ("sorted", "random", "skewed")
    )
    assert turns == sorted(turns)
    assert max(Counter(even).values()) < 2 * min(Counter(even).values())
    assert Counter(skewed)["KEY_1"] > 3 * Counter(skewed)["KEY_6"]


@pytest.mark.parametrize("megabytes", [1, 32])
def test_a_layer_weighs_what_it_says(megabytes):
    layer = Layer(megabytes)
    size = sum(p.numel() * p.element_size() for p in layer.parameters())
    assert size == pytest.approx(megabytes * 1_000_000, rel=0.005)
    assert layer(torch.ones(3, 1)).shape == (3, 1)


@pytest.mark.runs
@pytest.mark.parametrize(
    ("changes", "loads"),
    [
        ({"hint": 1}, 9),
        ({"hint": 3}, 3),
        ({"hint": None, "threads": 2}, 3),
        ({"hint": 1, "order": "sorted"}, 3),
        ({"hint": 1, "group": "per model"}, 3),
        ({"hint": 1, "batch_size": 12}, 3),
    ],
)
def test_a_setting_runs(changes, loads):
    setting = Setting(**{**SMALL, **changes})
    outcome = run_fresh(build, setting, options=setting.options)
    summary = outcome.raise_if_failed().trace.summary()
    assert (summary.loads, summary.elements, summary.hint) == (loads, 12, setting.hint)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"hint": 0}, "max_models_per_worker_hint is 0"),
        ({"models": 0}, "models must be a whole number, 1 or more, got 0"),
        ({"megabytes": 1.5}, "megabytes must be a whole number, 1 or more, got 1.5"),
        ({"elements": True}, "elements must be .* got True"),
        ({"batch_size": "2"}, "batch_size must be .* got '2'"),
        ({"order": "backwards"}, 'must be one of "round robin", "random"'),
        ({"group": "per day"}, 'must be one of "off", "per key", "per model"'),
        ({"processes": 2, "threads": 2}, "either several processes or several threads"),
        ({"memory_limit": "much"}, "memory_limit must be .* got 'much'"),
    ],
)
def test_what_cannot_be_is_refused(wrong, words):
    with pytest.raises((TypeError, ValueError), match=words):
        mmlab.explore(**wrong)


def test_an_unknown_part_is_named():
    with pytest.raises(TypeError, match="explore has no 'hints': it has hint, models, megabytes"):
        mmlab.explore(hints=2)


def test_its_words_name_every_part():
    for name in inspect.signature(Setting).parameters:
        assert f"      {name}: " in inspect.getdoc(Setting).replace("\n  ", "\n      ")
