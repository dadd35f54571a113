"""Write files completely or not at all (a full disk leaves the old file), and measure them."""

from __future__ import annotations

import errno
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


def absolute(path: Path) -> Path:
    """Make a path absolute.

    Raises:
      FileNotFoundError: it is relative, and the working directory was deleted.
    """
    try:
        return path.absolute()
    except FileNotFoundError as problem:
        raise FileNotFoundError(
            problem.errno,
            "the working directory was deleted: change to another one with os.chdir, or give an "
            "absolute path",
            str(path),
        ) from problem


def temporary_folder(prefix: str) -> Path:
    """Make a new temporary folder.

    Raises:
      OSError: it cannot be made; the message says what to do.
    """
    try:
        return Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as problem:
        raise _without_temporary_files(problem) from problem


def _without_temporary_files(problem: OSError) -> OSError:
    """Return the error for a temporary file that cannot be made or written."""
    return OSError(
        problem.errno,
        f"temporary files cannot be written ({problem.strerror or problem}): free some space "
        "there, or set TMPDIR to another folder before Python starts",
        problem.filename or tempfile.tempdir,
    )


def size_bytes(path: Path, most_files: int = 1_000) -> int | None:
    """Return the bytes of a file or a folder; None if empty, unreadable or of too many files."""
    try:
        if path.is_file():
            return path.stat().st_size
        total = 0
        for count, inside in enumerate(path.rglob("*")):
            if count >= most_files:
                return None
            total += inside.stat().st_size if inside.is_file() else 0
        return total or None
    except OSError:
        return None


@contextmanager
def temporary_files() -> Iterator[None]:
    """Explain errors of temporary files in the block.

    Raises:
      OSError: a temporary file cannot be made or written; the message says what to do.
    """
    try:
        yield
    except OSError as problem:
        raise _without_temporary_files(problem) from problem


_NO_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def needing_space(path: Path, instead: str = "give a path on another disk") -> Iterator[None]:
    """Explain a full disk when the block writes `path`.

    Raises:
      OSError: the disk is full; the message says what to do. Other errors are not changed.
    """
    try:
        yield
    except OSError as problem:
        if problem.errno not in _NO_SPACE:
            raise
        raise OSError(
            problem.errno,
            f"the file cannot be written ({problem.strerror}): free some space on its disk, or "
            f"{instead}",
            str(path),
        ) from problem


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely, or leave it as it was.

    Raises:
      OSError: it cannot be written.
    """
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path, mode: str = "wb", **options: Any) -> Iterator[IO[Any]]:
    """Open a new file that replaces `path` once it is completely written.

    It is flushed to disk first, gets the permissions of the old file, and follows links.

    Args:
      mode, options: as for `open`.

    Raises:
      OSError: it cannot be written.
    """
    path = absolute(path).resolve()
    with needing_space(path), _replacing(path, mode, **options) as file:
        yield file


@contextmanager
def _replacing(path: Path, mode: str, **options: Any) -> Iterator[IO[Any]]:
    if path.exists() and not path.is_file():  # pipes and devices cannot be replaced
        with path.open(mode, **options) as file:
            yield file
        return
    with whole(path) as unfinished:
        with unfinished.open(mode.replace("w", "x"), **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.is_file():
            unfinished.chmod(path.stat().st_mode & 0o777)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield the path of a new file in the same folder; it replaces `path` if there is no error.

    >>> folder = temporary_folder("doctest-")
    >>> with whole(folder / "file") as unfinished:
    ...     unfinished.write_text("all of it") and (folder / "file").exists()
    False
    >>> [(file.name, file.read_text()) for file in folder.iterdir()]
    [('file', 'all of it')]
    """
    unfinished = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
