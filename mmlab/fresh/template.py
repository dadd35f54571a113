"""The template: a process with torch and Beam imported, from which the supervisors are forked.

`multiprocessing`'s fork server does not fit: it is shared with every other library of the notebook
and runs the notebook's main script again in each child. The template has one Python thread, so that
forking is safe, and its own session, so that an interrupt of the notebook does not reach it. It
keeps no state: a request is a byte with one end of a run's channel, and everything else is between
parent and supervisor. It ends when its parent ends.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

import psutil

from mmlab.fresh import child
from mmlab.fresh.supervisor import exit_after, given_socket, say, supervise

_PRELOADED = (
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
    "mmlab.fresh.limits",
    "mmlab.explorer.setting",
)


def _serve(control: socket.socket) -> None:
    """Fork a supervisor for each channel received on `control`, until that is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors are not waited for
    with suppress(ConnectionError):  # the parent died
        control.sendall(b"ready")
        while descriptors := socket.recv_fds(control, 1, 1)[1]:
            with socket.socket(fileno=descriptors[0]) as channel:
                try:
                    if os.fork() == 0:
                        exit_after(_supervise, control, channel)
                except OSError as problem:
                    say(channel, f"no process could be started: {problem}")


def _supervise(control: socket.socket, channel: socket.socket) -> None:
    control.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    supervise(channel, lambda folder: _start(folder, channel))


def _start(folder: Path, channel: socket.socket) -> psutil.Process:
    if (pid := os.fork()) == 0:
        os.close(channel.fileno())
        os.setsid()
        exit_after(child.run, folder)
    return psutil.Process(pid)


def main() -> None:
    """Import what runs need, and serve the inherited socket."""
    control = given_socket()
    for name in _PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the collector would unshare pages of forked processes
    exit_after(_serve, control)
