"""Look at what mmlab needs of this machine: what is wrong, and how to fix it.

Python, memory, disk, the lessons' cache, fonts, the diagram engine, a kernel that starts, ports.
The exit status is 1 where something is wrong. The last line is to be sent to an instructor.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from mmlab._text import say

HELP = "say what is wrong with this machine, and how to fix it"
EXAMPLES = "  mmlab doctor"


def add_arguments(parser: ArgumentParser) -> None:
    """Add nothing: the command has no arguments."""


def begin(options: Namespace) -> Callable[[], int]:
    from mmlab.machine import doctor

    diagnosis = doctor()
    say(str(diagnosis))
    return lambda: 1 if diagnosis.problems else 0
