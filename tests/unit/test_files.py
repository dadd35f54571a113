"""Whatever writes a file writes it whole, or leaves the old one as it was."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import apache_beam as beam
import pytest

import mmlab
from mmlab._files import write_whole
from mmlab.fresh import launch
from mmlab.lessons.cache import made_once
from mmlab.trace import Trace
from tests.stories import story

resource = pytest.importorskip("resource", reason="limits of POSIX")


@pytest.fixture
def full_disk():
    """No file may grow beyond 100 bytes: writing more fails as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _diagram():
    p = beam.Pipeline()
    p | beam.Create([1])
    return mmlab.diagram(p)


WRITERS = {
    "timeline.png": lambda path: Trace(story()).timeline().save(path),
    "timeline.pdf": lambda path: Trace(story()).timeline().save(path),
    "diagram.dot": lambda path: _diagram().save(path),
    "trace.jsonl": lambda path: Trace(story()).save(path),
    "perfetto.json": lambda path: Trace(story()).to_perfetto(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_old_file_whole(name, tmp_path, request):
    path = tmp_path / name
    WRITERS[name](path)
    before = path.read_bytes()
    request.getfixturevalue("full_disk")
    with pytest.raises(OSError, match="free some space on its disk, or give a path on another"):
        WRITERS[name](path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_the_permissions_stay(name, tmp_path):
    path = tmp_path / name
    path.write_text("old")
    path.chmod(0o640)
    WRITERS[name](path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_bytes() != b"old"


def test_a_new_file_has_the_permissions_of_new_files(tmp_path):
    old = os.umask(0o027)
    try:
        write_whole(tmp_path / "new", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_a_device_is_written_and_not_replaced():
    before = Path(os.devnull).stat()
    write_whole(Path(os.devnull), b"x")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    assert Path(os.devnull).stat().st_ino == before.st_ino


class Failing:
    """Stands for a disk without space for one more file, or for more than so many bytes."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))


SENTENCE = "temporary files cannot be written .*: free some space there, or set TMPDIR"


def test_a_fresh_process_whose_temporary_folder_has_no_space(tmp_path, monkeypatch):
    monkeypatch.setattr(launch.tempfile, "TemporaryFile", Failing(tmp_path))
    with pytest.raises(OSError, match=SENTENCE):
        launch._Template()


def test_a_cache_without_space_says_which_variable_moves_it(tmp_path, monkeypatch, full_disk):
    monkeypatch.setenv("MMLAB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match="free some space on its disk, or set MMLAB_CACHE"):
        made_once("model.pt", lambda path: path.write_bytes(bytes(1000)))
    assert not list(tmp_path.rglob("*model*.pt"))


def test_an_error_that_is_not_the_disk_s_stays_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="No such file"):
        write_whole(tmp_path / "missing" / "file", b"x")
