"""Runs notebooks as Colab would: its kernel stack, no Beam, and mmlab only as a wheel beside them.

    make colab                                        # 00, 04 and 05
    make colab NOTEBOOK=notebooks/04_memory_management.ipynb
    make colab NOTEBOOK="--home notebooks/00_start_here.ipynb"   # from a link: no wheel beside it

It makes an environment in build/colab (once: PyTorch and Colab's kernel stack), copies it, and runs
each notebook there: the set-up cell installs Beam and mmlab, nothing that was imported before may
have changed, and every text output has to be the stored one. Where there is an explorer, its Run
button is pressed in the end.
"""

from __future__ import annotations

import argparse
import configparser
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from notebooks import links

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
FOLDER = ROOT / "build" / "colab"
NOTEBOOKS = ("00_start_here.ipynb", "04_memory_management.ipynb", "05_explorer.ipynb")
KERNEL = "colab"
MAY_CHANGE = {"pillow"}
"""Beam asks for a newer one than Colab's, which has been imported with matplotlib; the set-up cell
imports the rest of the old one, so that the two are not mixed."""
CELL_SECONDS = 900

BEFORE = """
import importlib.metadata as _metadata, sys as _sys

def _loaded():
    owners = _metadata.packages_distributions()
    loaded = {name.partition('.')[0] for name in _sys.modules} & set(owners)
    return {dist: _metadata.version(dist) for name in loaded for dist in owners[name]}

_before = _loaded()
"""
AFTER = """
import importlib as _importlib, json as _json
_importlib.invalidate_caches()
print(_json.dumps({
    dist: [version, _metadata.version(dist)]
    for dist, version in _before.items() if _metadata.version(dist) != version
}))
"""
"""What the set-up cell changed of what had been imported: it would need a restart."""
EXPLORER = "05_explorer.ipynb"
PRESS_RUN = """
import ipywidgets as _widgets, json as _json
_panel = explorer._panel
_panel._controls['hint'].value = '1'
_panel._run.click()
_begun = not explorer.wait(0)
explorer.wait(300)
print(_json.dumps({
    'ipywidgets': _widgets.__version__,
    'begun': _begun,
    'says': _panel._words.value,
    'progress': _panel._progress.value,
    'runs': len(explorer.runs),
    **{name: str(explorer.table().iloc[-1][name]) for name in ('hint', 'ended', 'loads')},
}))
"""
PRESSED = {"begun": True, "progress": 48, "hint": "1", "ended": "done", "loads": "32"}
FEWEST_FRAMES = 5
PICTURES = {"image/png", "image/svg+xml"}
MOST_SECONDS = 180
"""From the first click to the first picture."""


class Client(NotebookClient):
    """Counts the frames of live pictures, by cell, and notes when the first picture came."""

    frames: Counter[int]
    first_picture: float | None = None

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        if self.first_picture is None and PICTURES & set(msg["content"].get("data") or ()):
            self.first_picture = time.monotonic()
        if msg["msg_type"] == "update_display_data" and "image/png" in msg["content"]["data"]:
            self.frames[cell_index] += 1
        return super().process_message(msg, cell, cell_index)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.colab", description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--python", default=sys.executable, help="makes the environment")
    parser.add_argument("--wheel", type=Path, default=None, help="by default the one in dist/")
    parser.add_argument(
        "--home", action="store_true", help="a server of this machine has released the wheel"
    )
    arguments = parser.parse_args()
    notebooks = arguments.notebooks or [
        path for name in NOTEBOOKS if (path := ROOT / "notebooks" / name).exists()
    ]
    wheel = arguments.wheel or max((ROOT / "dist").glob("mmlab-*.whl"), key=os.path.getmtime)
    base = environment(arguments.python)
    problems = []
    with home_of(wheel) if arguments.home else nullcontext() as home:
        for notebook in notebooks:
            found = check(notebook, wheel, base, home)
            problems += [f"{notebook.name}: {problem}" for problem in found]
    print("\n".join(problems) or "All is as it is stored.")
    return bool(problems)


def environment(python: str) -> Path:
    """A virtual environment with Colab's kernel stack, made once."""
    base, ready = FOLDER / "base", FOLDER / "base" / ".ready"
    wanted = (HERE / "requirements.txt").read_text()
    if ready.exists() and ready.read_text() == wanted:
        return base
    print(f"Making Colab's environment in {base.relative_to(ROOT)} (some minutes)", flush=True)
    shutil.rmtree(base, ignore_errors=True)
    pip = [base / "bin" / "python", "-m", "pip", "install", "--quiet"]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in (
        [python, "-m", "venv", base],
        [*pip, "--constraint", ROOT / "constraints.txt", "torch"],
        [*pip, "--requirement", HERE / "requirements.txt"],
    ):
        subprocess.run(command, check=True, env=environ)
    ready.write_text(wanted)
    return base


@contextmanager
def home_of(wheel: Path) -> Iterator[links.Home]:
    """A home of the project on this machine, which has released this wheel and has nothing else."""
    version = wheel.name.split("-")[1]
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "releases", "download", f"v{version}")
        folder.mkdir(parents=True)
        shutil.copy(wheel, folder)
        answer = functools.partial(SimpleHTTPRequestHandler, directory=root)
        with ThreadingHTTPServer(("127.0.0.1", 0), answer) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield links.Home(f"http://127.0.0.1:{server.server_port}", version)
            server.shutdown()


