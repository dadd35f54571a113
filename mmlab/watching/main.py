"""Run a program as Python would: as `__main__`, with its own arguments and errors."""

from __future__ import annotations

import builtins
import importlib.util
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any


@dataclass(frozen=True)
class _Program:
    """A program to run.

    Attributes:
      name: of the file or module, without folder or ending.
      arguments: `sys.argv` of the program.
      folder: first folder of its import path.
      code: reads and compiles it; raises the program's own errors.
      about: attributes of its module `__main__`.
    """

    name: str
    arguments: list[str]
    folder: str
    code: Callable[[], CodeType]
    about: dict[str, Any] = field(default_factory=dict)


def script(path: str, arguments: Sequence[str]) -> _Program:
    """Return the program in a file.

    Raises:
      FileNotFoundError, ValueError: there is no such file, or it is a folder.
    """
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"no program at {path}: give the path of a Python file")
    if file.is_dir():
        raise ValueError(f"{path} is a folder: give a Python file, or -m and a module")
    whole = str(file.absolute())

    def code() -> CodeType:
        with io.open_code(whole) as source:
            return compile(source.read(), whole, "exec", dont_inherit=True)

    loader = SourceFileLoader("__main__", whole)
    about = {"__file__": whole, "__loader__": loader, "__spec__": None, "__package__": None}
    folder = str(file.resolve().parent)
    return _Program(file.stem, [path, *arguments], folder, code, {**about, "__cached__": None})


def module(name: str, arguments: Sequence[str]) -> _Program:
    """Return the program in a module, found as by `python -m`; for a package, its `__main__`.

    This imports the parent packages; their errors are the program's own.

    Raises:
      ValueError: there is no such module, or it has no code.
    """
    folder = str(Path.cwd())
    _import_first_from(folder)
    try:
        spec = _found(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = _found(f"{name}.__main__")
    except Exception as error:
        return _Program(name, [name, *arguments], folder, _raises(error))
    if spec is None or spec.loader is None or not hasattr(spec.loader, "get_code"):
        raise ValueError(f"no module {name} that could be run: give one that can be imported here")
    loader, full_name = spec.loader, spec.name

    def code() -> CodeType:
        found: CodeType | None = loader.get_code(full_name)
        if found is None:
            raise ImportError(f"no code in {full_name}", name=full_name)
        return found

    about = {
        "__file__": spec.origin,
        "__loader__": loader,
        "__spec__": spec,
        "__package__": spec.parent,
        "__cached__": spec.cached,
    }
    return _Program(name.rpartition(".")[2], [spec.origin or name, *arguments], folder, code, about)


def _found(name: str) -> ModuleSpec | None:
    if name.startswith("."):
        return None
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as problem:
        if problem.name and f"{name}.".startswith(f"{problem.name}."):
            return None  # a parent package does not exist
        raise


def _raises(error: Exception) -> Callable[[], CodeType]:
    def code() -> CodeType:
        raise error

    return code


def execute(program: _Program) -> None:
    """Run a program as this process's `__main__`. Tracebacks do not show frames of mmlab.

    `__main__` remains the program's module, as spawned processes and picklers need it.
    """
    main = ModuleType("__main__")
    vars(main).update(program.about, __builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = main
    sys.argv[:] = program.arguments
    _import_first_from(program.folder)
    try:
        exec(program.code(), vars(main))
    except SystemExit:
        raise
    except BaseException as error:
        _show_only(error.__traceback__.tb_next if error.__traceback__ else None)
        raise


def _import_first_from(folder: str) -> None:
    """Replace the first entry of `sys.path`, which is mmlab's, by the folder of the program."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[:1] = [folder]


def _show_only(frames: TracebackType | None) -> None:
    """Make Python report the error that ends the process with the program's frames only."""
    own = sys.excepthook
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next

    def without_us(
        kind: type[BaseException], error: BaseException, _: TracebackType | None
    ) -> None:
        own(kind, error.with_traceback(frames), frames)

    sys.excepthook = without_us
