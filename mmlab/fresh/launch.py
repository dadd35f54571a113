"""Start supervised runs: forked from the template process, or as new processes without fork."""

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
"""Environment variable: `spawn` starts every run as a new process, even if fork is available."""


class Supervised:
    """The parent's side of a run; see `mmlab.fresh.supervisor` for the protocol of the channel.

    The folder of the run exists until `close`. Methods that wait can be interrupted and called
    again.

    Attributes:
      pid: process id of the run, the leader of a process group if the system has groups.
    """

    def __init__(self, channel: socket.socket, folder: Path, job: bytes, python: _Python):
        self._channel = channel
        self._python = python
        try:
            with suppress(ConnectionError):  # the answer has the reason
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
        """Wait at most `seconds` for the end of the run. Returns whether it has ended."""
        return bool(wait([self._channel], seconds))

    def kill(self) -> None:
        """End the run and all processes that it started."""
        with suppress(OSError):
            self._channel.sendall(b".")

    def exit_code(self) -> int | None:
        """Exit code of a run that has ended; None if its supervisor was killed."""
        with suppress(OSError, ValueError):
            return int(self._channel.recv(64, socket.MSG_PEEK))
        return None

    def close(self) -> None:
        """End the run, have its folder removed, and wait for both."""
        with self._channel, suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)
            while self._channel.recv(64):
                pass
        if self._python.channel is self._channel:
            self._python.close()


def start_process(folder: Path, job: bytes) -> Supervised:
    """Start a run.

    Args:
      folder: of the run; made by its supervisor.
      job: content of `job.pickle`; see `mmlab.fresh.child`.
    Raises:
      OSError: no process can be started, or no temporary file can be written.
    """
    if not _forks():
        supervisor = _Python("supervisor")
        return Supervised(supervisor.channel, folder, job, supervisor)
    try:
        return _template().start(folder, job)
    except ConnectionError:  # the template was killed: start another one
        _stop_server()
        return _template().start(folder, job)


def warm_up() -> None:
    """Start the template if runs are forked, without waiting for it (it takes seconds)."""
    if _forks():
        _template()


def _forks() -> bool:
    """Whether runs are forked from a template."""
    return hasattr(os, "fork") and os.environ.get(_VARIABLE) != "spawn"


class _Python:
    """A Python process that runs `main` of one of mmlab's modules; `channel` connects to it."""

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
        """Close the channel, on which the process ends, and wait for its end."""
        self.channel.close()
        self._complaints.close()
        if os.getpid() == self._owner:
            self._process.wait()


class _Template(_Python):
    """The parent's side of the template process."""

    def __init__(self) -> None:
        super().__init__("template")

    def start(self, folder: Path, job: bytes) -> Supervised:
        self._wait_until_ready()
        channel, other = socket.socketpair()
        with other, suppress(ConnectionError):
            socket.send_fds(self.channel, [b"."], [other.fileno()])
        return Supervised(channel, folder, job, self)

    def _wait_until_ready(self) -> None:
        """Wait for its message without reading it, so that an interrupt cannot lose it."""
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
    """End the template, if there is one; the next run starts a new one."""
    global _the_template
    template, _the_template = _the_template, None
    if template is not None:
        template.close()


atexit.register(_stop_server)
