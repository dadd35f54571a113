"""Skips are failures on request, and kernels of tests get ports that nothing else is given."""

from __future__ import annotations

import os
import random
import signal
import socket

import pytest
from jupyter_client.connect import LocalPortCache

pytest_plugins = ["tests.lanes"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a shell starts what it runs in the background, and tests would wait for their interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

NO_SKIPS = "MMLAB_NO_SKIPS"
"""Set where all that the tests may want is installed: what is skipped there would go unnoticed."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return _without_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _without_skip((yield))


def _without_skip(report):
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get(NO_SKIPS) == "1":
        _, _, reason = report.longrepr
        report.outcome, report.longrepr = "failed", f"{NO_SKIPS} is 1. {reason}"
    return report


PORTS = range(10_000, 30_000)
"""Below those that systems hand out. Jupyter asks for a free port and opens it a second later, when
one of Beam's many connections may have got it; the kernel is then waited for in vain."""

_chance = random.SystemRandom()


def _find_available_port(cache: LocalPortCache, ip: str) -> int:
    while True:
        port = _chance.choice(PORTS)
        with socket.socket() as it:
            if port not in cache.currently_used_ports and it.connect_ex((ip, port)) != 0:
                cache.currently_used_ports.add(port)
                return port


LocalPortCache.find_available_port = _find_available_port
