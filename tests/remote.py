"""A file system that can only add whole files, as object stores do, and handlers that know it.

Workers that unpickle one of these handlers import this module, and with it the file system.
"""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem

from tests.handlers import AnsweringModels, NamedModels

SCHEME = "addonly"
WAIT_SECONDS = 3600

network = threading.Event()
"""While this is clear, the file system takes requests and does not answer."""
network.set()


class NamedModelsAfar(NamedModels):
    """`NamedModels`, importable with the file system beside it."""


class AnsweringModelsAfar(AnsweringModels):
    """The same for `AnsweringModels`."""


class NotThere(Exception):
    """What this file system's client raises: no OSError, as those of real ones."""


class _NewFile(io.BytesIO):
    """Is there when it is closed, whole."""

    def __init__(self, path: Path):
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("xb") as file:  # never over another
                file.write(self.getvalue())
        super().close()


class AddOnlyFileSystem(FileSystem):
    """`addonly:///a/b` is the local file `/a/b`, which can be made once and then read."""

    @classmethod
    def scheme(cls):
        return SCHEME

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        head, _, tail = path.rpartition("/")
        return head, tail

    def has_dirs(self):
        return False

    def mkdirs(self, path):
        pass

    def _list(self, dir_or_prefix):
        network.wait(WAIT_SECONDS)
        root = _local(dir_or_prefix.rpartition("/")[0])
        for path in sorted(root.rglob("*")):
            if path.is_file():
                yield FileMetadata(f"{SCHEME}://{path}", path.stat().st_size)

    def create(self, path, mime_type="", compression_type=None):
        network.wait(WAIT_SECONDS)
        if _local(path).exists():
            raise NotThere(f"{path} cannot be written over")
        return _NewFile(_local(path))

    def open(self, path, mime_type="", compression_type=None):
        network.wait(WAIT_SECONDS)
        if not _local(path).is_file():
            raise NotThere(path)
        return _local(path).open("rb")

    def exists(self, path):
        network.wait(WAIT_SECONDS)
        return _local(path).is_file()

    def size(self, path):
        return _local(path).stat().st_size

    def metadata(self, path):
        return FileMetadata(path, self.size(path))

    def delete(self, paths):
        raise BeamIOError("nothing can be deleted here")

    def _refused(self, *args, **kwargs):
        raise NotImplementedError

    last_updated = checksum = copy = rename = _refused


def _local(uri: str) -> Path:
    return Path(os.fspath(uri).removeprefix(f"{SCHEME}://"))


def uri(path: Path) -> str:
    """The folder or file as this file system names it."""
    return f"{SCHEME}://{path}"
