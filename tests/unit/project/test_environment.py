"""The lists of dependencies agree, and what conda's pip would install installs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement

from mmlab._extras import _LESSONS, _NOTEBOOK
from tests.requirements import PROJECT, ROOT, index_is_there, layer, said

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
CLAIMED = ("3.10", "3.11", "3.12", "3.13")


def pip_lines():
    return next(entry["pip"] for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict))


def pins(python):
    """Package name to pinned version, for one version of Python on this machine."""
    environment = {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate(environment):
            found[pin.name] = str(pin.specifier).removeprefix("==")
    return found


def requirements():
    extras = PROJECT["optional-dependencies"].values()
    ours = [*PROJECT["dependencies"], *(r for extra in extras for r in extra)]
    return [Requirement(r) for r in ours if Requirement(r).name != "mmlab"]


def test_conda_makes_python_and_pip_installs_this_project():
    names = [entry for entry in ENVIRONMENT["dependencies"] if isinstance(entry, str)]
    assert names == ["python=3.12", "pip"]
    assert pip_lines() == ["--constraint constraints.txt", "--editable .[lab,test]"]


def test_its_python_is_one_that_the_project_claims():
    python = re.search(r"python=(.*)", str(ENVIRONMENT["dependencies"]))[1].split("'")[0]
    assert python in CLAIMED
    assert Requirement(f"x{PROJECT['requires-python']}").specifier.contains(python)


@pytest.mark.parametrize("python", CLAIMED)
def test_every_dependency_is_pinned_within_its_range(python):
    pinned = pins(python)
    environment = {**default_environment(), "python_version": python, "extra": ""}
    for requirement in requirements():
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.name in pinned, requirement
            assert requirement.specifier.contains(pinned[requirement.name]), requirement


def test_the_layers_build_on_each_other():
    names = {extra: {r.name for r in layer(extra)} for extra in ("notebook", "lessons", "lab")}
    core = {requirement.name for requirement in layer()}
    assert core == {"apache-beam", "msgspec", "numpy", "psutil", "scipy"}
    assert core < names["notebook"] < names["lessons"] < names["lab"]
    assert {"torch", "scikit-learn", "filelock"} == names["lessons"] - names["notebook"]
    assert "torch" in {requirement.name for requirement in layer("test")}


def test_a_missing_package_of_a_layer_names_the_extra():
    import_names = {"scikit-learn": "sklearn", "pillow": "PIL", "resvg-py": "resvg_py"}
    for extra, packages in (("notebook", _NOTEBOOK), ("lessons", _LESSONS)):
        declared = {Requirement(r).name for r in PROJECT["optional-dependencies"][extra]}
        named = {import_names.get(name, name) for name in declared - {"mmlab"}}
        assert packages - {"IPython"} == named  # which comes with ipywidgets


def test_the_wheel_has_every_package():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "mmlab").rglob("__init__.py")
    }
    assert set(tool["setuptools"]["packages"]) == found | {"mmlab.notebooks"}


def test_nothing_is_pinned_loosely():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"==[^*,]+", str(Requirement(line).specifier)), line


@pytest.fixture
def fresh(tmp_path):
    """A copy of the project, and the Python of an environment that holds nothing."""
    if not index_is_there():
        pytest.skip("needs the package index: connect to the network to run it")
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, tmp_path / "project", ignore=ignored)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    return tmp_path / "project", python


@pytest.mark.runs
@pytest.mark.network
def test_the_pip_lines_install_into_a_fresh_environment(fresh):
    """All that they ask for is in the index, and pip takes them and builds the project.

    Resolved by uv, which reads the same lines: pip would load some GB for it.
    """
    project, python = fresh
    words = [word for line in pip_lines() for word in line.split()]
    resolve = [sys.executable, "-m", "uv", "pip", "install", "--dry-run", "--python", python]
    found = dict(re.findall(r"^ \+ ([\w.-]+)==(\S+)", said([*resolve, *words], project), re.M))
    expected = pins(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert {name: found[name] for name in ("torch", "nbval", "apache-beam", "jupyterlab")} == {
        name: expected[name] for name in ("torch", "nbval", "apache-beam", "jupyterlab")
    }
    said([python, "-m", "pip", "install", "--quiet", "--no-deps", *words], project)
    # What it needs is taken from here, where it is installed: last on the path, since the finders
    # of two editable installations have the same name.
    [site] = said([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).split()
    Path(site, "here.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = said([python, "-c", "import mmlab, nbval; print(mmlab.__file__)"], project.parent)
    assert Path(where.strip()).is_relative_to(project)


@pytest.mark.runs
@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"PYTHON": "no-such-python"}, "mmlab needs Python 3.10 to 3.13; no-such-python"),
        ({"PYTHON": sys.executable, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/"}, "is the network"),
    ],
)
def test_set_up_that_fails_says_what_to_do(tmp_path, settings, sentence):
    words = [f"{name}={value}" for name, value in settings.items()]
    command = ["make", "lab", f"VENV={tmp_path / 'venv'}", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert sentence in done.stdout
