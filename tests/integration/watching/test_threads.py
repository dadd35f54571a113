"""Several threads in Beam's model manager: watching does not widen Beam's own race."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path
from time import monotonic_ns

import apache_beam as beam
import pytest
from apache_beam.ml.inference import base
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from mmlab import WatchRunner, preflight
from mmlab.log.reader import LogReader
from mmlab.log.segments import SegmentWriter
from mmlab.log.writer import LogWriter
from mmlab.watching import WatchWarning
from mmlab.watching.steps import find_steps
from mmlab.worker import memory
from mmlab.worker.recorder import Recorder
from tests.handlers import NamedModels, keyed, run_keyed
from tests.integration.watching.programs import outcome_of, started
from tests.waiting import wait_for

pytestmark = pytest.mark.runs

KEYS = [["K0"], ["K1"], ["K2"], ["K3"]]
TURNS = ["K0", "K1", "K2", "K3"] * 3
THREADS = ["--direct_running_mode=multi_threading", "--direct_num_workers=2"]


class _Guard:
    """Notes what is done inside Beam's `load`, and in finalizers, that must not be done there.

    Attributes:
      entered: how often each of the two was entered.
      done_inside: names of what was called in there.
    """

    def __init__(self, monkeypatch):
        self._here = threading.local()
        self._monkeypatch = monkeypatch
        self.entered: Counter[str] = Counter()
        self.done_inside: list[str] = []
        self._enter(base._ModelHandlerManager, "load")
        self._enter(Recorder, "released")
        self._forbid(memory, "_memory")
        self._forbid(memory, "_peak_rss_bytes")
        self._forbid(memory.MemorySampler, "__init__")
        self._forbid(LogWriter, "emit")
        self._forbid(SegmentWriter, "emit")

    def _enter(self, owner, name):
        original = getattr(owner, name)

        def entered(*args, **kwargs):
            self.entered[name] += 1
            outer, self._here.inside = getattr(self._here, "inside", False), True
            try:
                return original(*args, **kwargs)
            finally:
                self._here.inside = outer

        self._monkeypatch.setattr(owner, name, entered)

    def _forbid(self, owner, name):
        original = getattr(owner, name)

        def checked(*args, **kwargs):
            if getattr(self._here, "inside", False):
                self.done_inside.append(f"{owner.__name__}.{name}")
            return original(*args, **kwargs)

        self._monkeypatch.setattr(owner, name, checked)


def test_nothing_is_read_or_written_while_beam_loads_a_model(monkeypatch):
    guard = _Guard(monkeypatch)
    runner = WatchRunner(live=False)
    run_keyed(runner, keyed(KEYS, 1), TURNS)
    assert guard.entered == {"load": len(TURNS), "released": 11}
    assert guard.done_inside == []
    counts = runner.trace.summary().counts()
    assert (counts["loads"], counts["evictions"]) == (12, 11)
    assert len(runner.trace.of_kind("free")) == 11  # each is freed inside the next `load`


class NotesTimes(NamedModels):
    """Notes when its models begin and end to load."""

    moments: list[int] = []

    def load_model(self):
        self.moments.append(monotonic_ns())
        model = super().load_model()
        self.moments.append(monotonic_ns())
        return model


def _epoch_ns(log: Path) -> int:
    """What the trace adds to the monotonic clock, by the first line of the log as it is written."""
    [file] = log.glob("*/*.jsonl")
    first = json.loads(file.read_text().splitlines()[0])
    return first["wall_ns"] - first["t_ns"]


def test_events_have_the_times_of_the_moments_themselves(tmp_path):
    NotesTimes.moments.clear()
    log = tmp_path / "log"
    runner = WatchRunner(log=log, live=False)
    run_keyed(runner, keyed(KEYS, 1, handler=NotesTimes), TURNS)
    events = runner.trace.of_kind("load_begin", "load_end", "evict", "free")
    epoch_ns = _epoch_ns(log)
    kinds = [event.event for event in events]
    assert kinds == ["load_begin", "load_end"] + ["evict", "free", "load_begin", "load_end"] * 11
    seen = [e.t_ns for e in events if e.event in ("load_begin", "load_end")]
    [process] = runner.trace.of_kind("process")
    moments = [moment + epoch_ns for moment in NotesTimes.moments]
    # Just before and just after the author's method, in this order: b B E e, b B E e, …
    merged = sorted([(t, "seen") for t in seen] + [(t, "own") for t in moments])
    assert [who for _, who in merged] == ["seen", "own", "own", "seen"] * 12
    assert process.t_ns <= seen[0]


class WaitsToBeSeen(NamedModels):
    """Loads until a reader of the log sees the load."""

    def __init__(self, name, log):
        super().__init__(name)
        self._log = log

    def load_model(self):
        [folder] = self._log.iterdir()
        wait_for(lambda: any(e.event == "load_begin" for e in LogReader(folder).poll()))
        return super().load_model()


def test_a_load_is_drawn_while_it_lasts(tmp_path):
    """The sampler writes what was marked, so that a reader sees a load that has not ended."""
    log = tmp_path / "log"
    run_keyed(
        WatchRunner(log=log, live=False),
        keyed([["K0"]], handler=lambda name: WaitsToBeSeen(name, log)),
        ["K0"],
    )  # else it would wait until pytest ends it


# Beam's own race


@pytest.fixture
def race(monkeypatch):
    """What another thread leaves that is still in `load`: a model in the order, not yet loaded."""
    load = base._ModelHandlerManager.load

    def racing(manager, key):
        if key == "K1":
            manager._tag_map["K0"] = "0123456789abcdef0123456789abcdef"
            manager._tag_map.move_to_end("K0", last=False)
        return load(manager, key)

    monkeypatch.setattr(base._ModelHandlerManager, "load", racing)


SENTENCE = "one thread evicted a model that another thread was still loading"


def test_beams_own_race_is_explained(race):
    runner = WatchRunner(live=False)
    with pytest.raises(KeyError, match="0123456789abcdef") as failure:
        run_keyed(runner, keyed(KEYS, 1), ["K0", "K1"])
    [note] = [note for note in failure.value.__notes__ if SENTENCE in note]
    assert note.startswith("mmlab adds: Score: KeyError: ")
    assert "Run one thread per process" in note
    assert "max_models_per_worker_hint" in note
    assert any(SENTENCE in note for note in runner.trace.notes)


class Missing(NamedModels):
    def load_model(self):
        return {}["weights"]


@pytest.mark.parametrize(
    ("handler", "keys"),
    [(keyed(KEYS, 1, handler=Missing), ["K0"]), (keyed(KEYS, 1), ["K0", "Z"])],
    ids=["an author's KeyError", "an unknown key"],
)
def test_another_key_error_is_no_race(handler, keys):
    runner = WatchRunner(live=False)
    with pytest.raises(KeyError) as failure:
        run_keyed(runner, handler, keys)
    assert not any(SENTENCE in note for note in failure.value.__notes__)
    assert runner.trace.of_kind("conflict") == []


def test_a_hint_of_0_is_no_race():
    runner = WatchRunner(live=False, check=False)
    with pytest.raises(KeyError) as failure:
        run_keyed(runner, keyed(KEYS, 0), ["K0"])
    assert not any(SENTENCE in note for note in getattr(failure.value, "__notes__", []))


@pytest.mark.parametrize(
    ("hint", "options", "warned"),
    [
        (1, THREADS, True),
        (2, THREADS, False),  # two hints add up to the four models
        (None, THREADS, False),
        (1, [], False),
        (1, ["--direct_running_mode=multi_processing", "--direct_num_workers=2"], False),
        (1, [*THREADS[:1], "--direct_num_workers=1"], False),
        (1, [*THREADS[:1], "--direct_num_workers=3"], True),
    ],
)
def test_preflight_warns_of_threads_under_a_limit(hint, options, warned):
    pipeline = beam.Pipeline(WatchRunner(live=False), options=PipelineOptions(options))
    _ = pipeline | beam.Create([("K0", 1)]) | "Score" >> RunInference(keyed(KEYS, hint))
    said = [str(problem) for problem in preflight(pipeline) if "threads share" in str(problem)]
    assert len(said) == warned
    if warned:
        assert "share 4 models under a limit of 2" in said[0]
        with pytest.warns(WatchWarning, match="threads share 4 models"):
            WatchRunner(live=False)._look_before(find_steps(pipeline), pipeline.options)


def test_a_run_with_threads_under_a_limit_is_recorded_whole(tmp_path):
    """Real threads, where the limit holds all models: nothing is evicted, nothing is lost."""
    process = started(
        "threaded", "--watched", "--hint=4", "--elements=100", folder=tmp_path / "run"
    )
    found = outcome_of(process)
    assert found["error"] is None
    assert found["kinds"]["use_begin"] == found["kinds"]["use_end"] == 100
    assert found["kinds"]["load_end"] == 4
    assert "evict" not in found["kinds"]
