"""What all tests share: quiet logs, and one cache of trained models for all workers."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True, scope="session")
def _quiet_beam():
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    yield
