"""Restore the state of the process after the check of an answer."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from mmlab.watching.interrupts import interrupts_held

_STREAMS = ("stdin", "stdout", "stderr")


@contextmanager
def contained() -> Iterator[list[int]]:
    """Restore the state of the process after the block.

    Restored are streams and their descriptors, the working directory, the environment, signal
    handlers, timers, warning filters, logging and the recursion limit. In the block, closing a
    stream does nothing and `os._exit` raises `SystemExit`.

    Yields:
      A list that gets the signals of interrupts from outside (Ctrl-C), but not of a
      `KeyboardInterrupt` that the block raises itself.
    """
    interrupts: list[int] = []
    with ExitStack() as at_end:
        _keep_descriptors(at_end)
        _keep_folder(at_end)
        _keep_settings(at_end)
        _keep_streams(at_end)
        _keep_this_process(at_end)
        with _keeping_signals(interrupts):
            yield interrupts
        with interrupts_held():
            at_end.close()


def _keep_descriptors(at_end: ExitStack) -> None:
    for number in range(3):
        with suppress(OSError):  # the descriptor is already closed
            copy = os.dup(number)
            at_end.callback(os.close, copy)
            at_end.callback(os.dup2, copy, number)


def _keep_folder(at_end: ExitStack) -> None:
    with suppress(OSError):  # the folder is deleted
        at_end.callback(_unless_gone, os.chdir, Path.cwd())


def _unless_gone(function: Callable[..., Any], *args: Any) -> None:
    with suppress(OSError):
        function(*args)


def _keep_settings(at_end: ExitStack) -> None:
    at_end.callback(sys.setrecursionlimit, sys.getrecursionlimit())
    at_end.callback(logging.disable, logging.root.manager.disable)
    at_end.enter_context(warnings.catch_warnings())
    at_end.callback(_restore_environment, dict(os.environ))


def _restore_environment(before: dict[str, str]) -> None:
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


class _Open:
    """A stream whose `close` and `detach` only flush it."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)

    @property
    def buffer(self) -> Any:
        return _Open(self._stream.buffer)

    def close(self) -> None:
        with suppress(OSError, ValueError):  # already closed, or a pipe without a reader
            self._stream.flush()

    detach = close


def _keep_streams(at_end: ExitStack) -> None:
    for name in (*_STREAMS, *(f"__{name}__" for name in _STREAMS)):
        stream = getattr(sys, name, None)
        at_end.callback(setattr, sys, name, stream)
        if stream is not None:
            setattr(sys, name, _Open(stream))


def _keep_this_process(at_end: ExitStack) -> None:
    before, here = os._exit, os.getpid()

    def leave(status: int) -> None:
        if os.getpid() != here:  # in a process that the answer forked
            before(status)
        raise SystemExit(status)

    at_end.callback(setattr, os, "_exit", before)
    os._exit = leave  # type: ignore[assignment]  # for the answer only


@contextmanager
def _keeping_signals(interrupts: list[int]) -> Iterator[None]:
    """Restore signal handlers and the timer; only the main thread can set signal handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    put_timer_back = _timer()
    answer_interrupt = handlers[signal.SIGINT]
    if callable(answer_interrupt):

        def note(number: int, frame: Any) -> None:
            interrupts.append(number)
            answer_interrupt(number, frame)

        signal.signal(signal.SIGINT, note)
    if handlers.get(_ALARM) == signal.SIG_DFL:
        signal.signal(_ALARM, _ring)  # the default action ends the process
    try:
        yield
    finally:
        put_timer_back()
        for number, handler in handlers.items():
            # None is a handler that was not set by Python and cannot be restored from Python.
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


_ALARM: Any = getattr(signal, "SIGALRM", None)


def _ring(number: int, frame: Any) -> None:
    raise TimeoutError("an alarm that the answer set")


def _timer() -> Callable[[], None]:
    """A function that restores the process's alarm, less the time that has passed."""
    if not hasattr(signal, "getitimer"):  # Windows
        return lambda: None
    seconds, interval = signal.getitimer(signal.ITIMER_REAL)
    began = time.monotonic()

    def put_back() -> None:
        left = max(seconds - (time.monotonic() - began), 0.001) if seconds else 0.0
        signal.setitimer(signal.ITIMER_REAL, left, interval)

    return put_back
