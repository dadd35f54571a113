"""Whatever mmlab prints can be printed on every output: cp1252, ASCII, none at all."""

from __future__ import annotations

import ast
import io
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import mmlab
from mmlab._text import PLAIN, say, shown
from mmlab.checks import Problem
from mmlab.trace import Trace
from mmlab.watching.terminal import LiveLine

FOLDER = Path(mmlab.__file__).parent
FIXTURES = Path(__file__).parents[2] / "fixtures"


class Terminal(io.TextIOWrapper):
    """An output that raises over what its encoding has no bytes for."""

    def __init__(self, encoding, terminal=False):
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self._terminal = terminal

    def isatty(self):
        return self._terminal

    def text(self):
        return self.buffer.getvalue().decode(self.encoding)


@pytest.fixture(params=["ascii", "cp1252", "utf-8"])
def output(request):
    return Terminal(request.param)


def test_a_problem_of_a_key_in_another_script(output):
    problem = Problem("the data has the key '한글' … twice.", "Score → café", "Drop it.")
    with redirect_stdout(output):
        print(problem, [problem])
    said = output.text()
    assert ("한글" in said) == (output.encoding == "utf-8")
    assert ("\\ud55c" in said) == (output.encoding != "utf-8")
    assert ("->" in said) == (output.encoding != "utf-8")


def test_a_summary_and_its_trace(output):
    trace = Trace.load(FIXTURES / "keyed_handler")
    with redirect_stdout(output):
        print(trace.summary(), trace, trace.per_model())
    assert ("hint ->" in output.text()) == (output.encoding != "utf-8")


def test_what_we_print_ourselves(output):
    with redirect_stdout(output):
        say("hint → limit × 2")
    assert output.text() == ("hint → limit × 2\n" if output.encoding == "utf-8" else
                             "hint -> limit × 2\n" if output.encoding == "cp1252" else
                             "hint -> limit x 2\n")  # fmt: skip


def test_the_live_line(monkeypatch):
    terminal = Terminal("ascii", terminal=True)
    monkeypatch.setattr(sys, "stderr", terminal)
    line = LiveLine()
    line.show("2 loads · 한글")
    assert terminal.text().endswith("2 loads | \\ud55c\\uae00")
    line.end("3 loads · 한글\n")
    assert terminal.text().endswith("3 loads | \\ud55c\\uae00\n")
    assert sys.stderr is terminal


def test_the_live_line_is_no_longer_than_the_terminal_is_wide(monkeypatch):
    """A line that has gone on below can be cleared no more."""
    terminal = Terminal("utf-8", terminal=True)
    monkeypatch.setattr(sys, "stderr", terminal)
    line = LiveLine()
    line.show("0123456789" * 10)
    line.end()
    assert f"{'0123456789' * 8}"[:79] in terminal.text()
    assert "0123456789" * 8 not in terminal.text()


@pytest.mark.parametrize("stream", [None, object(), type("S", (), {"encoding": "no-such"})()])
def test_an_output_without_an_encoding_changes_nothing(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert shown("a → b", stream) == "a → b"


def test_what_stands_for_a_sign_is_ascii():
    assert all(text.isascii() for text in PLAIN.values())


def test_every_text_of_an_object_fits_every_output():
    missing = {
        node.name
        for path in FOLDER.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef) and _has_a_text(node) and not _is_shown(node)
    }
    # Words of ours, and a host with a number.
    assert missing == {"Differs", "Unknown", "Process"}


def _has_a_text(node):
    return any(getattr(part, "name", None) in ("__str__", "__repr__") for part in node.body)


def _is_shown(node):
    return any(getattr(mark, "id", None) == "shown_everywhere" for mark in node.decorator_list)


def test_nothing_is_printed_past_say():
    allowed = {"_text.py", "leftovers.py", "worker.py", "renew.py"}  # numbers, JSON, a tool of ours
    printing = {
        path.name
        for path in FOLDER.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Name) and node.id == "print"
    }
    assert printing <= allowed
