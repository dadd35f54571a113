"""Folders of logs and traces: on this machine, or on one of Beam's FileSystems."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from io import BufferedReader, FileIO
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

from mmlab._arguments import expanded, short

SUFFIX = ".jsonl"
ENDED = "ended"
"""Name of the file in a log folder that makes the processes writing there stop."""

_CLOSE = b'"event":"close"'

_T = TypeVar("_T")
Location = Path | str
"""A path of this machine, or a URI such as `gs://bucket/logs`."""


def location(path: str | os.PathLike[str]) -> Location:
    """Parse a path or a URI. `file://` means this machine.

    Raises:
      ValueError: the URI has characters that Beam reads as a pattern, or no file of this machine
        can have that path.

    >>> location("gs://bucket/logs/"), str(location("file:///tmp/my%20logs"))
    ('gs://bucket/logs', '/tmp/my logs')
    """
    text = os.fspath(path)
    _check_encodable(text)
    if not isinstance(text, str) or not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        return expanded(text)
    if text.lower().startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    if re.search(r"[*?\[]", text):
        raise ValueError(f"{text}: *, ? and [ are patterns to Beam's FileSystems: use another name")
    return text.rstrip("/")


def _check_encodable(text: str) -> None:
    try:
        if b"\0" not in os.fsencode(text):
            return
        why = "it holds a NUL, which ends a path"
    except UnicodeEncodeError as problem:
        letter = text[problem.start]
        why = f"{problem.encoding} has no bytes for {letter!r}"
    raise ValueError(f"the path {short(text)} cannot be one of a file ({why}): give another")


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a URI of a file system other than this machine's.

    >>> is_remote("gs://bucket/logs"), is_remote("/tmp/logs"), is_remote("file:///tmp/logs")
    (True, False, False)
    """
    return isinstance(location(path), str)


def folder_at(path: str | os.PathLike[str]) -> _LocalFolder | RemoteFolder:
    """Return the folder of event logs at `path`, which need not exist."""
    where = location(path)
    return RemoteFolder(where) if isinstance(where, str) else _LocalFolder(where)


def make_folder(path: Path, logs: Path | None = None) -> None:
    """Make a folder and its missing parents, accessible to their owner only.

    An existing folder keeps its mode.

    Args:
      path: of the folder.
      logs: the log folder in which it is made. If that exists and others may write to it, they
        may also write to the new folder, because workers may run as other users. Ignored for a
        folder with the sticky bit (such as `/tmp`) and for the parents of `logs`.
    """
    if path.is_dir():
        return
    shared = shared_bits(logs) if logs is not None and logs.is_dir() else 0
    make_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    if shared:
        path.chmod(path.stat().st_mode | shared)


