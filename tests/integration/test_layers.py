"""Each layer of the install, from the wheel into an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.requirements import ROOT, index_is_there, said

LAYERS = ("core", "notebook", "lessons", "lab")
PIP = (sys.executable, "-m", "uv", "pip")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    if not index_is_there():
        pytest.skip("needs the package index: connect to the network to run it")
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder / "project", ignore=ignored)
    said([sys.executable, "-m", "uv", "build", "--wheel", "-o", folder, folder / "project"])
    return next(folder.glob("mmlab-*.whl"))


@pytest.mark.runs
@pytest.mark.network
@pytest.mark.part("install")
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_is_whole_and_names_the_next_one(layer, wheel, tmp_path):
    python = tmp_path / "env" / "bin" / "python"
    said([sys.executable, "-m", "uv", "venv", "--python", sys.executable, tmp_path / "env"])
    extra = "" if layer == "core" else f"[{layer}]"
    began = time.monotonic()
    constraints = ("--constraint", ROOT / "constraints.txt")
    if layer in ("lessons", "lab"):
        # The build for processors, where its index can be reached: the other is some GB larger.
        command = [*PIP, "install", "--python", python, *constraints, "--torch-backend", "cpu"]
        subprocess.run([*command, "torch"], capture_output=True)
    said([*PIP, "install", "--python", python, *constraints, f"mmlab{extra} @ {wheel.as_uri()}"])
    seconds = time.monotonic() - began
    size = sum(file.stat().st_size for file in (tmp_path / "env").rglob("*") if file.is_file())
    print(f"{layer}: {size / 1e6:,.0f} MB, {seconds:.0f} s to install")
    shutil.copy(Path(__file__).parents[1] / "layers.py", tmp_path)
    without = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python, "layers.py", layer]
    done = subprocess.run(command, cwd=tmp_path, env=without, capture_output=True, text=True)
    shutil.rmtree(tmp_path / "env")
    assert f"{layer} is whole" in done.stdout, done.stderr[-2000:]
