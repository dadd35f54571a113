"""Every Python and every end of the range of Beam that pyproject.toml claims: `make versions`.

Each Python gets an environment with Beam's oldest claimed version and the exact versions of
constraints.txt, but for what that Beam is too old for, and runs the tests that touch Beam; then
again with the newest Beam of the package index, where that is another one. Colab's Python also
runs without constraints.txt, with the newest of everything, as pip gives it to a user. At the end
it says what each Python ran. A Python that is missing is a failure, unless nox is given
--no-error-on-missing-interpreters.

`MMLAB_BEAM=newest nox -s versions-3.12` runs one Python with one Beam, `nox -s newest` the newest.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from pathlib import Path
from xml.etree import ElementTree

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
ANY = SpecifierSet()
TESTS = (
    *("-q", "-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider"),
    *("tests/unit", "--ignore=tests/unit/project"),
    *("tests/integration/watching", "--ignore=tests/integration/watching/test_live.py"),
    "tests/integration/transforms",
    "tests/integration/checks",
    "tests/integration/prediction",
)

OF_NEWEST = (*TESTS, "tests/integration")

nox.options.sessions = ["versions", "newest", "report"]
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True

# Pyenv keeps Pythons that are not on PATH, but for commands that say so and fail.
_PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
_OF_PYENV = [str(folder) for python in PYTHONS for folder in _PYENV.glob(f"{python}.*/bin")]
os.environ["PATH"] = os.pathsep.join([*_OF_PYENV, os.environ["PATH"]])

_outcomes: dict[str, dict[str, str]] = {}
"""What became of the tests, by Python and by what was installed."""


@nox.session(python=PYTHONS)
def versions(session: nox.Session) -> None:
    """The tests on the oldest and on the newest Beam."""
    outcomes = _outcomes.setdefault(session.python, {})
    # First: with the small build in reach, nothing asks for the large one.
    session.install("--constraint", "constraints.txt", "torch")
    ends = {"oldest": f"apache-beam=={OLDEST}", "newest": BEAM}
    for end in [os.environ["MMLAB_BEAM"]] if "MMLAB_BEAM" in os.environ else ends:
        beam = _beam(session, ends[end])
        what = f"apache-beam {beam['version']}"
        if what not in outcomes:
            outcomes[what] = "could not be installed"
            pins = Path(session.create_tmp(), "pins.txt")
            pins.write_text("\n".join(_pins(session, beam)), encoding="utf-8")
            session.install("--constraint", str(pins), "--editable", ".[test]")
            session.log(f"Python {session.python}, {what}")
            _test(session, outcomes, what, TESTS)


@nox.session(python="3.12")
def newest(session: nox.Session) -> None:
    """The newest of everything, which constraints.txt may not have seen yet."""
    upgrade = ("--upgrade", "--upgrade-strategy", "eager")
    session.install(*upgrade, "--editable", ".[test]")
    outcomes = _outcomes.setdefault(session.python, {})
    _test(session, outcomes, "the newest of everything", OF_NEWEST)


@nox.session(python=False)
def report(session: nox.Session) -> None:
    """Which of the Pythons that we claim ran, and what."""
    for python in PYTHONS:
        if python not in _outcomes:
            session.warn(
                f"Python {python}: nothing ran; python{python} is missing, or not asked for"
            )
        elif not _outcomes[python]:
            session.warn(f"Python {python}: nothing ran; its environment could not be made")
        for what, outcome in _outcomes.get(python, {}).items():
            session.log(f"Python {python}, {what}: {outcome}")


def _test(
    session: nox.Session, outcomes: dict[str, str], what: str, tests: tuple[str, ...]
) -> None:
    results, began = Path(session.create_tmp(), "results.xml"), time.monotonic()
    results.unlink(missing_ok=True)
    outcomes[what] = "the tests could not be run"
    try:
        session.run("python", "-m", "pytest", f"--junitxml={results}", *(session.posargs or tests))
    finally:
        if results.exists():
            minutes = (time.monotonic() - began) / 60
            outcomes[what] = f"{_counts(results)} in {minutes:.1f} minutes"


def _counts(results: Path) -> str:
    """How many tests ended in which way, from what pytest wrote."""
    suite = ElementTree.parse(results).getroot().find("testsuite")
    others = {name: int(suite.get(name)) for name in ("failures", "errors", "skipped")}
    passed = int(suite.get("tests")) - sum(others.values())
    return ", ".join([f"{passed} passed", *(f"{n} {name}" for name, n in others.items())])


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