def shared_bits(folder: Path) -> int:
    """Return the permission bits of the group and of others, where those may write."""
    mode = folder.stat().st_mode
    if mode & stat.S_ISVTX:
        return 0
    group = stat.S_IRWXG if mode & stat.S_IWGRP else 0
    others = stat.S_IRWXO if mode & stat.S_IWOTH else 0
    return mode & (group | others)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or a link to one, for reading.

    Raises:
      OSError: it cannot be opened, or is a folder, a pipe, a device or a socket.
    """
    if path.exists() and not path.is_file():  # opening a device can have effects
        raise OSError(NOT_REGULAR.format(path))
    file = FileIO(path, opener=_open_without_waiting)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # it was replaced in between
        file.close()
        raise OSError(NOT_REGULAR.format(path))
    return BufferedReader(file)


NOT_REGULAR = (
    "{} is a folder, a pipe, a device or a broken link, and events are read from files alone: "
    "remove it, or load another"
)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


class _LocalFolder:
    """A folder on a local disk or a mounted share."""

    pause = 0.0
    patience = 0.0

    def __init__(self, path: Path):
        self._path = path

    def logs(self) -> list[str]:
        """Names of the event logs in it, sorted; only regular files."""
        return sorted(path.name for path in self._path.glob(f"*{SUFFIX}") if path.is_file())

    def irregular(self) -> list[str]:
        """Entries named like an event log that are not regular files, sorted."""
        return sorted(str(path) for path in self._path.glob(f"*{SUFFIX}") if not path.is_file())

    def size(self) -> int:
        """Bytes of its event logs."""
        return sum((self._path / name).stat().st_size for name in self.logs())

    def runs(self) -> list[str]:
        """Names of the folders in it that hold event logs, sorted."""
        return sorted({path.parent.name for path in self._path.glob(f"*/*{SUFFIX}")})

    def awaits(self, logs: Mapping[str, bytes]) -> bool:
        """Whether a process still buffers events: never, as each event is written at once."""
        return False

    def read(self, name: str, offset: int, most_bytes: int | None = None) -> bytes:
        """Read a log from `offset`, at most `most_bytes`."""
        with open_regular(self._path / name) as file:
            file.seek(offset)
            data: bytes = file.read(-1 if most_bytes is None else most_bytes)
        return data

    def touch(self, name: str) -> None:
        (self._path / name).touch()

    def exists(self, name: str) -> bool:
        return (self._path / name).exists()


_REQUEST_SECONDS = 30.0
"""Timeout of a request to a remote file system, whose own client may wait forever."""
_SLOWEST_BYTES = 1_000_000
"""Bytes per second: the timeout of a read grows by one second for each of so many bytes."""


class RemoteFolder:
    """A folder on one of Beam's FileSystems, where files are written once and never grow.

    Methods raise OSError for any error of the file system, and TimeoutError if it does not
    answer. Only `make`, `write` and `remove` have no timeout.
    """

    pause = 1.0
    """Seconds between two polls: each poll is a request over a network."""
    patience = 8.0
    """Seconds after the end of a run in which a live process writes its remaining events."""

    def __init__(self, uri: str):
        self._uri = uri
        self._sizes: dict[str, int] = {}

    def logs(self) -> list[str]:
        """Names of the event logs in it, sorted."""
        self._sizes = dict(sorted(self._match(f"*{SUFFIX}")))
        return list(self._sizes)

    def irregular(self) -> list[str]:
        """Entries named like an event log that are not files: always none."""
        return []

    def check_scheme(self) -> None:
        """Check that Beam has a file system for this URI, without a request."""
        with _os_errors(self._uri) as files:
            files.get_filesystem(self._uri)

    def size(self) -> int:
        """Bytes of its event logs."""
        return sum(size for _, size in self._match(f"*{SUFFIX}"))

    def runs(self) -> list[str]:
        """Names of the folders in it that hold event logs, sorted."""
        return sorted({path.split("/")[0] for path, _ in self._match(f"*/*{SUFFIX}")})

    def awaits(self, logs: Mapping[str, bytes]) -> bool:
        """Whether a process that began a log has not closed it yet."""
        stems = {name.split(".")[0] for name in logs}
        closed = {name.split(".")[0] for name, data in logs.items() if _CLOSE in data[-400:]}
        return bool(stems - closed)

    def read(self, name: str, offset: int, most_bytes: int | None = None) -> bytes:
        """Read a log as `_LocalFolder.read` does; no request if the log has not grown."""
        size = self._sizes.get(name, -1)
        if size == offset:
            return b""
        seconds = max(size, 0) / _SLOWEST_BYTES
        end = None if most_bytes is None else offset + most_bytes
        return self._answer(partial(read_remote, self._path(name), end), seconds)[offset:]

    def write(self, name: str, data: bytes) -> None:
        """Make a new file."""
        _write_remote(self._path(name), data)

    def touch(self, name: str) -> None:
        if not self.exists(name):  # some object stores cannot hold empty objects
            self._answer(partial(self.write, name, b"\n"))

    def exists(self, name: str) -> bool:
        return self._answer(partial(exists_remote, self._path(name)))

    def make(self) -> None:
        """Make the folder and check that a file can be written there."""
        with _os_errors(self._uri) as files:
            if not files.exists(self._uri):
                files.mkdirs(self._uri)
        probe = f"probe-{os.getpid()}-{os.urandom(4).hex()}"
        self.write(probe, b"\n")
        self.remove(probe)

    def remove(self, name: str) -> None:
        """Remove a file if that is allowed; writing a log needs only permission to add files."""
        with suppress(OSError), _os_errors(self._uri) as files:
            files.delete([self._path(name)])

    def _path(self, name: str) -> str:
        return f"{self._uri}/{name}"

    def _answer(self, ask: Callable[[], _T], more_seconds: float = 0.0) -> _T:
        """Return the result of a request; after a timeout its thread is abandoned."""
        seconds = _REQUEST_SECONDS + more_seconds
        answer: Future[_T] = Future()
        try:
            Thread(target=_send, args=(ask, answer), name="mmlab-request", daemon=True).start()
        except RuntimeError as problem:  # no more threads, or Python is shutting down
            raise OSError(f"{self._uri} was not asked: {problem}") from problem
        wait([answer], seconds)
        if not answer.done():
            raise TimeoutError(f"{self._uri} has not answered for {seconds:.0f} seconds")
        return answer.result()

    def _match(self, pattern: str) -> list[tuple[str, int]]:
        found = self._answer(partial(_match_remote, self._path(pattern)))
        names = ((m.path.rsplit("/", pattern.count("/") + 1), m) for m in found)
        return [("/".join(parts[1:]), m.size_in_bytes) for parts, m in names]


def _send(ask: Callable[[], _T], answer: Future[_T]) -> None:
    try:
        answer.set_result(ask())
    except BaseException as problem:
        answer.set_exception(problem)


def _match_remote(pattern: str) -> list[Any]:
    """Metadata of the files that match `pattern`, from Beam's FileSystems."""
    with _os_errors(pattern) as files:
        (found,) = files.match([pattern])
        return list(found.metadata_list)


def read_remote(uri: str, most_bytes: int | None = None) -> bytes:
    """Read a file, or its first `most_bytes`, through Beam's FileSystems."""
    with _os_errors(uri) as files, files.open(uri, compression_type=_as_is()) as file:
        data: bytes = file.read(-1 if most_bytes is None else most_bytes)
        return data


def _write_remote(uri: str, data: bytes) -> None:
    """Make a file through Beam's FileSystems."""
    with _os_errors(uri) as files, files.create(uri, compression_type=_as_is()) as file:
        file.write(data)


def exists_remote(uri: str) -> bool:
    """Whether there is a file at `uri`."""
    with _os_errors(uri) as files:
        return bool(files.exists(uri))


def _as_is() -> str:
    from apache_beam.io.filesystem import CompressionTypes

    return CompressionTypes.UNCOMPRESSED


@contextmanager
def _os_errors(uri: str) -> Iterator[Any]:
    """Yield Beam's FileSystems and convert the errors of their clients to OSError.

    Beam is imported here because reading a local trace does not need it.
    """
    from apache_beam.io.filesystems import FileSystems

    try:
        yield FileSystems
    except OSError:
        raise
    except Exception as problem:
        raise OSError(f"{uri}: {problem}") from problem
