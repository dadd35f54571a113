"""What is not part of the smallest install, and how to get it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_LESSONS = frozenset({"filelock", "sklearn", "torch"})
_NOTEBOOK = frozenset({
    "IPython", "PIL", "cloudpickle", "ipywidgets", "matplotlib", "pandas", "platformdirs",
    "pyarrow", "resvg_py", "wasmtime",
})  # fmt: skip
"""Packages by the names under which they are imported."""


class MissingExtraError(ModuleNotFoundError):
    """A call needs an extra that is not installed."""


@contextmanager
def extra_for(call: str) -> Iterator[None]:
    """Name the extra that `call` needs where a package of it cannot be imported, inside.

    Raises:
      MissingExtraError: one cannot.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except ModuleNotFoundError as problem:
        package = (problem.name or "").partition(".")[0]
        if package not in _LESSONS | _NOTEBOOK:
            raise
        extra = "lessons" if package in _LESSONS else "notebook"
        raise MissingExtraError(
            f"{call} needs the extra \"{extra}\": pip install 'mmlab[{extra}]'", name=problem.name
        ) from problem
