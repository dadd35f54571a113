"""Counts what a run may leave behind, in a folder for temporary files of the test's own."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from mmlab.lab.process import run_fresh
from tests.lab import pipelines


@dataclass(frozen=True)
class Belongings:
    """What this process has: threads, descriptors, child processes, temporary files."""

    threads: int  # of the system, whoever made them
    descriptors: int
    processes: tuple[int, ...]
    files: tuple[str, ...]

    def beyond(self, before):
        """What there is more than `before`; what tests before this one left may go meanwhile."""
        more = {
            "threads": max(self.threads - before.threads, 0),
            "descriptors": max(self.descriptors - before.descriptors, 0),
            "processes": set(self.processes) - set(before.processes),
            "files": set(self.files) - set(before.files),
        }
        return {name: found for name, found in more.items() if found}


def belongings(folder):
    process = psutil.Process()
    descriptors = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
    children = sorted(p.pid for p in process.children(recursive=True) if _is_alive(p))
    names = tuple(sorted(path.name for path in Path(folder).iterdir()))
    return Belongings(process.num_threads(), descriptors, tuple(children), names)


def _is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def nothing_left(tmp_path, monkeypatch):
    """The test leaves this process as it was, the warm fork server included."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run_fresh(pipelines.small_models, 1, 2)
    before = belongings(tmp_path)
    yield
    deadline = time.monotonic() + 10
    while belongings(tmp_path).beyond(before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert belongings(tmp_path).beyond(before) == {}
