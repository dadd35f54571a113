"""What the project asks for, and what a package manager answers."""

from __future__ import annotations

import subprocess
import urllib.request
from pathlib import Path

from packaging.requirements import Requirement

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def layer(*extras):
    """What an install with these extras asks for, those that they are built on included."""
    found = [Requirement(r) for r in PROJECT["dependencies"]]
    for extra in extras:
        for requirement in map(Requirement, PROJECT["optional-dependencies"][extra]):
            if requirement.name == "mmlab":
                found += layer(*requirement.extras)
            else:
                found.append(requirement)
    return list({str(requirement): requirement for requirement in found}.values())


def index_is_there():
    try:
        urllib.request.urlopen("https://pypi.org/simple/pip/", timeout=10).close()
    except (urllib.error.URLError, OSError):
        return False
    return True


def said(command, folder=None):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr
