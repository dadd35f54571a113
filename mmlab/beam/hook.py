"""A hook around each run of a pipeline, the only change to Beam outside workers.

This module does not import Beam, so that the hook can be installed before a program does.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_MODULE = "apache_beam.pipeline"

_Around = Callable[[Any, Callable[[], Any]], Any]
"""Takes a pipeline and a function that runs it; returns the result of that function."""
_Made = Callable[[Any], None]
"""Takes a pipeline that was just created."""

_active: list[tuple[_Around, _Made]] = []
_hooked: list[tuple[type, str, Any, Any]] = []
"""Class, name, original and replacement of each replaced method."""
_lock = threading.RLock()


@contextmanager
def around_runs(around: _Around, made: _Made = lambda pipeline: None) -> Iterator[None]:
    """Call `around(pipeline, run)` for each run of a pipeline, in any thread of this process.

    Also call `made(pipeline)` for each new pipeline. If several hooks are active, only the latest
    is called. Beam need not be imported yet. Forked processes have no hook.
    """
    entry = (around, made)
    with _lock:
        _active.append(entry)
        if len(_active) == 1:
            _install()
    try:
        yield
    finally:
        # A forked process that leaves the block has no entry.
        with _lock, suppress(ValueError):
            _active.remove(entry)
            if not _active:
                _remove()


def _is_hooked() -> bool:
    """Whether methods of Beam are replaced, or will be on its import."""
    return bool(_hooked) or _waiting in sys.meta_path


def _install() -> None:
    module = sys.modules.get(_MODULE)
    if module is not None and hasattr(module, "Pipeline"):
        _hook(module)
    else:
        sys.meta_path.insert(0, _waiting)


def _remove() -> None:
    if _waiting in sys.meta_path:
        sys.meta_path.remove(_waiting)
    while _hooked:
        pipeline_type, name, own, ours = _hooked.pop()
        if vars(pipeline_type).get(name) is ours:  # else replaced again by other code
            setattr(pipeline_type, name, own)


def _hook(module: ModuleType) -> None:
    pipeline_type = module.Pipeline
    own_init, own_run = pipeline_type.__init__, pipeline_type.run

    @functools.wraps(own_init)
    def init(pipeline: Any, *args: Any, **kwargs: Any) -> None:
        own_init(pipeline, *args, **kwargs)
        for _, made in _active[-1:]:
            made(pipeline)

    @functools.wraps(own_run)
    def run(pipeline: Any, *args: Any, **kwargs: Any) -> Any:
        for around, _ in _active[-1:]:
            return around(pipeline, lambda: own_run(pipeline, *args, **kwargs))
        return own_run(pipeline, *args, **kwargs)

    for name, own, ours in (("__init__", own_init, init), ("run", own_run, run)):
        setattr(pipeline_type, name, ours)
        _hooked.append((pipeline_type, name, own, ours))


class _Waiting(MetaPathFinder):
    """Installs the hook when Beam's module is imported, in any way."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _MODULE or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_hook(module: ModuleType) -> None:
            execute(module)
            with _lock:
                if _active:
                    _hook(module)

        spec.loader.exec_module = execute_and_hook  # type: ignore[method-assign]  # of this one module
        return spec


_waiting = _Waiting()


def _leave() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held the lock
    _active.clear()
    _remove()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave)
