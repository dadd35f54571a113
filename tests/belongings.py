"""Counts what a process has, so that a test can say what a run has left behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

FONTS = (".ttf", ".otf", ".ttc")


@dataclass(frozen=True)
class Belongings:
    """What a process has: threads, descriptors, child processes, temporary files."""

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
    """What this process has, and which files there are in `folder`."""
    names = tuple(sorted(path.name for path in Path(folder).iterdir()))
    return _of(psutil.Process(), names, _is_alive)


def belongings_of(pid):
    """What another process has; its dead children count as long as nobody has waited for them."""
    return _of(psutil.Process(pid), (), lambda child: True)


def _of(process, names, counts):
    descriptors = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
    # Matplotlib keeps the fonts open that it has drawn with, in whichever test that was.
    descriptors -= sum(file.path.endswith(FONTS) for file in process.open_files())
    children = sorted(p.pid for p in process.children(recursive=True) if counts(p))
    return Belongings(process.num_threads(), descriptors, tuple(children), names)


def _is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
