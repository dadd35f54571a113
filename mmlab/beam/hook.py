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

_active: list[Around] = []
_hooked: list[tuple[type, Any, Any]] = []
"""The class whose `run` is replaced, its own `run`, and what stands in its place."""
_lock = threading.RLock()


@contextmanager
def around_runs(around: Around) -> Iterator[None]:
    """Call `around(pipeline, run)` where a pipeline of this process is run, in whichever thread.

    Of several that are active at a time, the latest is called. Beam need not be imported yet.
    Processes that are forked meanwhile have no hook.
    """
    with _lock:
        _active.append(around)
        if len(_active) == 1:
            _install()
    try:
        yield
    finally:
        # It is not there any more where a forked process leaves the block.
        with _lock, suppress(ValueError):
            _active.remove(around)
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
        pipeline_type, own, ours = _hooked.pop()
        if vars(pipeline_type).get("run") is ours:  # else another has replaced it since
            pipeline_type.run = own  # type: ignore[attr-defined]


def _hook(module: ModuleType) -> None:
    pipeline_type = module.Pipeline
    own = pipeline_type.run

    @functools.wraps(own)
    def run(pipeline: Any, *args: Any, **kwargs: Any) -> Any:
        around = _active[-1:]
        if not around:
            return own(pipeline, *args, **kwargs)
        return around[0](pipeline, lambda: own(pipeline, *args, **kwargs))

    pipeline_type.run = run
    _hooked.append((pipeline_type, own, run))


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

        spec.loader.exec_module = execute_and_hook  # type: ignore[method-assign]
        return spec


_waiting = _Waiting()


def _leave() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held it
    _active.clear()
    _remove()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave)
