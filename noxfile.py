"""Every Python and every end of the range of Beam that pyproject.toml claims: `make versions`.

Each Python that is found gets an environment with Beam's oldest claimed version and the exact
versions of constraints.txt, but for what that Beam is too old for, and runs the tests that touch
Beam; then again with the newest Beam of the package index, where that is another one.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import nox
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT, max_version="3.13")
BEAM = next(r for r in PROJECT["project"]["dependencies"] if r.startswith("apache-beam"))
EXTRAS = ("dask", "gcp")
OLDEST = re.search(r">=([\d.]+)", BEAM)[1]
PINS = Path("constraints.txt").read_text(encoding="utf-8").splitlines()
TORCH = next(pin for pin in PINS if pin.startswith("torch=="))
ANY = SpecifierSet()
TESTS = (
    *("-q", "-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider"),
    *("tests/unit", "--ignore=tests/unit/test_environment.py"),
    "tests/behaviour/test_bad_input.py",
    "tests/behaviour/test_bad_input_table.py",
    "tests/behaviour/test_beam_changes.py",
    "tests/behaviour/test_transparent.py",
    "tests/behaviour/test_truth.py",
    "tests/diagrams/test_graph.py",
    "tests/lab/test_grouping.py",
    "tests/lab/test_preflight.py",
)

nox.options.sessions = ["versions"]
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False


@nox.session(python=PYTHONS)
def versions(session: nox.Session) -> None:
    """The tests on the oldest and on the newest Beam."""
    session.install(TORCH)  # first: with the small build in reach, nothing asks for the large one
    tested = set()
    for beam in (_beam(session, f"apache-beam=={OLDEST}"), _beam(session, BEAM)):
        version = beam["version"]
        if version not in tested:
            tested.add(version)
            pins = Path(session.create_tmp(), "pins.txt")
            pins.write_text("\n".join(_pins(session, beam)), encoding="utf-8")
            session.install("--constraint", str(pins), "--editable", ".[test]")
            session.log(f"Python {session.python}, apache-beam {version}")
            session.run("python", "-m", "pytest", *(session.posargs or TESTS))


def _beam(session: nox.Session, wanted: str) -> dict:
    """What the package index says of the Beam that this Python would get."""
    asked = ("pip", "install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet")
    report = session.run("python", "-m", *asked, "--report", "-", wanted, silent=True, stderr=None)
    return json.loads(report)["install"][0]["metadata"]


def _pins(session: nox.Session, beam: dict) -> list[str]:
    """constraints.txt with this Beam, without the pins that it is too old or too new for."""
    python = {"python_version": session.python, "python_full_version": f"{session.python}.0"}
    asks = [Requirement(text) for text in beam["requires_dist"]]
    allowed: dict[str, SpecifierSet] = {}
    for ask, extra in itertools.product(asks, ("", *EXTRAS)):
        if not ask.marker or ask.marker.evaluate({**python, "extra": extra}):
            name = canonicalize_name(ask.name)
            allowed[name] = allowed.get(name, ANY) & ask.specifier
    kept = [f"apache-beam=={beam['version']}"]
    for line in PINS:
        pin = Requirement(line)
        name, version = canonicalize_name(pin.name), str(pin.specifier).removeprefix("==")
        if name != "apache-beam" and allowed.get(name, ANY).contains(version):
            kept.append(line)
    return kept
