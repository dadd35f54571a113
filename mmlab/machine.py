"""Checks of this machine for what mmlab needs, with fixes for problems."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from mmlab._cache import cache_folder
from mmlab._extras import MissingExtraError, extra_for
from mmlab._text import in_bytes, plural, shown_everywhere

_PYTHONS = ((3, 10), (3, 13))
_LEAST_MEMORY = 2e9
_LEAST_DISK = 1e9
_KERNEL_SECONDS = 60
_NAMED = ("mmlab", "apache-beam", "torch", "ipykernel", "ipywidgets", "jupyterlab")


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
      name: subject of the check.
      said: state of the subject.
      fix: what to do about a problem; empty without one.
    """

    name: str
    said: str
    fix: str = ""


@shown_everywhere
@dataclass(frozen=True)
class Diagnosis:
    """The results of all checks of this machine.

    Attributes:
      findings: results in the order of the checks.
    """

    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Findings with a problem."""
        return tuple(finding for finding in self.findings if finding.fix)

    @property
    def line(self) -> str:
        """All findings in one line, to send to an instructor, without names of files and users."""
        versions = ", ".join(f"{name} {there}" for name in _NAMED if (there := _version(name)))
        system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
        free = psutil.virtual_memory().available
        machine = f"{plural(os.cpu_count() or 1, 'CPU')}, {in_bytes(free)} of memory free"
        wrong = ", ".join(finding.name for finding in self.problems) or "nothing"
        return f"{versions}; {system}, {machine}; wrong: {wrong}"

    def __str__(self) -> str:
        width = max(len(finding.name) for finding in self.findings)
        lines = []
        for finding in self.findings:
            mark = "✗" if finding.fix else "✓"
            lines.append(f"{mark} {finding.name:{width}}  {finding.said}")
            if finding.fix:
                lines.append(f"  {'':{width}}  to fix it: {finding.fix}")
        return "\n".join([*lines, "", "To send to an instructor:", self.line])

    __repr__ = __str__


def doctor() -> Diagnosis:
    """Check this machine for what mmlab and its lessons need, and say how to fix problems.

    The checks cover Python, memory, disk, temporary files, the cache of the lessons, fonts, the
    engine of diagrams, the start of a kernel, and ports. They take a few seconds and change
    nothing.
    """
    return Diagnosis(tuple(found for look in _LOOKS for found in _looked(look)))


def _looked(look: tuple[str, Callable[[], Iterator[Finding]]]) -> list[Finding]:
    name, at = look
    try:
        return list(at())
    except MissingExtraError as missing:
        return [Finding(name, f"not installed ({missing})")]
    except Exception as problem:
        said = f"{type(problem).__name__}: {problem}"
        return [Finding(name, said.splitlines()[0], _FIXES.get(name, "see the message"))]


_FIXES = {
    "temporary files": "free some space, or set TMPDIR to another folder before Python starts",
    "cache": "set MMLAB_CACHE to a folder with 300 MB of room",
    "diagrams": "install mmlab again: pip install --force-reinstall 'mmlab[notebook]'",
    "kernel": "install it again: pip install --force-reinstall ipykernel",
    "ports": "let programs of this machine connect to 127.0.0.1 (firewall, VPN or sandbox)",
}


def _python() -> Iterator[Finding]:
    first, last = (".".join(map(str, version)) for version in _PYTHONS)
    fits = _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]
    yield Finding(
        "Python",
        f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        "" if fits else f"use Python {first} to {last}",
    )


def _packages() -> Iterator[Finding]:
    there = [f"{name} {version}" for name in _NAMED if (version := _version(name))]
    fix = "" if _version("apache-beam") else "pip install mmlab"
    yield Finding("packages", ", ".join(there), fix)


def _memory() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    fix = "close other programs: the lessons need 2 GB" if memory.available < _LEAST_MEMORY else ""
    said = f"{in_bytes(memory.available)} free of {in_bytes(memory.total)}"
    yield Finding("memory", said, fix)


def _temporary() -> Iterator[Finding]:
    with tempfile.TemporaryFile() as file:
        file.write(b"mmlab")
    yield _room("temporary files", Path(tempfile.gettempdir()), _FIXES["temporary files"])


def _cache() -> Iterator[Finding]:
    with extra_for("the cache of the lessons"):
        folder = cache_folder()
    with tempfile.TemporaryFile(dir=folder):
        pass
    yield _room("cache", folder, _FIXES["cache"])


def _room(name: str, folder: Path, fix: str) -> Finding:
    free = shutil.disk_usage(folder).free
    return Finding(name, f"{folder}, {in_bytes(free)} free", fix if free < _LEAST_DISK else "")


def _fonts() -> Iterator[Finding]:
    with extra_for("pictures"):
        from mmlab import fonts

        __import__("matplotlib")
    missing = [name for name in fonts.OURS if not (fonts.HERE / name).is_file()]
    fix = f"install mmlab again, {', '.join(missing)} is missing" if missing else ""
    yield Finding("fonts", "all there" if not missing else "incomplete", fix)


def _diagrams() -> Iterator[Finding]:
    with extra_for("mmlab.diagram"):
        from mmlab.diagrams import engine
    svg = engine.svg("digraph { a -> b }")
    yield Finding("diagrams", f"drawn by Graphviz, {len(svg):,} characters")


def _kernel() -> Iterator[Finding]:
    try:
        from jupyter_client.manager import start_new_kernel
    except ImportError:
        yield Finding("kernel", "not installed (JupyterLab comes with pip install 'mmlab[lab]')")
        return
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=_KERNEL_SECONDS)
    try:
        client.execute_interactive("1", timeout=_KERNEL_SECONDS, silent=True)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    yield Finding("kernel", "starts and answers")


def _ports() -> Iterator[Finding]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname(), timeout=5):
            pass
        port = server.getsockname()[1]
    yield Finding("ports", f"this machine connects to itself (port {port})")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


_LOOKS: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
    ("Python", _python),
    ("packages", _packages),
    ("memory", _memory),
    ("temporary files", _temporary),
    ("cache", _cache),
    ("fonts", _fonts),
    ("diagrams", _diagrams),
    ("kernel", _kernel),
    ("ports", _ports),
)
