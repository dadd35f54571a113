"""The supervisor of a run: a process that starts it, ends all that it started, removes its folder.

Where there is fork it is forked from the template process, elsewhere it is a Python of its own. With
the process that wants the run, its *parent*, it shares a socket, the run's *channel*. On it go

    parent        a `Request`; then, each time that the run is to be ended, a byte
    supervisor    a line: the run's process id, or why there is no run
                  a line when the run has ended: its exit code

The parent hangs up when it has read what it wants of the folder, or dies. The supervisor hangs up
when nothing is left of the run: neither a process nor the folder.
"""

from __future__ import annotations

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
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from mmlab._files import temporary_files
from mmlab.fresh.child import JOB, LOG, OUTPUT, SCRATCH
from mmlab.fresh.tree import adopt_orphans, end_descendants, end_group, wait_for_descendants

_RUN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from mmlab.fresh import {0}; {0}.main()"
)


class Request(NamedTuple):
    """What the parent asks for.

    Attributes:
      folder: of the run; the supervisor makes it.
      job: a pickled `Job`.
    """

    folder: str
    job: bytes


Start = Callable[[Path], Any]
"""Starts the run of a folder as a group of processes; returns what has its `pid`, and waits for it:
a `Popen`, or a `Process` of psutil."""


def supervise(channel: socket.socket, start: Start) -> None:
    """Do what the parent asks for on `channel`, and hang up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    adopt_orphans()
    words = channel.makefile("rb")
    try:
        request: Request = pickle.load(words)
        make_folder(request)
        _run(Path(request.folder), channel, words, start)
    except (EOFError, pickle.UnpicklingError):
        pass  # the parent died before it had asked
    except OSError as problem:
        refuse(channel, problem)
    finally:
        with suppress(OSError):
            channel.shutdown(socket.SHUT_RDWR)


def make_folder(request: Request) -> None:
    """Make the folder of a run, with the job in it, or leave nothing.

    Raises:
      OSError: its disk is full; the sentence says what to do.
    """
    folder = Path(request.folder)
    with temporary_files():
        folder.mkdir(mode=0o700)
        try:
            for name in (SCRATCH, LOG):
                (folder / name).mkdir()
            (folder / JOB).write_bytes(request.job)
            (folder / OUTPUT).touch(mode=0o600)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _run(folder: Path, channel: socket.socket, words: BufferedReader, start: Start) -> None:
    try:
        try:
            run = start(folder)
        except OSError as problem:
            said = f"no process could be started: {problem.strerror}"
            raise OSError(problem.errno, said) from problem
        listener = threading.Thread(target=_listen, args=(words,), daemon=True)
        listener.start()
        _say(channel, run.pid)
        code = run.wait()
        end_group(run.pid)
        wait_for_descendants()
        _say(channel, code)
        listener.join()
    finally:
        wait_for_descendants()
        shutil.rmtree(folder, ignore_errors=True)


def _listen(words: BufferedReader) -> None:
    """End the run each time that the parent says so, and when it hangs up."""
    with suppress(OSError):
        while words.read(1):
            end_descendants()
    end_descendants()


def refuse(channel: socket.socket, problem: OSError) -> None:
    """Say that there is no run, and why."""
    filename = problem.filename and str(problem.filename)
    _say(channel, [problem.errno, problem.strerror or str(problem), filename])


def _say(channel: socket.socket, what: Any) -> None:
    with suppress(OSError):  # the parent may have hung up
        channel.sendall(f"{json.dumps(what)}\n".encode())


def exit_after(function: Callable[..., Any], *args: Any) -> NoReturn:
    """Call a function, and end this process with it, whatever else it would do."""
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
    """Arguments for a Python that runs the `main` of one of these modules."""
    return [sys.executable, "-c", _RUN.format(module), json.dumps(sys.path), argument]


def given_socket() -> socket.socket:
    """The socket that this process was started with."""
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
    """Supervise one run, of a Python that is started for it."""
    exit_after(supervise, given_socket(), _spawn)
