"""Faults of mmlab's own, each turned on: the run stays as it is, and one warning says so."""

from __future__ import annotations

import ast
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import apache_beam as beam
import pytest
from apache_beam.internal import pickler

import mmlab
from mmlab import WatchRunner, _faults, watch
from mmlab.compare import hints
from mmlab.explorer import explorer
from mmlab.log.reader import LogReader
from mmlab.watching import errors, follow, run, screens
from mmlab.worker import handler as handlers
from mmlab.worker import recorder, sizes
from tests.handlers import Failing, NamedModels, keyed
from tests.integration.watching import faulty

pytestmark = pytest.mark.runs

KEYS = ["a", "b", "a"]
ANSWERS = [
    "('a', PredictionResult(example=0, inference='m0', model_id=None))",
    "('b', PredictionResult(example=1, inference='m1', model_id=None))",
    "('a', PredictionResult(example=2, inference='m0', model_id=None))",
]


def breaks(*_, **__):
    raise LookupError("of ours")


class Gone(beam.runners.runner.PipelineResult):
    """The result of a job whose service is gone: it has a state at first, and no other."""

    def __init__(self, ended):
        super().__init__("RUNNING")
        self._asked = False
        self._ended = ended

    @property
    def state(self):
        if self._asked:
            breaks()
        self._asked = True
        return "RUNNING"

    def wait_until_finish(self, duration=None):
        raise ConnectionError("the service is gone")


class Afar(beam.runners.runner.PipelineRunner):
    def run_pipeline(self, pipeline, options):
        return Gone(pipeline)


def runs(**how):
    assert faulty.run(WatchRunner("FnApiRunner", **how), keyed([["a"], ["b"]], 1), KEYS) == ANSWERS


def runs_live():
    runs(live=True)


def fails():
    with pytest.raises(ValueError, match="2 is too many") as caught:
        faulty.run(WatchRunner("FnApiRunner"), keyed([["a"]], handler=Failing), ["a"] * 3)
    return caught.value


def asks_for_a_trace():
    pipeline = beam.Pipeline(WatchRunner(Afar(), check=False))
    _ = pipeline | beam.Create([1])
    with pytest.warns(mmlab.WatchWarning):
        result = pipeline.run()
    assert result.trace.state == "UNKNOWN"


def waits_for_a_job():
    pipeline = beam.Pipeline(WatchRunner(Afar(), check=False))
    _ = pipeline | beam.Create([1])
    with pytest.warns(mmlab.WatchWarning):
        result = pipeline.run()
    with pytest.raises(ConnectionError, match="the service is gone"):
        result.wait_until_finish()
    assert pipeline.runner.trace.state == "FAILED"


def compares():
    with hints._shown(True) as screen:
        assert screen is not None


def explores():
    shown = explorer.Explorer.__new__(explorer.Explorer)  # without its process
    shown.runs, shown._table = [], SimpleNamespace(show=breaks)
    shown._add(["a run"])
    assert shown.runs == ["a run"]


def counts():
    show = follow.quietly(breaks, explorer.COUNT)
    show([])
    show([])


PLACES = {
    "note what Beam's model manager does": (handlers._ManagerObserver, "on_evict", runs),
    "open the event log of a process": (recorder, "LogWriter", runs),
    "record all that happens to models": (recorder._Mark, "complete", runs),
    "measure the bytes of a model": (sizes, "_Walk", runs),
    "measure the file of a model": (handlers._Load, "_weights_file", runs),
    "count the elements of the pipeline": (run, "element_counts", runs),
    "count the elements that came to models": (run, "collection_before_batching", runs),
    "draw the live picture": (screens.RunFrames, "__init__", runs_live),
    "leave the last picture": (screens.TerminalScreen, "finish", runs_live),
    "leave its own frames out of an error": (errors, "_without_frames", fails),
    "explain an error": (run, "explain", fails),
    "read the log of a run": (LogReader, "fetch_all", runs),
    "ask the runner whether the job has ended": (Gone, "none", asks_for_a_trace),
    "ask the runner how the job ended": (Gone, "none", waits_for_a_job),
    "clear the live picture": (screens.TerminalScreen, "clear", compares),
    "show the table of the runs": (explorer.Explorer, "table", explores),
    "count the elements of a run": (Gone, "none", counts),
}
"""What is lost, to what breaks for it and the author's action, which checks its own outcome."""


@pytest.fixture
def told(monkeypatch, caplog):
    """What the logger says of faults in a process that has told of none."""
    monkeypatch.setattr(_faults, "_said", {})
    caplog.set_level(logging.WARNING, "mmlab")
    return lambda: [r for r in caplog.records if r.name == "mmlab"]


@pytest.mark.parametrize("what", PLACES)
def test_a_fault_is_one_warning_and_the_run_is_as_it_would_be(what, told, monkeypatch):
    owner, name, acts = PLACES[what]
    monkeypatch.setattr(owner, name, breaks, raising=False)
    acts()
    (record,) = told()
    assert record.levelname == "WARNING"
    assert record.getMessage() == f"mmlab could not {what}: LookupError: of ours; the run goes on"
    assert record.exc_info is None


def test_every_place_is_in_the_table():
    assert set(PLACES) == {what for path in sources() for what in survived_in(path)}


def sources():
    return sorted(Path(mmlab.__file__).parent.rglob("*.py"))


def survived_in(path):
    """What the places of a module leave out."""
    constants = {"DRAW": screens.DRAW, "LEAVE_PICTURE": screens.LEAVE_PICTURE}
    constants |= {"COUNT": explorer.COUNT, "SHOW_TABLE": explorer.SHOW_TABLE}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in (
            "survived",
            "quietly",
        ):
            continue
        what = node.args[-1]
        if isinstance(what, ast.Constant):
            yield what.value
        elif isinstance(what, ast.Name) and what.id in constants:
            yield constants[what.id]


def test_a_run_without_a_fault_says_nothing(told):
    runs()
    assert told() == []


def test_an_interrupt_is_not_survived(told):
    with pytest.raises(KeyboardInterrupt), _faults.survived("go on"):
        raise KeyboardInterrupt
    assert told() == []


def test_the_traceback_is_for_debugging(told, caplog):
    caplog.set_level(logging.DEBUG, "mmlab")
    with _faults.survived("go on") as attempt:
        breaks()
    (record,) = told()
    assert attempt.failed
    assert record.exc_info[0] is LookupError


WORKER = """
import logging, sys
from apache_beam.internal import pickler
logging.basicConfig(level="DEBUG", format="%(levelname)s %(message)s", stream=sys.stdout)
handler = pickler.loads(bytes.fromhex(sys.stdin.read()))
from mmlab.worker import sizes
sizes._Walk = None
handler.load_model()
"""


def test_a_fault_in_a_worker_is_for_debugging(tmp_path):
    handler = pickler.dumps(watch(NamedModels(), tmp_path)).hex()
    said = subprocess.run(
        [sys.executable, "-c", WORKER], input=handler, capture_output=True, text=True, check=True
    ).stdout
    assert "DEBUG mmlab could not measure the bytes of a model: TypeError: 'NoneType'" in said
