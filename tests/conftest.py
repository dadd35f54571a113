"""What all tests share: quiet logs, and one cache of trained models for all workers."""

from __future__ import annotations

import logging

import pytest
from apache_beam.options.pipeline_options import StandardOptions

from mmlab.beam.shared import keep_addresses_in
from tests import prism as prisms
from tests import without_torch as hidden

collect_ignore = ["fixtures/without_torch", "fixtures/stub_torch", "fixtures/light"]


@pytest.fixture(autouse=True, scope="session")
def _quiet_beam():
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    yield


@pytest.fixture(autouse=True, scope="session")
def _same_runner_everywhere():
    """What `WatchRunner()` and `beam.Pipeline()` run on does not depend on a Prism in a cache."""
    before, StandardOptions.DEFAULT_RUNNER = StandardOptions.DEFAULT_RUNNER, "FnApiRunner"
    yield
    StandardOptions.DEFAULT_RUNNER = before


@pytest.fixture(autouse=True, scope="session")
def _own_shared_models(tmp_path_factory):
    """Beam finds models that processes share by files in a folder: not those of other tests."""
    keep_addresses_in(str(tmp_path_factory.mktemp("shared")))


@pytest.fixture(scope="module")
def without_torch():
    """What this process starts has no PyTorch, and is there in half of the time."""
    with pytest.MonkeyPatch.context() as patch:
        hidden.hide(patch)
        yield


@pytest.fixture(scope="session")
def prism():
    """The Prism of the installed Beam, as a program; skips where there is none."""
    program = prisms.found()
    if program is None:
        pytest.skip(prisms.missing())
    return program
