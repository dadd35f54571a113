"""Check arguments of public functions, with the same messages everywhere."""

from __future__ import annotations

import operator
import os
import re
import tempfile
from numbers import Real
from pathlib import Path
from typing import Any

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _UNITS[f"{_letter}b"] = _UNITS[_letter] = 1000**_power
    _UNITS[f"{_letter}ib"] = 1024**_power


def short(value: Any, most: int = 80) -> str:
    """Return the `repr` of a value for a message, at most `most` characters.

    >>> short("abc"), short("a" * 100, most=10)
    ("'abc'", "'aaaaaaaa…")
    """
    try:
        text = repr(value)
    except Exception:  # its __repr__ may raise
        text = f"<{type(value).__name__}>"
    text = re.sub(r" object at 0x[0-9a-fA-F]+", "", text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def path_argument(name: str, value: Any, kind: str) -> Path:
    """Convert `value` to a path.

    Raises:
      TypeError, ValueError: it is not a path, or empty; `kind` names the expected path.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be {kind}, as text or a Path, got {short(value)}")
    if not str(value):
        raise ValueError(f"{name} must be {kind}, got an empty path")
    return expanded(value)


def expanded(path: str | os.PathLike[str]) -> Path:
    """Expand a leading `~` to the home folder, as shells do.

    >>> expanded("~/runs") == Path.home() / "runs", str(expanded("a~b"))
    (True, 'a~b')
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises without a home


def file_to_write(value: Any) -> Path:
    """Return the path of a file to write.

    Raises:
      TypeError, ValueError: it is not a path, or empty.
      IsADirectoryError, FileNotFoundError: it is a folder, or its folder does not exist.
    """
    path = path_argument("path", value, "the path of a file")
    if path.is_dir():
        raise IsADirectoryError(
            f"path must be a file, got the folder {path}: give the path of a file in it"
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"path must be in a folder that exists, got {path}: make {path.parent} first"
        )
    return path


def file_to_write_later(value: Any) -> Path:
    """Return the path of a file to write, checked before the long work that produces its content.

    Raises:
      TypeError, ValueError, IsADirectoryError, FileNotFoundError: see `file_to_write`.
      PermissionError: its folder is not writable.
    """
    path = file_to_write(value)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as problem:
        raise PermissionError(
            f"{path} cannot be written ({problem.strerror}): give a file in another folder"
        ) from problem


def check_live(live: bool | str) -> None:
    """Check that `live` is True, False or "auto".

    Raises:
      ValueError: it is not.
    """
    if not (isinstance(live, bool) or live == "auto"):
        raise ValueError(f'live must be True, False or "auto", got {short(live)}')


def seconds_argument(name: str, value: Any) -> float:
    """Return `value` as a positive, finite number of seconds.

    Raises:
      TypeError, ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a positive number of seconds, got {short(value)}")
    seconds = float(value)
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{name} must be a positive number of seconds, got {value!r}")
    return seconds


def whole_number(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Return `value`, an integer of any library from `least` to `most`, as an int.

    Raises:
      TypeError, ValueError: it is not.
    """
    upto = f", {least} or more" if most is None else f" from {least} to {most}"
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number{upto}, got {short(value)}") from None
    if isinstance(value, bool) or number < least or (most is not None and number > most):
        raise ValueError(f"{name} must be a whole number{upto}, got {value!r}")
    return number


def parse_bytes(limit: Any, name: str = "memory_limit") -> int | None:
    """Convert a number of bytes, or text with a unit, to bytes; None stays None.

    Raises:
      ValueError: it is not a positive number of bytes; the message has examples.

    >>> parse_bytes("600MB"), parse_bytes("1.5 GiB"), parse_bytes(20_000), parse_bytes(None)
    (600000000, 1610612736, 20000, None)
    """
    if limit is None:
        return None
    amount = _amount(limit)
    if amount is None or amount < 1:
        raise ValueError(
            f"{name} must be a number of bytes, or text such as '600MB', '1.5GB' or '512MiB', got "
            f"{short(limit)}"
        )
    return amount


def _amount(limit: Any) -> int | None:
    if isinstance(limit, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*)\s*", limit.lower())
        if match is None or match[2] not in _UNITS:
            return None
        return int(float(match[1]) * _UNITS[match[2]])
    try:
        if isinstance(limit, float) and limit.is_integer():  # 2e9
            return int(limit)
        return None if isinstance(limit, bool) else operator.index(limit)
    except TypeError:
        return None
