"""The structure of the tests: builders in one place, no waiting for time to pass."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
SLEEPERS = {"waiting.py", "integration/pipelines.py"}
"""The one that waits for others, and runs that are there to be ended."""
OF_MODELS = {"load_model", "run_inference"}


def sources() -> dict[str, ast.Module]:
    paths = (path for path in TESTS.rglob("*.py") if "bench" not in path.parts)
    return {
        path.relative_to(TESTS).as_posix(): ast.parse(path.read_text("utf-8")) for path in paths
    }


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def from_tests(tree: ast.AST) -> list[str]:
    """What a module takes from modules with tests or from a conftest."""
    return [
        name
        for name in imported(tree)
        if name.startswith("tests.")
        and any(part.startswith("test_") or part == "conftest" for part in name.split(".")[:-1])
    ]


def naps(tree: ast.AST, function: str = "") -> list[str]:
    """Functions that sleep, but for models that take their time."""
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep"):
            found += [function or "the module"] * (function not in OF_MODELS)
        found += naps(node, node.name if isinstance(node, ast.FunctionDef) else function)
    return found


def test_modules_of_tests_do_not_import_each_other():
    taken = {name: from_tests(tree) for name, tree in sources().items()}
    assert {name: names for name, names in taken.items() if names} == {}


def test_nothing_sleeps_but_models():
    asleep = {name: naps(tree) for name, tree in sources().items() if name not in SLEEPERS}
    assert {name: functions for name, functions in asleep.items() if functions} == {}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from tests.unit.test_a import event", ["tests.unit.test_a.event"]),
        ("def f():\n    from tests.e2e.conftest import A", ["tests.e2e.conftest.A"]),
        ("from tests.events import Event\nimport json", []),
    ],
)
def test_imports_are_found(code, found):
    assert from_tests(ast.parse(code)) == found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def f():\n    while True:\n        time.sleep(1)", ["f"]),
        ("class A:\n    def load_model(self):\n        time.sleep(1)", []),
    ],
)
def test_naps_are_found(code, found):
    assert naps(ast.parse(code)) == found
