"""Starts supervised runs: from the template process where there is fork, one by one elsewhere."""

from __future__ import annotations

import atexit
import json
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from multiprocessing.connection import wait  # unlike select, for descriptors above 1023 too
from pathlib import Path
from typing import Any

from mmlab._files import temporary_files
from mmlab.fresh.supervisor import command

_VARIABLE = "MMLAB_START"
"""Set to `spawn`, it makes every run start from nothing, also where there is fork."""


class Supervised:
    """A run, as its parent sees it; see `mmlab.fresh.supervisor` for what is said on the channel.

    The folder of the run, and what is read of it, is there until `close`. All that waits can be
    interrupted, and called again.

    Attributes:
      pid: process id of the run, which leads a process group, where there are groups.
    """

    def __init__(self, channel: socket.socket, folder: Path, job: bytes, python: _Python):
        self._channel = channel
        self._python = python
        try:
            with suppress(ConnectionError):  # why, is in the answer
                channel.sendall(pickle.dumps((folder, job)))
            answer = self._answer()
            if not isinstance(answer, int):
                raise OSError(answer)
        except BaseException:
            self.close()
            raise
        self.pid = answer

    def _answer(self) -> Any:
        line = b""
        while not line.endswith(b"\n"):
            if not (byte := self._channel.recv(1)):
                raise ConnectionError(f"the supervisor ended: {self._python.last_words()}")
            line += byte
        return json.loads(line)

    def wait(self, seconds: float | None) -> bool:
        """Wait for the end of the run, at most so long. Returns whether it has ended."""
        return bool(wait([self._channel], seconds))

    def kill(self) -> None:
        """End the run and all that it started."""
        with suppress(OSError):
            self._channel.sendall(b".")

    def exit_code(self) -> int | None:
        """The exit code of a run that has ended; None when it was lost with its supervisor."""
        with suppress(OSError, ValueError):
            return int(self._channel.recv(64, socket.MSG_PEEK))
        return None

    def close(self) -> None:
        """End what there is of the run, its folder included, and wait for that."""
        with self._channel, suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)
            while self._channel.recv(64):
                pass
        if self._python.channel is self._channel:
            self._python.close()


def start_process(folder: Path, job: bytes) -> Supervised:
    """Start a run.

    Args:
      folder: of the run; its supervisor makes it.
      job: what `mmlab.fresh.child` reads.

    Raises:
      OSError: no process can be started, or no temporary file be written.
    """
    if not _forks():
        supervisor = _Python("supervisor")
        return Supervised(supervisor.channel, folder, job, supervisor)
    try:
        return _template().start(folder, job)
    except ConnectionError:  # it was killed since it was last asked: another one takes over
        _stop_server()
        return _template().start(folder, job)


def warm_up() -> None:
    """Start the template, where runs need it, without waiting until it is ready (seconds)."""
    if _forks():
        _template()


def _forks() -> bool:
    """Whether runs are forked from a template."""
    return hasattr(os, "fork") and os.environ.get(_VARIABLE) != "spawn"


class _Python:
    """A Python that runs the `main` of one of our modules, which it shares `channel` with."""

    def __init__(self, module: str) -> None:
        self._owner = os.getpid()
        with temporary_files():
            self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        self.channel, other = socket.socketpair()
        posix = sys.platform != "win32"
        with other:
            self._process = subprocess.Popen(
                command(module, str(other.fileno())),
                stdin=subprocess.DEVNULL if posix else subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                pass_fds=[other.fileno()] if posix else [],
                start_new_session=True,
            )
            if sys.platform == "win32":
                with self._process.stdin as stdin:
                    stdin.write(other.share(self._process.pid))

    def is_alive(self) -> bool:
        return os.getpid() == self._owner and self._process.poll() is None

    def last_words(self) -> str:
        size = self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(size - 2000, 0))
        said = self._complaints.read().decode(errors="replace").strip()
        return f"it said {said!r}" if said else "it said nothing"

    def close(self) -> None:
        """Hang up, and wait for the process, which ends by itself."""
        self.channel.close()
        self._complaints.close()
        if os.getpid() == self._owner:
            self._process.wait()


class _Template(_Python):
    """The template process, as its parent sees it."""

    def __init__(self) -> None:
        super().__init__("template")

    def start(self, folder: Path, job: bytes) -> Supervised:
        self._wait_until_ready()
        channel, other = socket.socketpair()
        with other, suppress(ConnectionError):
            socket.send_fds(self.channel, [b"."], [other.fileno()])
        return Supervised(channel, folder, job, self)

    def _wait_until_ready(self) -> None:
        """Wait for its word, which is left where it is: an interrupt shall not lose it."""
        if not self.channel.recv(1, socket.MSG_PEEK):
            raise ConnectionError(f"the template ended before it was ready: {self.last_words()}")


_the_template: _Template | None = None
_starting = threading.Lock()


def _template() -> _Template:
    global _the_template
    with _starting:
        if _the_template is None or not _the_template.is_alive():
            _stop_server()
            _the_template = _Template()
        return _the_template


def _stop_server() -> None:
    """End the template, if there is one; the next run starts another."""
    global _the_template
    template, _the_template = _the_template, None
    if template is not None:
        template.close()


atexit.register(_stop_server)
