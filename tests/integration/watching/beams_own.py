"""Beam's own tests of `RunInference`, run where they are installed, watched and unwatched.

`python -m tests.integration.watching.beams_own FOLDER WAYS [NAME...]` runs all of them, or those of
these names, in these ways (`watched,unwatched`), and leaves files of JSON lines in the folder, in
which stand the outcome of each test and the events that it left behind.

The tests wait much and compute little, and importing them takes longest of all. So this module is
imported once and forks: each process is pytest with `Plugin`, and runs a share of the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.ml.inference import base_test
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.utils.multi_process_shared import MultiProcessShared

from mmlab import WatchRunner
from mmlab.log.reader import LogReader

WAYS = ("unwatched", "watched")
SHARES = 3
RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


class Plugin:
    """Runs one share of the tests in one of `WAYS`, and writes down what came of each."""

    def __init__(self, way: str, share: int, names: list[str], lines: Path):
        self._way = way
        self._share = share
        self._names = names
        self._lines = lines
        self._log = Path(tempfile.mkdtemp())
        self._outcomes: dict[str, str] = {}
        self._readers: dict[Path, LogReader] = {}

    def pytest_configure(self) -> None:
        # Outside a notebook Beam would first try a runner that it has to download.
        TestPipeline.pytest_test_pipeline_options = f"--runner={RUNNER}"
        if self._way == "watched":
            _run_pipelines_on(lambda runner: WatchRunner(runner, log=self._log, live=False))

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        chosen = [item for item in items if not self._names or item.name in self._names]
        items[:] = chosen[self._share :: SHARES]

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed or (report.outcome != "passed" or report.when == "call"):
            self._outcomes[report.nodeid] = report.outcome

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        name = nodeid.rpartition("::")[2]
        line = {"test": name, "outcome": self._outcomes.get(nodeid), "seen": self._new_events()}
        with self._lines.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _new_events(self) -> dict[str, int]:
        for folder in {path.parent for path in self._log.glob("*/*.jsonl")}:
            self._readers.setdefault(folder, LogReader(folder))
        return Counter(e.event for reader in self._readers.values() for e in reader.poll())


def _run_pipelines_on(wrap: Any) -> None:
    plain = beam.Pipeline.__init__

    def init(self: beam.Pipeline, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        if not isinstance(self.runner, WatchRunner):
            self.runner = wrap(self.runner)

    beam.Pipeline.__init__ = init


def start(way: str, share: int, names: list[str], folder: Path) -> int:
    """Run one share of the tests one way, in a process of its own; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        own = folder / f"{way}-{share}"
        own.mkdir()
        # Beam's shared models find each other by files in the folder for temporary ones.
        os.environ["TMPDIR"] = tempfile.tempdir = str(own)
        MultiProcessShared.__init__.__kwdefaults__["path"] = str(own)
        os.chdir(own)
        output = os.open(own.with_suffix(".txt"), os.O_CREAT | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        options = ["-q", "--noconftest", "-c", os.devnull, f"--rootdir={own}"]
        options += ["-p", "no:cacheprovider", "-p", "no:randomly"]
        plugin = Plugin(way, share, names, own.with_suffix(".jsonl"))
        status = pytest.main([*options, base_test.__file__], [plugin])
    finally:
        os._exit(status)


def main(folder: str, ways: str, *names: str) -> None:
    shares = [(way, share) for share in range(SHARES) for way in ways.split(",")]
    for pid in [start(*share, list(names), Path(folder)) for share in shares]:
        os.waitpid(pid, 0)
    for way, share in shares:
        shutil.rmtree(Path(folder, f"{way}-{share}"), ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
