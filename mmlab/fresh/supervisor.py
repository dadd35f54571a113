"""The supervisor of a run: starts it, ends all that it started, and removes its folder.

There is one supervisor process per run: forked from the template, or a new Python without fork. A
socket, the *channel*, connects it to the process that requested the run, its *parent*. They send

    parent        a pickle: the folder to make, and the content of its file `job.pickle`
                  a byte for each request to end the run
    supervisor    a line of JSON: the run's process id, or why there is no run
                  a line when the run has ended: its exit code

The parent closes the channel when it has read the folder, or when it dies. The supervisor closes it
when the processes and the folder of the run are gone.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

import psutil

from mmlab._files import temporary_files

JOB, OUTPUT, LOG, SCRATCH = "job.pickle", "output.txt", "log", "tmp"
"""Names in the folder of a run; see `mmlab.fresh.child`."""
_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36
"""Options of Linux's `prctl`."""

_RUN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from mmlab.fresh import {0}; {0}.main()"
)


def supervise(channel: socket.socket, start: Callable[[Path], Any]) -> None:
    """Serve the requests of the parent on `channel`, then close it.

    Args:
      start: starts the run of a folder in a process group of its own; returns its `Popen`, or
        psutil's `Process`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _adopt_orphans()
    words = channel.makefile("rb")
    try:
        folder, job = pickle.load(words)
        with temporary_files():
            folder.mkdir(mode=0o700)
        try:
            _fill(folder, job)
            del job  # else a forked run would keep it in memory
            _run(folder, channel, words, start)
        finally:
            _wait_for_descendants()
            shutil.rmtree(folder, ignore_errors=True)
    except (EOFError, pickle.UnpicklingError):
        pass  # the parent died before its request
    except OSError as problem:
        say(channel, str(problem))
    finally:
        with suppress(OSError):
            channel.shutdown(socket.SHUT_RDWR)


def _fill(folder: Path, job: bytes) -> None:
    with temporary_files():
        (folder / JOB).write_bytes(job)
        (folder / OUTPUT).touch()
        for name in (LOG, SCRATCH):
            (folder / name).mkdir()


def _run(
    folder: Path, channel: socket.socket, words: IO[bytes], start: Callable[[Path], Any]
) -> None:
    try:
        run = start(folder)
    except OSError as problem:
        raise OSError(f"no process could be started: {problem}") from problem
    listener = threading.Thread(target=_listen, args=(words,), daemon=True)
    listener.start()
    say(channel, run.pid)
    code = run.wait()
    if hasattr(os, "killpg"):  # without a subreaper, the only way to find orphans
        with suppress(OSError):
            os.killpg(run.pid, signal.SIGKILL)
    _wait_for_descendants()
    say(channel, code)
    listener.join()


def _listen(words: IO[bytes]) -> None:
    """End the run at each request of the parent, and when the channel is closed."""
    with suppress(OSError):
        while words.read(1):
            end_descendants()
    end_descendants()


def end_descendants() -> None:
    """Kill all processes that this one has started or adopted, also those in other sessions."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            process.kill()


def _wait_for_descendants() -> None:
    """Kill all descendants repeatedly until there are none, as they may start others."""
    if not hasattr(os, "WNOHANG"):  # Windows has no zombies to wait for
        end_descendants()
        return
    with suppress(ChildProcessError):  # no children left
        while True:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                end_descendants()
                os.waitpid(-1, 0)


def _adopt_orphans() -> None:
    """Adopt the children of dead descendants, so that they can be found, ended and waited for."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """Have the system kill this process when its parent dies."""
    _prctl(_SET_PARENT_DEATH_SIGNAL, getattr(signal, "SIGKILL", 0))


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def say(channel: socket.socket, what: int | str) -> None:
    """Send a line to the parent, which may have closed the channel."""
    with suppress(OSError):
        channel.sendall(f"{json.dumps(what)}\n".encode())


def exit_after(function: Callable[..., Any], *args: Any) -> NoReturn:
    """Call a function, then end this process at once, without exit handlers."""
    code = 1
    try:
        function(*args)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def command(module: str, argument: str) -> list[str]:
    """Return the command for a Python that runs `main` of one of these modules."""
    return [sys.executable, "-c", _RUN.format(module), json.dumps(sys.path), argument]


def given_socket() -> socket.socket:
    """Return the socket that this process inherited."""
    if sys.platform == "win32":
        return socket.fromshare(sys.stdin.buffer.read())
    return socket.socket(fileno=int(sys.argv[-1]))


def _spawn(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / OUTPUT).open("ab") as output:
        return subprocess.Popen(
            command("child", str(folder)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def main() -> None:
    """Supervise one run in a new Python process."""
    exit_after(supervise, given_socket(), _spawn)
