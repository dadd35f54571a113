"""DOT text: deterministic, escaped, and with everything that the picture must show."""

from __future__ import annotations

import doctest
import io
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mmlab
from mmlab import fonts
from mmlab._text import columns
from mmlab.diagrams import dot, engine, graph, text
from mmlab.draw.theme import PALETTE
from tests.unit.diagrams.pipelines import (
    BUILDERS,
    HOSTILE_LABELS,
    LESSONS,
    Scale,
    keyed_handler,
    torch_handler,
)


def _dot(name: str, **options) -> str:
    return mmlab.diagram(BUILDERS[name](), **options).dot


@pytest.mark.parametrize("module", [dot, graph, text])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.runs
def test_the_same_bytes_in_two_processes():
    """The other process has other hashes of strings, and has drawn nothing before."""
    script = "from tests.unit.diagrams.test_dot import print_everything; print_everything()"
    path = str(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "1", "PYTHONUTF8": "1"}
    other = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=True
    )
    written = io.StringIO()
    with redirect_stdout(written):
        print_everything()
    assert len(written.getvalue()) > 100_000
    assert written.getvalue() == other.stdout.decode()


def print_everything() -> None:
    for build in LESSONS.values():
        print(mmlab.diagram(build(), depth=2).dot)
    print(mmlab.diagram(BUILDERS["beam cookbook.mergecontacts"](), depth=None).dot)
    print(mmlab.diagram(BUILDERS["keyed"](), step="Inference", direction="TB").dot)
    print(mmlab.diagram(keyed_handler()).dot)


def test_left_to_right_unless_told_otherwise():
    assert "rankdir=LR" in _dot("sequence")
    assert "rankdir=TB" in _dot("sequence", direction="TB")


def test_a_model_has_the_colour_of_the_palette():
    assert PALETTE[0] in _dot("keyed")
    assert all(colour in _dot("keyed") for colour in PALETTE[:4])


def test_a_keyed_card_says_keys_models_handler_device_and_hint():
    label = _dot("keyed")
    for words in (
        "KEY_2, KEY_3",
        "config_2",
        "PytorchModelHandlerTensor · cpu",
        "max_models_per_worker_hint=2",
    ):
        assert words in label


def test_no_hint_is_said():
    assert "no max_models_per_worker_hint" in _dot("streaming_windows")


def test_side_inputs_are_dashed_and_dead_letters_dotted():
    assert re.search(r"-> s\d+ \[.*side: AsDict.*style=dashed", _dot("side_input"))
    assert re.search(r"failed_inferences.*style=dotted", _dot("dead_letters"))


def test_processing_is_visible():
    label = _dot("dead_letters")
    assert "before: abs" in label
    assert "after: _value" in label
    assert "exception handling" in label


def test_an_empty_pipeline_says_so():
    assert text.EMPTY in _dot("empty")


def test_long_names_are_shortened_and_whole_in_the_tooltip():
    lines = [
        line for line in _dot("hostile_labels").splitlines() if f'tooltip="{"x" * 300}' in line
    ]
    assert lines
    assert "x" * 61 not in re.search(r"label=<(.*?)>, (?:width|tooltip)", lines[0])[1]


def test_long_tooltips_lose_their_middle():
    handler = KeyedModelHandler(
        [KeyModelMapping([f"customer {i} & others" for i in range(1000)], torch_handler("m"))]
    )
    longest = max(map(len, re.findall(r'tooltip="([^"]*)"', mmlab.diagram(handler).dot)))
    assert 3000 < longest < 16_384


def test_an_invisible_key_is_described():
    keys = ["", "  ", "\u200b", "k" * 10_000]
    source = mmlab.diagram(KeyedModelHandler([KeyModelMapping(keys, torch_handler("m"))])).dot
    for words in ("(empty)", "(blank)", "&lt;U+200B&gt;", "kkk…kkk"):
        assert words in source


def test_after_a_run_the_busiest_models_are_drawn_and_the_others_counted():
    rows = [row(f"m{i}", loads=1 + (i >= 18)) for i in range(30)]
    trace = SimpleNamespace(per_model=lambda: rows, element_counts={}, dead_letters={})
    source = mmlab.diagram(BUILDERS["many_models"](), trace=trace).dot
    drawn = re.findall(r"<B>(m\d+)</B>", source)
    assert drawn == [f"m{i}" for i in range(18, 30)]
    assert "… and 18 more models: 18 loads, 18 evictions" in source


def row(model: str, loads: int):
    return SimpleNamespace(
        step="Per customer", model=model, loads=loads, reloads=loads - 1, evictions=loads,
        uses=loads, elements=loads, load_seconds=0.1, keys={},
    )  # fmt: skip


def test_many_models_are_cut_and_counted():
    label = _dot("many_models")
    assert "… and 18 more models" in label
    assert "customer-029" in label  # in the tooltip


