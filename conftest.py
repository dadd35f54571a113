"""Kernels of tests get ports that no other program is given by the system."""

from __future__ import annotations

import random
import socket

from jupyter_client.connect import LocalPortCache

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
