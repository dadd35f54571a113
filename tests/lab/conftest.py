"""No run may leave anything behind: counted in a folder for temporary files of the test's own."""

from __future__ import annotations

import tempfile
import time

import pytest

from mmlab.lab.process import run_fresh
from tests.belongings import belongings
from tests.lab import pipelines


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