def test_unnamed_models_go_by_their_handler():
    assert "<B>Scale</B>" in mmlab.diagram(Scale()).dot


# The key mapping


def test_a_mapping_goes_from_keys_over_cohorts_to_models():
    source = mmlab.diagram(keyed_handler()).dot
    assert {"k1_0 -> c1", "k1_1 -> c1", "c1 -> m1"} <= set(re.findall(r"\w+ -> \w+", source))
    assert "k0_0 -> k1_0 -> k1_1 -> k2_0 -> k3_0 -> k3_1 [style=invis]" in source
    assert "max_models_per_worker_hint=2" in source


@pytest.mark.parametrize("hint", [0, -1, "2", 1.5, "<script>"])
def test_a_wrong_hint_is_shown_as_it_was_given(hint):
    # Beam checks it in the worker only.
    assert (
        f"max_models_per_worker_hint={dot._escape(str(hint))}"
        in mmlab.diagram(keyed_handler(hint)).dot
    )


def test_a_mapping_shows_the_functions_around_it():
    source = mmlab.diagram(keyed_handler().with_preprocess_fn(abs).with_postprocess_fn(str)).dot
    assert "before: abs" in source
    assert "after: str" in source


def test_a_handler_with_one_model():
    source = mmlab.diagram(torch_handler("digits")).dot
    assert "digits" in source
    assert "no key mapping" in source


# After a run


def _trace(loads: int = 3):
    row = SimpleNamespace(
        step="Inference",
        model="config_2",
        loads=loads,
        reloads=loads - 1,
        evictions=2,
        uses=9,
        elements=1234,
        load_seconds=0.518,
        keys={"KEY_2": 1234},
    )
    return SimpleNamespace(
        per_model=lambda: [row],
        element_counts={"Read/Map(decode)": 12345, "Inference/BeamML_RunInference": 12000},
        dead_letters={},
    )


def test_a_trace_puts_counts_on_edges_and_cards():
    label = mmlab.diagram(BUILDERS["keyed"](), trace=_trace()).dot
    assert "<B> 12,345 </B>" in label
    assert "<B> 12,000 </B>" in label
    assert re.search(r"config_2</B>.*?>3<.*?>2<.*?>0\.52<", label)


def test_a_trace_puts_stats_on_a_key_mapping():
    assert (
        "3 loads (2 again), 2 evictions, 0.52 s loading"
        in mmlab.diagram(keyed_handler(), trace=_trace()).dot
    )


# Escaping


def _shown(label: str) -> str:
    """What Graphviz shows for `label`, read back from its own JSON output."""
    source = f"digraph {{ a [label={dot._quote(label)}, shape=plaintext]; }}"
    return _words(source)


def _shown_html(label: str) -> str:
    return _words(f"digraph {{ a [label=<x{dot._escape(label)}>, shape=plaintext]; }}")[1:]


def _words(source: str) -> str:
    root = ElementTree.fromstring(engine.svg(source))
    return "".join(t.text or "" for t in root.iter("{http://www.w3.org/2000/svg}text"))


def _plain(value: str) -> str:
    return re.sub("[\\s\u200b\xa0]+", "", value)


_TEXT = st.text(max_size=40)


@settings(max_examples=60, deadline=None)
@given(_TEXT)
@example('"')
@example("\\")
@example("\\N")
@example("\\\\N\\G")
@example("a\nb")
@example("&amp; &lt; &#60;")
@example("<b>")
@example("\ud800")
@example("\x00")
def test_quoted_text_is_shown_as_it_is(label):
    assert _plain(_shown(label)) == _plain("".join(text.clean(x) for x in label.split("\n")))


@settings(max_examples=60, deadline=None)
@given(_TEXT)
@example("\\N \\G \\n \\\\N")
@example("<B>&amp;</B>")
@example("'\"")
def test_text_in_html_labels_is_shown_as_it_is(label):
    assert _plain(_shown_html(label)) == _plain(fonts.drawable(text.clean(label)))


@pytest.mark.parametrize("label", HOSTILE_LABELS)
def test_hostile_labels_cannot_leave_their_place(label):
    handler = torch_handler(label)
    source = mmlab.diagram(handler).dot
    root = ElementTree.fromstring(engine.svg(source))
    titles = root.iterfind(".//{http://www.w3.org/2000/svg}g[@class='node']/{*}title")
    assert [title.text for title in titles] == ["m0"]


@given(st.text(max_size=200), st.integers(4, 40))
def test_shortened_text_fits(value, width):
    assert columns(text.shorten(value, width)) <= width


@given(st.text(max_size=200), st.integers(6, 40))
def test_wrapped_text_fits(value, width):
    lines = text.wrap(value, width)
    assert len(lines) <= 2
    assert all(columns(line) <= width for line in lines)