def check(path: Path, wheel: Path, base: Path, home: links.Home | None = None) -> list[str]:
    """Run a notebook in a fresh copy of the environment; what went wrong, in sentences."""
    place = FOLDER / "run"
    shutil.rmtree(place, ignore_errors=True)
    content = place / "content"
    content.mkdir(parents=True)
    # Links are enough: pip puts new files into the place of old ones, and changes none.
    shutil.copytree(base, place / "env", symlinks=True, copy_function=os.link)
    text = json.loads(path.read_text("utf-8"))
    if home is None:
        shutil.copy(wheel, content)
    else:
        links.linked(text, path.name, home)
    stored = nbformat.read(path, as_version=4)
    ran = nbformat.reads(json.dumps(text), as_version=4)
    setup = next(i for i, cell in enumerate(ran.cells) if cell.cell_type == "code")
    ran.cells.insert(setup + 1, nbformat.v4.new_code_cell(AFTER))
    ran.cells.insert(setup, nbformat.v4.new_code_cell(BEFORE))
    if path.name == EXPLORER:
        ran.cells.append(nbformat.v4.new_code_cell(PRESS_RUN))
    began = time.monotonic()
    client = Client(ran, timeout=CELL_SECONDS, kernel_name=KERNEL, record_timing=True)
    client.frames = Counter()
    try:
        with like_colab(place):
            client.execute(cwd=str(content))
    except CellExecutionError as error:
        return [f"stopped: {error}"]
    finally:
        nbformat.write(ran, place / path.name)
    seconds = time.monotonic() - began
    last = len(ran.cells) - 1
    problems = pressed(ran, client.frames[last]) if path.name == EXPLORER else []
    picture = (client.first_picture or float("inf")) - began
    if picture > MOST_SECONDS:
        problems.append(f"the first picture came after {picture:.0f} s")
    after = ran.cells.pop(setup + 2)
    ran.cells.pop(setup)
    print(
        f"{path.name}: {seconds:.0f} s, {seconds_of(ran.cells[setup]):.0f} of them in the set-up "
        f"cell, the first picture after {picture:.0f} s; "
        f"frames of live pictures: {', '.join(map(str, client.frames.values())) or 'none'}",
        flush=True,
    )
    changed = json.loads(after.outputs[0].text)
    problems += [
        f"{dist} was imported, and changed from {old} to {new}"
        for dist, (old, new) in changed.items()
        if dist not in MAY_CHANGE
    ]
    return problems + differences(stored, ran)


def pressed(ran: Any, frames: int) -> list[str]:
    """What was not as it should be when Run was pressed, in a cell that is taken away here."""
    said = json.loads(ran.cells.pop().outputs[-1].text)
    print(f"Run was pressed: {frames} frames came, {said}", flush=True)
    problems = [f"{name} is {said[name]}" for name in PRESSED if said[name] != PRESSED[name]]
    if ">done<" not in said["says"]:
        problems.append(f"beside the buttons stands {said['says']}")
    if frames < FEWEST_FRAMES:
        problems.append(f"{frames} frames came")
    shown = next(cell for cell in ran.cells if "mmlab.explore(" in cell.source)
    tables = [output.data.get("text/html", "") for output in shown.outputs if "data" in output]
    if "".join(tables).count("<td>done</td>") != said["runs"]:
        problems.append(f"the table below the controls has not {said['runs']} runs: {tables}")
    return [f"Run was pressed, and {problem}" for problem in problems]


class like_colab:
    """The environment variables under which a kernel is Colab's."""

    def __init__(self, place: Path):
        kernel = place / "jupyter" / "kernels" / KERNEL
        kernel.mkdir(parents=True)
        python = str(place / "env" / "bin" / "python")
        argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": "Colab", "language": "python"}
        (kernel / "kernel.json").write_text(json.dumps(spec))
        startup = place / "ipython" / "profile_default" / "startup"
        startup.mkdir(parents=True)
        (startup / "colab.py").write_text("import google.colab\n")
        shutil.copytree(HERE / "google", place / "colab" / "google")
        self._variables = {
            "JUPYTER_PATH": str(place / "jupyter"),
            "IPYTHONDIR": str(place / "ipython"),
            "PYTHONPATH": str(place / "colab"),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "PATH": f"{place / 'env' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in self._variables}
        os.environ.update(self._variables)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def seconds_of(cell: Any) -> float:
    times = cell.metadata.execution
    begin, end = (
        datetime.fromisoformat(times[name].replace("Z", "+00:00"))
        for name in ("iopub.execute_input", "shell.execute_reply")
    )
    return (end - begin).total_seconds()


def differences(stored: Any, ran: Any) -> list[str]:
    """Where the words of a notebook are not the stored ones."""
    found = []
    for number, (there, here) in enumerate(zip(stored.cells, ran.cells, strict=True)):
        if there.cell_type != "code" or "NBVAL_IGNORE_OUTPUT" in there.source:
            continue
        expected, seen = words(there), words(here)
        if "pip install" in there.source:
            seen = seen[-len(expected) :]  # what pip itself says depends on its settings
        if any(output.get("name") == "stderr" for output in here.outputs):
            found.append(f"cell {number} warns\n{seen}")
        if expected != seen:
            found.append(f"cell {number} says\n{seen}\ninstead of\n{expected}")
    return found


def words(cell: Any) -> str:
    """All that a cell shows in words, without what differs from machine to machine."""
    texts = [
        output.text if output.output_type == "stream" else output.data.get("text/plain", "")
        for output in cell.outputs
        if output.output_type != "error"
    ]
    text = "\n".join(part.strip() for part in texts)
    rules = configparser.RawConfigParser()
    rules.read(ROOT / "tests" / "e2e" / "notebooks" / "nbval.cfg")
    for name in rules.sections():
        text = re.sub(rules[name]["regex"], rules[name]["replace"], text)
    return text


if __name__ == "__main__":
    sys.exit(main())
