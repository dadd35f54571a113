"""Starts fresh processes: from a fork server where there is fork, one by one elsewhere."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from multiprocessing.connection import wait  # unlike select, for descriptors above 1023 too
from pathlib import Path
from typing import Protocol

from mmlab._files import temporary_files
from mmlab.fresh.child import OUTPUT, end_descendants

VARIABLE = "MMLAB_START"
"""Set to `spawn`, it makes every run start from nothing, also where there is fork."""

_RUN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from mmlab.fresh import {0}; {0}.main()"
)


class Started(Protocol):
    """A fresh process.

    Attributes:
      pid: its process id, which is also that of its process group, where there are groups.
    """

    pid: int

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most so long. Returns whether it has ended."""

    def kill(self) -> None:
        """End it and all that it started."""

    def close(self) -> int | None:
        """Give up what the parent holds of it; its exit code, None when that was lost."""


def start_process(folder: Path) -> Started:
    """Start a process that runs the job in `folder`.

    Raises:
      OSError: no process can be started.
    """
    if forks():
        try:
            return _server().start(folder)
        except ConnectionError:  # it was killed since it was last asked: another one takes over
            stop_server()
            return _server().start(folder)
    return _Spawned(folder)


def warm_up() -> None:
    """Start the fork server, where runs need one, without waiting until it is ready (seconds)."""
    if forks():
        _server()


def forks() -> bool:
    """Whether runs come from a fork server."""
    return hasattr(os, "fork") and os.environ.get(VARIABLE) != "spawn"


class _Server:
    """This process's end of a fork server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready = False
        self._owner = os.getpid()
        with temporary_files():
            self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the server)
        self._control, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(
                _command("server", str(other.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                pass_fds=[other.fileno()],
                start_new_session=True,
            )

    def is_alive(self) -> bool:
        return os.getpid() == self._owner and self._process.poll() is None

    def start(self, folder: Path) -> _Forked:
        channel, other = socket.socketpair()
        try:
            with other, self._lock:
                self._wait_until_ready()
                socket.send_fds(self._control, [os.fsencode(folder)], [other.fileno()])
                # The next request may only be sent when this one has been read.
                forked = _Forked(channel, other)
        except ConnectionError as problem:
            channel.close()
            raise ConnectionError(f"{problem}: {self._last_words()}") from None
        except BaseException:
            channel.close()
            raise
        return forked

    def _last_words(self) -> str:
        size = self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(size - 2000, 0))
        said = self._complaints.read().decode(errors="replace").strip()
        return f"it said {said!r}" if said else "it said nothing"

    def _wait_until_ready(self) -> None:
        if not self._ready:
            if self._control.recv(16) != b"ready\n":
                raise ConnectionError("the fork server ended before it was ready")
            self._ready = True

    def stop(self) -> None:
        """Hang up: the server ends by itself, with all that it started."""
        self._control.close()
        self._complaints.close()
        if os.getpid() == self._owner:
            self._process.wait()


class _Forked:
    """A child of the fork server; see `mmlab.fresh.server` for what is said on the channel."""

    def __init__(self, channel: socket.socket, other: socket.socket):
        self._channel = channel
        self._heard = b""
        self._ended = False
        other.close()
        while b"\n" not in self._heard and not self._ended:
            self._hear()
        if self._heard.startswith(b"fail "):
            raise OSError(f"no process could be started: {self._heard[5:].decode().strip()}")
        if not self._heard.startswith(b"pid "):
            raise ConnectionError("the fork server ended")
        self.pid = int(self._heard.split()[1])

    def _hear(self) -> None:
        try:
            words = self._channel.recv(1024)
        except ConnectionError:
            words = b""
        self._heard += words
        self._ended = not words

    def wait(self, seconds: float) -> bool:
        if not self._ended and wait([self._channel], seconds):
            self._hear()
        return self._ended

    def kill(self) -> None:
        with suppress(OSError):
            self._channel.sendall(b"kill\n")

    def close(self) -> int | None:
        self._channel.close()
        said = self._heard.split()
        return int(said[3]) if len(said) == 4 else None


class _Spawned:
    """A process that was started from nothing."""

    def __init__(self, folder: Path):
        with temporary_files():
            output = (folder / OUTPUT).open("ab")
        with output:
            self._process = subprocess.Popen(
                _command("child", str(folder)),
                stdin=subprocess.PIPE,  # its end tells the child that the parent has gone
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while (ended := self._process.poll() is not None) is False:
            if time.monotonic() >= deadline:
                break
            time.sleep(0.01)
        return ended

    def kill(self) -> None:
        end_descendants(self.pid)
        self._process.kill()

    def close(self) -> int | None:
        self._process.stdin.close()
        code = self._process.wait()
        if hasattr(os, "killpg"):
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
        return code


def _command(module: str, argument: str) -> list[str]:
    return [sys.executable, "-c", _RUN.format(module), json.dumps(sys.path), argument]


_the_server: _Server | None = None
_starting = threading.Lock()


def _server() -> _Server:
    global _the_server
    with _starting:
        if _the_server is None or not _the_server.is_alive():
            stop_server()
            _the_server = _Server()
        return _the_server


def stop_server() -> None:
    """End the fork server, if there is one; the next run starts another."""
    global _the_server
    server, _the_server = _the_server, None
    if server is not None:
        server.stop()


atexit.register(stop_server)
