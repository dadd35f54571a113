"""The fork server: a process with torch and Beam imported, which forks one child per run.

It is a process of its own rather than `multiprocessing`'s, because that one is shared with every
other library of the notebook, and runs the notebook's main script again in each child. It has one
thread, so that forking is safe, and a session of its own, so that an interrupt of the notebook
does not reach it. When its parent is gone it ends, with all that it started.

A request is the folder of a job and one end of a socket, the run's *channel*. On it the server says
`pid N` when the child is there, or `fail` and why, and `exit N` when it has ended. Any word to the
server, or hanging up, kills the child with all its descendants.

Processes that a child has started in sessions of their own belong to no group of its. On Linux the
child adopts those whose parents end before it does, and the server adopts what the child leaves: so
what is a child of the server, and no run, is of a run that has ended.
"""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait  # unlike select, for descriptors above 1023 too
from pathlib import Path

import psutil

from mmlab.fresh.child import adopt_orphans, end_descendants, run_job

PRELOADED = (
    "torch",
    "pyarrow.dataset",
    "pyarrow.pandas_compat",
    "apache_beam",
    "apache_beam.ml.inference.pytorch_inference",
    "apache_beam.runners.portability.fn_api_runner.fn_runner",
    "apache_beam.runners.portability.fn_api_runner.worker_handlers",
    "apache_beam.runners.interactive.interactive_environment",
    "apache_beam.runners.worker.sdk_worker_main",
    "apache_beam.utils.multi_process_shared",
    "mmlab.watching",
    "mmlab.lessons",
    "mmlab.fresh.child",
    "mmlab.fresh.limits",
    "mmlab.explorer.setting",
)


@dataclass
class _Child:
    pid: int
    folder: str
    channel: socket.socket


class ForkServer:
    """Answers requests on `control` until it is closed."""

    def __init__(self, control: socket.socket):
        self._control = control
        self._children: dict[socket.socket, _Child] = {}
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)

    def serve(self) -> None:
        adopt_orphans()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        try:
            while self._answer_once():
                pass
        finally:
            for child in list(self._children.values()):
                self._end(child, _end_run(child.pid))
                shutil.rmtree(child.folder, ignore_errors=True)

    def _answer_once(self) -> bool:
        for end in wait([self._control, self._woken, *self._children]):
            if end is self._control:
                if not self._take_request():
                    return False
            elif end is self._woken:
                with suppress(BlockingIOError):
                    while self._woken.recv(512):
                        pass
                self._reap()
            elif end in self._children:
                self._hear(self._children[end])
        return True

    def _take_request(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._control, 65_536, 1)
        if not message:
            return False
        folder = os.fsdecode(message)
        channel = socket.socket(fileno=descriptors[0])
        try:
            pid = os.fork()
        except OSError as problem:
            _say(channel, f"fail {problem}")
            channel.close()
            return True
        if pid == 0:
            self._become_child(folder, channel)
        with suppress(OSError):
            os.setpgid(pid, pid)
        self._children[channel] = _Child(pid, folder, channel)
        _say(channel, f"pid {pid}")
        return True

    def _become_child(self, folder: str, channel: socket.socket) -> None:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            with suppress(OSError):
                os.setpgid(0, 0)
            for end in (self._control, self._woken, self._wake, channel, *self._children):
                end.close()
            adopt_orphans()
            run_job(Path(folder))
            end_descendants()
            code = 0
        finally:
            os._exit(code)

    def _hear(self, child: _Child) -> None:
        heard = b""
        with suppress(OSError):
            heard = child.channel.recv(64)
        _kill(child.pid)
        if not heard:  # the parent has hung up: it no longer waits for the end
            self._end(child, _end_run(child.pid))
            shutil.rmtree(child.folder, ignore_errors=True)

    def _reap(self) -> None:
        for child in list(self._children.values()):
            code = _code_if_ended(child.pid)
            if code is not None:
                self._end(child, code)
        self._end_orphans()  # also those that other orphans left when they ended

    def _end(self, child: _Child, code: int) -> None:
        del self._children[child.channel]
        self._end_orphans()
        _say(child.channel, f"exit {code}")
        child.channel.close()

    def _end_orphans(self) -> None:
        """End what runs that have ended left, until there is no more of it."""
        runs = {child.pid for child in self._children.values()}
        while orphans := [p.pid for p in psutil.Process().children() if p.pid not in runs]:
            for pid in orphans:
                _end_run(pid)


def _code_if_ended(pid: int) -> int | None:
    """Exit code of a child that has ended, and whose group has been ended now."""
    if hasattr(os, "waitid"):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        return _end_run(pid)  # its group before it is waited for: its id cannot be another's yet
    ended, status = os.waitpid(pid, os.WNOHANG)  # macOS before Python 3.13
    if ended != pid:
        return None
    _kill(pid)
    return os.waitstatus_to_exitcode(status)


def _end_run(pid: int) -> int:
    """Kill a child with its descendants and wait for it and its group.

    Returns its exit code, or minus the signal that ended it.
    """
    _kill(pid)
    code = 0
    with suppress(ChildProcessError):
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        while True:
            os.waitpid(-pid, 0)
    return code


def _kill(pid: int) -> None:
    """Kill a child with its descendants and its group."""
    end_descendants(pid)
    for kill in (os.killpg, os.kill):
        with suppress(OSError):
            kill(pid, signal.SIGKILL)


def _say(channel: socket.socket, words: str) -> None:
    with suppress(OSError):
        channel.sendall(f"{words}\n".encode())


def main() -> None:
    """Import what runs need, and serve the socket whose descriptor is the last argument."""
    control = socket.socket(fileno=int(sys.argv[-1]))
    for name in PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)
    control.sendall(b"ready\n")
    gc.collect()
    gc.freeze()  # the collector would copy the pages that children share
    ForkServer(control).serve()
