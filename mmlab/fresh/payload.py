"""Pickle a function of a notebook, with all that it uses, for a fresh process."""

from __future__ import annotations

import inspect
import io
from collections import ChainMap
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import CodeType
from typing import Any

import cloudpickle

from mmlab._arguments import short


def pickled(build: Callable[..., Any], args: Sequence[Any], options: Any, runner: Any) -> bytes:
    """Pickle `build`, its arguments, options and runner for a child process.

    Raises:
      TypeError: they cannot be pickled; the message names the variables.
    """
    if not _can_be_pickled(runner):
        raise TypeError(
            f"runner must be one that can be pickled, got {short(runner)}: give its name"
        )
    if not _can_be_pickled(options):
        raise TypeError(
            f"options cannot be sent to a fresh process: {short(options)} holds what cannot be "
            "pickled. Give plain values: text, numbers, lists of them"
        )
    try:
        return _dumps((build, args, options, runner))
    except Exception as problem:
        culprits = _unpicklable(build, args)
        named = f": it uses {', '.join(culprits)}" if culprits else ""
        raise TypeError(
            f"build cannot be sent to a fresh process{named} ({problem}). Make such objects (open "
            "files, locks, connections, loaded models) inside build, not outside."
        ) from problem


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    make, arguments, *_ = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return _code_of_file, (code.co_filename, make, arguments)


def _code_of_file(name: str, make: Callable[..., CodeType], arguments: tuple[Any, ...]) -> CodeType:
    return make(*arguments).replace(co_filename=name)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle's pickler, but with the file names of functions.

    cloudpickle 3.1.3 replaces them by `<dynamic-code>`, so that the line of the author's code that
    raised an error could not be found.
    """

    dispatch_table = ChainMap({CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table)


def _dumps(value: Any) -> bytes:
    with io.BytesIO() as file:
        _Pickler(file).dump(value)
        return file.getvalue()


def _unpicklable(build: Callable[..., Any], args: Sequence[Any]) -> list[str]:
    """Return the names of variables in `build` that cannot be pickled."""
    used = {f"argument {i}": arg for i, arg in enumerate(args, start=1)}
    with suppress(TypeError):
        variables = inspect.getclosurevars(build)
        used |= {**variables.globals, **variables.nonlocals}
    return [name for name, value in used.items() if not _can_be_pickled(value)]


def _can_be_pickled(value: Any) -> bool:
    try:
        cloudpickle.dumps(value)
    except Exception:  # objects may raise anything
        return False
    return True
