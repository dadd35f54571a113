"""Optional dependencies (extras), and the error that names the one to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_LESSONS = frozenset({"filelock", "sklearn", "torch"})
_NOTEBOOK = frozenset({
    "IPython", "PIL", "cloudpickle", "ipywidgets", "matplotlib", "pandas", "platformdirs",
    "pyarrow", "resvg_py", "wasmtime",
})  # fmt: skip
"""Import names of the packages of each extra."""


class MissingExtraError(ModuleNotFoundError):
    """A call needs an extra that is not installed."""


@contextmanager
def extra_for(call: str) -> Iterator[None]:
    """Turn a failed import in the block into an error that names the extra that `call` needs.

    Raises:
      MissingExtraError: a package of an extra cannot be imported.
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
