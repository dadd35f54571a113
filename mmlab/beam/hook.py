"""The one hook on Beam that is not in a worker: what is called around each run of a pipeline.

It imports nothing of Beam, so that it can wait for a program to do so.
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

Around = Callable[[Any, Callable[[], Any]], Any]
"""Takes a pipeline and what runs it, and returns what that returns."""
Made = Callable[[Any], None]
"""Takes a pipeline that was made."""

_active: list[tuple[Around, Made]] = []
_hooked: list[tuple[type, str, Any, Any]] = []
"""The class, the name of a method that is replaced, its own one, and what stands in its place."""
_lock = threading.RLock()


@contextmanager
def around_runs(around: Around, made: Made = lambda pipeline: None) -> Iterator[None]:
    """Call `around(pipeline, run)` where a pipeline of this process is run, in whichever thread.

    And `made(pipeline)` where one is made. Of several that are active at a time, the latest is
    called. Beam need not be imported yet. Processes that are forked meanwhile have no hook.
    """
    entry = (around, made)
    with _lock:
        _active.append(entry)
        if len(_active) == 1:
            _install()
    try:
        yield
    finally:
        # It is not there any more where a forked process leaves the block.
        with _lock, suppress(ValueError):
            _active.remove(entry)
            if not _active:
                _remove()


def is_hooked() -> bool:
    """Whether something of Beam is replaced, or will be when it is imported."""
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
        if vars(pipeline_type).get(name) is ours:  # else another has replaced it since
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
    """Hooks Beam's module once it has been imported, however that is done."""

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
    _lock = threading.RLock()  # another thread may have held it
    _active.clear()
    _remove()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave)
