"""No run may leave anything behind: counted in a folder for temporary files of the test's own."""

from __future__ import annotations

import itertools
import tempfile
from contextlib import suppress

import pytest

from mmlab.fresh import launch, process
from mmlab.fresh.process import run_fresh
from tests.belongings import belongings, belongings_of
from tests.integration import pipelines
from tests.waiting import wait_for


@pytest.fixture
def nothing_left(tmp_path, monkeypatch):
    """The test leaves this process as it was, the warm template included, and that one too."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run_fresh(pipelines.small_models, 1, 2)
    template = launch._template()._process.pid if launch._forks() else None
    before = _counted(tmp_path, template)
    yield
    with suppress(AssertionError):  # what is left says more
        wait_for(lambda: not _left(tmp_path, template, before), seconds=60)
    assert _left(tmp_path, template, before) == []


def _counted(folder, template):
    return [belongings(folder), *([belongings_of(template)] if template is not None else [])]


def _left(folder, template, before):
    now = _counted(folder, template)
    return [more for had, has in zip(before, now, strict=True) if (more := has.beyond(had))]


@pytest.fixture
def second_start_interrupted(monkeypatch):
    """An interrupt comes while the second fresh process is started."""
    starts, start = itertools.count(1), process.start_process

    def interrupted(*request):
        if next(starts) == 2:
            raise KeyboardInterrupt
        return start(*request)

    monkeypatch.setattr(process, "start_process", interrupted)
