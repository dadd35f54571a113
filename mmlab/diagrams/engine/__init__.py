"""Graphviz and resvg in a separate process, which draws one picture after the other.

Graphviz is WebAssembly, fetched by `renew.py`, and runs in wasmtime. Wasmtime and resvg are
installed by pip and need only the system's C library. A failure of the process is raised as
`GraphvizError`.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from base64 import b64decode
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from platformdirs import user_cache_path

from mmlab import fonts
from mmlab._text import in_megabytes

_SECONDS = 60
"""Time limit of one drawing."""
_WORKER = Path(__file__).with_name("worker.py")
_PACKAGES = {"wasmtime": "wasmtime", "resvg_py": "resvg-py"}


class GraphvizError(RuntimeError):
    """A diagram could not be drawn."""


class _Ended(Exception):
    """The process ended instead of answering."""


def svg(dot: str) -> str:
    """Convert DOT text to an SVG document, the same on every machine.

    Raises:
      GraphvizError: the engine is missing, failed, or took longer than a minute.
    """
    drawn: str = _engine.ask({"dot": dot})["svg"]
    return drawn


def png(svg: str, width: int) -> bytes:
    """Convert an SVG document to a PNG on white, `width` pixels wide, in mmlab's fonts.

    Raises:
      GraphvizError: see `svg`.
    """
    request = {"svg": svg, "width": width, "fonts": fonts.files()}
    return b64decode(_engine.ask(request)["png"])


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """Standard input and output of the process."""
    if process.stdin is None or process.stdout is None:
        raise GraphvizError("the process that draws diagrams has no pipes")
    return process.stdin, process.stdout


class _Engine:
    """The process, started when needed and kept for further pictures."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request to the process and return its answer.

        Raises:
          GraphvizError: the process sent no answer or an error.
        """
        line = json.dumps(request).encode() + b"\n"
        with self._lock:
            try:
                answer = self._answer(line)
            except BaseException:
                self._stop()  # a late answer would be taken for the next one
                raise
        if "missing" in answer:
            raise GraphvizError(_missing(answer))
        if "error" in answer:
            raise GraphvizError(f"Graphviz could not draw this diagram: {answer['error']}")
        return answer

    def _answer(self, line: bytes) -> dict[str, Any]:
        process = self._process
        kept = process is not None and process.poll() is None
        if process is None or not kept:
            process = self._start()
        try:
            return self._exchange(process, line)
        except _Ended as end:
            if not kept:
                raise GraphvizError(str(end)) from None
        process = self._start()  # the old one may have been killed while idle
        try:
            return self._exchange(process, line)
        except _Ended as end:
            raise GraphvizError(str(end)) from None

    def _exchange(self, process: subprocess.Popen[bytes], line: bytes) -> dict[str, Any]:
        late = threading.Event()
        to, answers = _pipes(process)

        def stop() -> None:
            late.set()
            process.kill()

        watch = threading.Timer(_SECONDS, stop)
        watch.daemon = True
        watch.start()
        try:
            to.write(line)
            to.flush()
            answer = answers.readline()
        except OSError:
            answer = b""
        finally:
            watch.cancel()
        if answer.endswith(b"\n"):
            said: dict[str, Any] = json.loads(answer)
            return said
        process.kill()
        code = process.wait()
        if late.is_set():
            raise GraphvizError(
                f"Graphviz drew for more than {_SECONDS} s and was stopped: draw less, with "
                "depth=1 or step='label of one composite'."
            )
        raise _Ended(self._how_it_ended(code))

    def _start(self) -> subprocess.Popen[bytes]:
        self._stop()
        path = json.dumps([str(place) for place in sys.path])
        command = [sys.executable or "python3", "-I", "-S", str(_WORKER), path, _cache_folder()]
        try:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        except OSError:  # no writable folder
            self._errors = None
        try:
            self._process = process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors or subprocess.DEVNULL,
            )
        except OSError as error:
            raise GraphvizError(
                f"The process that draws diagrams could not be started: {error}. "
                "A diagram's .outline and .dot need no process."
            ) from None
        return process

    def _how_it_ended(self, code: int) -> str:
        """Describe why the process ended, if that is known, and what to do."""
        how = f"exit status {code}"
        if code < 0:
            names = {s.value: s.name for s in signal.Signals}
            how = names.get(-code, f"signal {-code}")
        last = self._last_error_line()
        sentence = f"The process that draws diagrams ended with {how}"
        sentence += f" ({last})" if last else ""
        limit = _limit_of_memory()
        if limit is not None:
            return (
                f"{sentence}. Processes may take {in_megabytes(limit)} of address space here "
                "(ulimit -v), and this one needs 300 MB the first time on a machine and 100 MB "
                "later: raise the limit, or draw where there is none."
            )
        return f"{sentence}. Draw again; if it happens again, memory is short here."

    def _last_error_line(self) -> str:
        if self._errors is None:
            return ""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:200] if lines else ""

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            to, answers = _pipes(process)
            process.kill()
            process.wait()
            with suppress(OSError):  # unread input cannot be flushed
                to.close()
            answers.close()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._stop()

    def forget(self) -> None:
        """Give up the parent's process in a forked child; a new one is started when needed."""
        _of_parents.append((self._process, self._errors))  # keep them open
        if self._process is not None:
            self._process.returncode = 0  # not a child of this process
        self._lock = threading.Lock()
        self._process = self._errors = None


_of_parents: list[Any] = []


def _cache_folder() -> str:
    """Folder of the cached machine code; "" if there is none."""
    folder = Path(os.environ.get("MMLAB_CACHE") or user_cache_path("mmlab")).expanduser()
    return str(folder / "engine") if folder.is_absolute() else ""


def _missing(answer: dict[str, Any]) -> str:
    """Describe what to install for this Python, or what an installed package lacks."""
    name = (answer["missing"] or "").split(".")[0]
    if name in _PACKAGES:
        return (
            f"Diagrams need the package {_PACKAGES[name]}, which is not installed: run "
            f"`{sys.executable or 'python3'} -m pip install {_PACKAGES[name]}`."
        )
    return (
        f"The packages that draw diagrams are installed and do not work here: {answer['error']}. "
        f"`{sys.executable or 'python3'} -m pip install --force-reinstall "
        f"{' '.join(_PACKAGES.values())}` puts in those for this machine."
    )


def _limit_of_memory() -> int | None:
    """Maximum address space of the process, bytes; None for no limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    return None if hard == resource.RLIM_INFINITY else hard


_engine = _Engine()
atexit.register(_engine.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_engine.forget)
