"""Find the bytes of a loaded model: from its tensors and arrays, or from its weights file."""

from __future__ import annotations

import enum
import logging
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic

from mmlab._faults import survived
from mmlab._files import size_bytes
from mmlab.events import UNKNOWN, Unknown
from mmlab.worker.models import Size

_MOST_OBJECTS = 50_000
"""Limit of objects visited per model; the size of a model with more is unknown."""
_LONG_TEXT = 1_000
"""Characters or bytes; shorter texts are not counted."""


class _UnseenError(Exception):
    """A model holds something whose memory cannot be seen from outside."""


def size_of(model: Any, weights: Callable[[], Path | None]) -> Size:
    """Return the bytes of a loaded model and how they were found.

    Args:
      weights: returns the file of its weights, if there is one on this machine.
    """
    size = _model_bytes(model)
    if size is UNKNOWN and (of_file := _file_bytes(weights)) is not None:
        return Size(of_file, "file")
    return Size(size)


def _file_bytes(weights: Callable[[], Path | None]) -> int | None:
    with survived("measure the file of a model"):  # an author's handler may raise anything
        path = weights()
        return None if path is None else size_bytes(path)
    return None


def _model_bytes(model: Any) -> int | Unknown:
    """Return the bytes of a model's tensors, arrays and long texts; shared storage counts once.

    Searches the model's attributes, lists and dicts at any depth. Returns UNKNOWN if that may not
    be everything: for tensors without storage of their own (sparse, on the meta device,
    uninitialized), for objects of compiled code (packed weights of a quantized layer, a tree of
    scikit-learn), and for models that are not a torch module and hold no tensor or array.
    """
    with survived("measure the bytes of a model"):  # an author's model may raise anything
        inner = getattr(model, "model", None)
        if _is_module(inner) and not _is_module(model):
            model = inner
        size = _Walk(model).total()
        return size if size or _is_module(model) else UNKNOWN
    return UNKNOWN


def _is_module(model: Any) -> bool:
    return hasattr(model, "parameters") and hasattr(model, "buffers")


_Place = tuple[str, int]
"""The start of a block of memory: a device and an address."""


class _Walk:
    """Visits everything that a model refers to, each object once."""

    def __init__(self, model: Any):
        self._todo = deque([model])
        self._seen: dict[int, Any] = {}  # refers to them, so that no id is reused
        self._found: dict[_Place, int] = {}

    def total(self) -> int:
        """Return the bytes of what was found.

        Raises:
          _UnseenError: there may be more.
        """
        while self._todo:
            value = self._todo.pop()
            if type(value) in _WEIGHTLESS or id(value) in self._seen:
                continue
            if len(self._seen) >= _MOST_OBJECTS:
                raise _UnseenError
            self._seen[id(value)] = value
            self._visit(value)
        return sum(self._found.values())

    def _visit(self, value: Any) -> None:
        if isinstance(value, str | bytes | bytearray):
            if len(value) >= _LONG_TEXT:
                self._found["text", id(value)] = sys.getsizeof(value)
        elif isinstance(value, dict):
            self._todo.extend(value.values())
        elif isinstance(value, list | tuple | set | frozenset | deque):
            self._todo.extend(value)
        elif hasattr(value, "untyped_storage"):
            self._add_tensor(value)
        elif isinstance(getattr(value, "nbytes", None), int):
            self._add_array(value)
        elif isinstance(value, _LIGHT) or _is_of_library(value):
            return
        elif (of_script := getattr(value, "_actual_script_module", value)) is not value:
            self._todo.append(of_script)
        elif _is_plain(type(value)):
            self._todo.extend(_attributes(value))
        else:
            raise _UnseenError

    def _add_tensor(self, tensor: Any) -> None:
        if flatten := getattr(tensor, "__tensor_flatten__", None):
            names, _ = flatten()
            self._todo.extend(getattr(tensor, name) for name in names)
            return
        storage = tensor.untyped_storage()
        if storage.nbytes() and not storage.data_ptr():
            raise _UnseenError
        self._found[str(storage.device), storage.data_ptr()] = storage.nbytes()

    def _add_array(self, array: Any) -> None:
        if getattr(getattr(array, "dtype", None), "hasobject", False):
            raise _UnseenError
        while isinstance(getattr(base := getattr(array, "base", None), "nbytes", None), int):
            array = base
        interface = getattr(array, "__array_interface__", None)
        place = ("cpu", interface["data"][0]) if interface else ("array", id(array))
        self._found[place] = max(array.nbytes, self._found.get(place, 0))


_WEIGHTLESS = frozenset((types.NoneType, bool, int, float, complex))
_LIGHT = (
    type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType,
    enum.Enum, logging.Logger, range, slice, int, float, complex,
)  # fmt: skip
_OF_TORCH = frozenset(("device", "dtype", "layout", "memory_format", "qscheme", "Generator"))


def _is_of_library(value: Any) -> bool:
    """Whether a value is a small library object, such as a lock, a pattern or a tensor type.

    Classes of the standard library written in Python do not count: they may hold anything.
    """
    module = type(value).__module__.partition(".")[0]
    if module == "torch":
        return type(value).__name__ in _OF_TORCH
    return module in ("numpy", *sys.stdlib_module_names) and not _is_plain(type(value))


_HEAP_TYPE = 1 << 9


def _is_plain(kind: type) -> bool:
    """Whether a class is pure Python, so that its attributes are all that an instance holds."""
    return all(
        base in (object, Generic)
        or (base.__flags__ & _HEAP_TYPE and not _is_compiled(vars(base).get("__new__")))
        for base in kind.__mro__
    )


def _is_compiled(method: Any) -> bool:
    return isinstance(method, types.BuiltinFunctionType)


def _attributes(value: Any) -> Iterator[Any]:
    """Yield the attribute values of an object, without calling its properties."""
    if (of_script := getattr(value, "_concrete_type", None)) is not None:  # TorchScript
        yield from (value._c.getattr(name) for name in of_script.get_attributes())
        yield from (*value.parameters(recurse=False), *value.buffers(recurse=False))
        yield from value.children()
        return
    yield from getattr(value, "__dict__", {}).values()
    for base in type(value).__mro__:
        for name in _slots(base):
            kept = getattr(base, name, None)
            if isinstance(kept, types.MemberDescriptorType):
                try:
                    yield kept.__get__(value)
                except AttributeError:
                    continue


def _slots(kind: type) -> Iterator[str]:
    return (name for name, kept in vars(kind).items() if type(kept) is types.MemberDescriptorType)
