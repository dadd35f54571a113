"""Every Python and every end of the range of Beam that pyproject.toml claims: `make versions`.

Each Python that is found gets an environment with the exact versions of constraints.txt and Beam's
oldest claimed version, and runs the tests that touch Beam; then again with the newest Beam that the
package index has, where that is another one.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import nox
from packaging.version import Version

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT, max_version="3.13")
BEAM = next(r for r in PROJECT["project"]["dependencies"] if r.startswith("apache-beam"))
OLDEST = re.search(r">=([\d.]+)", BEAM)[1]
PINS = Path("constraints.txt").read_text(encoding="utf-8").splitlines()
TORCH = next(pin for pin in PINS if pin.startswith("torch=="))
TESTS = (
    "tests/unit",
    "tests/behaviour/test_bad_input.py",
    "tests/behaviour/test_beam_changes.py",
    "tests/behaviour/test_transparent.py",
    "tests/behaviour/test_truth.py",
    "tests/diagrams/test_graph.py",
    "tests/lab/test_grouping.py",
    "tests/lab/test_preflight.py",
    "tests/prediction/test_beam.py",
)
QUICKLY = ("-q", "-n", "2", "--dist", "loadfile", "-m", "not network")

nox.options.sessions = ["versions"]
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False


@nox.session(python=PYTHONS)
def versions(session: nox.Session) -> None:
    """The tests on the oldest and on the newest Beam."""
    session.install(TORCH)  # first: with the small build in reach, nothing asks for the large one
    pins = Path(session.create_tmp(), "pins.txt")
    pins.write_text("\n".join(_with_beam(OLDEST)), encoding="utf-8")
    session.install("--constraint", str(pins), "--editable", ".[test]")
    _test(session, OLDEST)
    newest = _newest(session)
    if Version(newest) == Version(OLDEST):
        session.log(f"apache-beam {OLDEST} is also the newest: nothing else to run")
        return
    session.install("--upgrade", f"apache-beam=={newest}")
    _test(session, newest)


def _with_beam(version: str) -> list[str]:
    return [re.sub(r"^apache-beam==.*", f"apache-beam=={version}", pin) for pin in PINS]


def _newest(session: nox.Session) -> str:
    """The newest Beam that the project claims and the index has for this Python."""
    asked = ("pip", "install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet")
    report = session.run("python", "-m", *asked, "--report", "-", BEAM, silent=True, stderr=None)
    return json.loads(report)["install"][0]["metadata"]["version"]


def _test(session: nox.Session, beam: str) -> None:
    session.log(f"Python {session.python}, apache-beam {beam}")
    session.run("python", "-m", "pytest", *QUICKLY, *(session.posargs or TESTS))
