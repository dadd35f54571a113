"""Whatever writes a file writes it whole, or leaves the old one as it was."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import apache_beam as beam
import pytest

import mmlab
from mmlab._files import write_whole
from mmlab.trace import Trace
from tests.unit.trace.test_trace import story

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
    with pytest.raises(OSError):
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
