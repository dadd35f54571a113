"""The structure of the package: layers, public names, and what is imported when."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mmlab
from tests import without_torch
from tests.structure import LAYERS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(mmlab.__file__).parent
LAYER = {name: i for i, names in enumerate(LAYERS) for name in names}
EXPORTS = {
    "mmlab": """Diagram GroupByModel Problem Trace WatchRunner WatchWarning compare_hints
        compare_traces diagram doctor explore fit_hint follow lessons predict prediction preflight
        run_fresh watch watched_pipelines""",
    "mmlab.checks": "Problem",
    "mmlab.diagrams": "Diagram GraphvizError diagram",
    "mmlab.prediction": "Advice Fleet NoAdviceError Prediction compare_routings predict",
    "mmlab.watching": "WatchRunner WatchWarning watch",
}


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ("mmlab", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> Iterator[str]:
    """Modules of mmlab that a module imports anywhere in it, functions and types included."""
    known = modules()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{name.name}" for name in node.names]
            yield from (name if name in known else node.module for name in names)


def part(module: str) -> str:
    """The package or module right below mmlab; "" for mmlab itself."""
    return module.partition(".")[2].partition(".")[0]


def test_every_module_has_its_layer():
    assert {part(name) for name in modules()} == set(LAYER)


def test_imports_point_down():
    upwards = [
        f"{name} imports {other}"
        for name, path in modules().items()
        for other in imports(path)
        if other.split(".")[0] == "mmlab"
        and part(other) != part(name)
        and LAYER[part(other)] >= LAYER[part(name)]
    ]
    assert upwards == []


def test_imports_have_no_circle():
    graph = {
        name: {other for other in imports(path) if other.startswith("mmlab")} - {name}
        for name, path in modules().items()
    }
    for name, others in graph.items():
        # A package's own modules are what it is made of.
        others -= {other for other in others if name.startswith(f"{other}.")}
    TopologicalSorter(graph).prepare()


def test_no_module_has_the_name_of_an_export():
    subpackages = {name for name in mmlab.__all__ if f"mmlab.{name}" in modules()}
    assert subpackages == {"lessons", "prediction"}


@pytest.mark.parametrize("package", EXPORTS)
def test_exports(package):
    module = importlib.import_module(package)
    assert sorted(module.__all__) == sorted(EXPORTS[package].split())
    assert all(hasattr(module, name) for name in module.__all__)
    assert set(module.__all__) <= set(dir(module))


def test_types_are_checked_in_the_whole_package_and_shipped():
    project = tomllib.loads(PACKAGE.with_name("pyproject.toml").read_text("utf-8"))
    checked = project["tool"]["mypy"]
    assert (checked["packages"], checked["strict"]) == (["mmlab"], True)
    assert not any(part.get("ignore_errors") for part in checked["overrides"])
    assert (PACKAGE / "py.typed").is_file()
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["mmlab"]


def test_an_error_of_types_that_is_ignored_has_its_reason():
    bare = re.compile(r"# type: ignore(?!\[[\w-]+\]  # \w)")
    assert [name for name, path in modules().items() if bare.search(path.read_text("utf-8"))] == []


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'mmlab' has no attribute 'forecast'"):
        _ = mmlab.forecast


def fresh(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.runs
def test_import_takes_the_standard_library_only():
    code = "import sys, mmlab; print(*{name.partition('.')[0] for name in sys.modules})"
    others = set(fresh(code).split()) - set(sys.stdlib_module_names) - {"mmlab", "__main__"}
    installed = {name for name in others if not name.startswith("__editable__")}
    bare = set(fresh("import sys; print(*{n.partition('.')[0] for n in sys.modules})").split())
    assert installed <= bare


UNPICKLE = """
import sys
import psutil
from apache_beam.internal import pickler
import apache_beam.ml.inference.base, apache_beam.runners.portability.fn_api_runner
import tests.handlers
sent = bytes.fromhex(sys.stdin.read())
before, rss = set(sys.modules), psutil.Process().memory_info().rss
pickler.loads(sent)
print(psutil.Process().memory_info().rss - rss)
print(*sorted(set(sys.modules) - before))
"""
HEAVY = {"matplotlib", "PIL", "pandas", "ipywidgets", "numba", "wasmtime", "resvg_py", "IPython"}


@pytest.mark.runs
def test_a_worker_imports_what_it_needs_to_record(tmp_path):
    from apache_beam.internal import pickler

    from mmlab import watch
    from tests.handlers import keyed

    handler = watch(keyed([["a"], ["b"]]), tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", UNPICKLE],
        input=pickler.dumps(handler).hex(),
        env=without_torch.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    grown, names = done.stdout.splitlines()
    assert int(grown) <= 4_000_000
    assert len(names.split()) <= 40
    assert not {name.partition(".")[0] for name in names.split()} & HEAVY


SILENT = {
    "_arguments.short": "an author's object may refuse to be named",
    "_faults.describe": "an author's exception may refuse to be named",
    "beam.cards.key_text": "an author's key may refuse to be named",
    "beam.runners.is_runner": "Beam knows no runner of that name: its own error comes later",
    "beam.handlers.model_copies": "a handler may know it only in a worker",
    "beam.handlers.shares_across_processes": "a handler may know it only in a worker",
    "checks.handler._beam_takes": "the answer: Beam does not take it",
    "checks.weights._by_content": "the answer: the file is damaged",
    "explorer.explorer.Explorer._start.do": "the panel has said what it was",
    "fresh.payload._can_be_pickled": "the answer: it cannot be pickled",
    "fresh.supervisor.exit_after": "the traceback is printed",
    "lessons.exercises.exercise.first_line": "an answer's exception may refuse to be named",
    "watching.steps._swap": "the author is warned that the step is not watched",
    "worker.handler._KeyedInference._plan": "Beam refuses the elements a moment later",
    "worker.failures.length": "an author's batch may have no length",
}
"""Where any error has no other consequence, and why; a fault of ours goes through `survived`."""


def test_no_fault_of_ours_is_silent():
    found = {where for name, path in modules().items() for where in silent_in(name, path)}
    assert found == set(SILENT)


def silent_in(module: str, path: Path) -> Iterator[str]:
    """Where a module takes any error, and neither raises nor reads it."""
    tree = ast.parse(path.read_text("utf-8"))
    for where, node in inside(tree, module.removeprefix("mmlab.")):
        if isinstance(node, ast.ExceptHandler) and is_broad(node.type):
            body = [n for statement in node.body for n in ast.walk(statement)]
            reads = any(isinstance(n, ast.Name) and n.id == node.name for n in body)
            if not reads and not any(isinstance(n, ast.Raise) for n in body):
                yield where
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("suppress", "contextlib.suppress")
            and any(map(is_broad, node.args))
        ):
            yield where


def is_broad(kind: ast.expr | None) -> bool:
    names = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(
        name is None or ast.unparse(name) in ("Exception", "BaseException") for name in names
    )


def inside(node: ast.AST, where: str) -> Iterator[tuple[str, ast.AST]]:
    """All nodes below one, each with the names of what it stands in."""
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, ast.FunctionDef | ast.ClassDef)
        place = f"{where}.{child.name}" if named else where
        yield place, child
        yield from inside(child, place)


COMMANDS = "doctor follow lessons replay run summary timeline"
PUBLIC = {
    # what the command `mmlab` asks each of its modules
    *(f"commands.{name}.{what}" for name in COMMANDS.split() for what in ("EXAMPLES", "HELP")),
    *(
        f"commands.{name}.{what}"
        for name in COMMANDS.split()
        for what in ("add_arguments", "begin")
    ),
    "commands.run.USAGE",
    # programs, which are started by name
    *("diagrams.engine.worker.main", "fresh.child.main", "fresh.supervisor.main"),
    *("fresh.template.main", "diagrams.engine.renew.main", "fonts.renew.main"),
    # what IPython calls
    *("magics.load_ipython_extension", "magics.unload_ipython_extension"),
    # read from each lesson in turn
    "lessons.exercises.EXERCISES",
    *(f"lessons.exercises.{name}.EXERCISES" for name in ("ab_pattern", "key_mapping")),
    *(f"lessons.exercises.{name}.EXERCISES" for name in ("memory_management", "start_here")),
    "lessons.exercises.sequence_pattern.EXERCISES",
    # types that public functions return or take
    *("course.Copied", "explorer.explorer.Explorer", "explorer.explorer.Run"),
    *("fresh.process.OnEvents", "machine.Diagnosis", "machine.Finding"),
    *("draw.theme.Palette", "prediction.loads.Cliff"),
    "explorer.setting.Layer",  # its name is in pictures
}
"""Public names that no other module of mmlab uses."""


def test_what_is_private_looks_private():
    defined = {
        name: public_names(ast.parse(path.read_text("utf-8"))) for name, path in modules().items()
    }
    used = {(other, what) for name, path in modules().items() for other, what in uses(name, path)}
    loose = {
        f"{name}.{what}".removeprefix("mmlab.")
        for name, whats in defined.items()
        for what in whats
        if (name, what) not in used
    }
    assert loose == PUBLIC


def public_names(tree: ast.Module) -> set[str]:
    """What a module defines at its top level: functions, classes, constants."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            every = (n for target in targets for n in ast.walk(target))
            names |= {n.id for n in every if isinstance(n, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def uses(module: str, path: Path) -> Iterator[tuple[str, str]]:
    """Names of other modules that a module imports, or reads from a module that it imports."""
    tree, known = ast.parse(path.read_text("utf-8")), modules()
    local: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in known:
                    local[alias.asname or alias.name] = full
                elif node.module != module:
                    yield node.module, alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield local.get(node.value.id, ""), node.attr
