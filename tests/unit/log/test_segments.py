"""Logs behind Beam's FileSystems: segments that are written whole, and the reader that joins them.

The file system here can add files, and neither append, nor overwrite, nor delete.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from mmlab import WatchRunner
from mmlab.events import Frees, Limit
from mmlab.log import folders, segments
from mmlab.log.folders import ENDED, RemoteFolder, is_remote, location
from mmlab.log.reader import LogReader
from mmlab.log.segments import SegmentWriter
from mmlab.trace import Trace
from tests import remote
from tests.handlers import keyed, run_keyed
from tests.waiting import HUNG_SECONDS, wait_for

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(segments, "_CHECK_SECONDS", 0.02)
    monkeypatch.setattr(segments, "_FIRST_SECONDS", 0.1)


@pytest.fixture
def hanging(monkeypatch):
    """Lets the network stop answering, and those that wait for it soon give up.

    What must not wait at all is tried with `NEVER` instead: it would hang.
    """
    monkeypatch.setattr(folders, "_REQUEST_SECONDS", 1)
    monkeypatch.setattr(segments, "_CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(RemoteFolder, "patience", 0.2)
    monkeypatch.setattr(RemoteFolder, "pause", 0.05)
    yield remote.network.clear
    remote.network.set()


def kinds(events):
    return [event.event for event in events]


def test_segments_are_joined(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "_SEGMENT_LINES", 10)
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    for i in range(95):
        writer.emit(Limit(limit=i))
        if i % 30 == 29:
            wait_for(lambda: not writer._lines)
    writer.close()
    assert len(list(tmp_path.glob("*.jsonl"))) > 2
    reader = LogReader(remote.uri(tmp_path))
    events = reader.poll()
    assert kinds(events) == ["process", *["limit"] * 95, "close"]
    assert [event.limit for event in events[1:-1]] == list(range(95))
    assert reader.poll() == []
    assert reader.torn == 0
    assert Trace.load(remote.uri(tmp_path)).notes == []


def test_a_reader_soon_knows_of_a_writer_and_follows_it(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "_FIRST_SECONDS", 1_000)
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    reader = LogReader(remote.uri(tmp_path))
    seen = []
    wait_for(lambda: seen.extend(reader.poll()) or kinds(seen) == ["process"])
    monkeypatch.setattr(segments, "_FIRST_SECONDS", 0.1)
    writer.emit(Frees(step="s", model="m"))
    seen = []
    wait_for(lambda: seen.extend(reader.poll()) or kinds(seen) == ["free"])
    writer.close()
    assert kinds(reader.poll()) == ["close"]


def test_an_unchanged_segment_is_not_read_again(tmp_path, monkeypatch):
    SegmentWriter(remote.uri(tmp_path), "run").close()
    reader = LogReader(remote.uri(tmp_path))
    reader.poll()
    monkeypatch.setattr(folders, "read_remote", lambda uri: pytest.fail(f"{uri} was read again"))
    assert reader.poll() == []


def test_the_end_of_the_run_closes_the_writers_of_other_processes(tmp_path, monkeypatch):
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    writer.emit(Frees(step="s", model="m"))
    reader = LogReader(remote.uri(tmp_path))
    monkeypatch.setattr(RemoteFolder, "patience", HUNG_SECONDS)
    RemoteFolder(remote.uri(tmp_path)).touch(ENDED)
    reader.fetch_all()
    assert kinds(reader.parse()) == ["process", "free", "close"]
    wait_for(writer.run_ended)


def test_a_writer_that_was_killed_is_not_waited_for_for_ever_and_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(SegmentWriter, "_follow", SegmentWriter._flush)
    monkeypatch.setattr(RemoteFolder, "patience", 0.2)
    monkeypatch.setattr(RemoteFolder, "pause", 0.05)
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    writer._thread.join()
    writer.emit(Frees(step="s", model="m"))
    reader = LogReader(remote.uri(tmp_path))
    reader.fetch_all()
    trace = Trace(reader.parse())
    assert kinds(trace.events) == ["process"]
    (note,) = trace.notes
    assert f":{os.getpid()}: events after second 0.0 may be missing: it was killed" in note


DOOMED = """
import os, signal, sys
from pathlib import Path
from mmlab.events import Limit
from mmlab.log import segments
from tests import remote
from tests.waiting import wait_for
segments._CHECK_SECONDS = 0.02
looks, due = [], True
segments.SegmentWriter._is_due = lambda writer: looks.append(1) or due
writer = segments.SegmentWriter(sys.argv[1], "run")
writer.emit(Limit(limit=1))
wait_for(lambda: any('"limit":1' in path.read_text() for path in Path(sys.argv[2]).iterdir()))
due = False
seen = len(looks)
wait_for(lambda: len(looks) > seen + 1)  # the last one that was due has been written
writer.emit(Limit(limit=2))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.runs
def test_a_killed_process_loses_its_last_segment_and_no_more(tmp_path):
    command = [sys.executable, "-c", DOOMED, remote.uri(tmp_path), str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    trace = Trace.load(remote.uri(tmp_path))
    assert [event.limit for event in trace.of_kind("limit")] == [1]
    assert "may be missing: it was killed" in trace.notes[0]


EXITING = """
import sys
from mmlab.events import Frees
from mmlab.log.segments import SegmentWriter
from tests import remote
SegmentWriter(sys.argv[1], "run").emit(Frees(step="s", model="m"))
"""


@pytest.mark.runs
def test_a_process_that_ends_by_itself_writes_all(tmp_path):
    command = [sys.executable, "-c", EXITING, remote.uri(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    trace = Trace.load(remote.uri(tmp_path))
    assert kinds(trace.events) == ["process", "free", "close"]
    assert trace.notes == []


def test_what_cannot_be_written_now_is_written_later(tmp_path, monkeypatch):
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    real, failures = RemoteFolder.write, []

    def failing(self, name, data):
        failures.append(name)
        raise OSError("the network is away")

    monkeypatch.setattr(RemoteFolder, "write", failing)
    writer.emit(Limit(limit=1))
    wait_for(lambda: len(failures) > 2)
    writer.emit(Limit(limit=2))
    monkeypatch.setattr(RemoteFolder, "write", real)
    writer.close()
    events = LogReader(remote.uri(tmp_path)).poll()
    assert [event.limit for event in events if event.event == "limit"] == [1, 2]


def test_what_waits_too_long_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "_MOST_WAITING", 10)
    monkeypatch.setattr(segments, "_CHECK_SECONDS", 60)
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    wait_for(lambda: list(tmp_path.iterdir()) and not writer._writing)
    for i in range(25):
        writer.emit(Limit(limit=i))
    writer.close()
    trace = Trace.load(remote.uri(tmp_path))
    assert len(trace.of_kind("limit")) == 10
    assert trace.dropped == 15


def test_an_event_can_be_written_while_the_buffer_is_written(tmp_path):
    """As finalizers do, in whichever thread the collector runs: a lock would be a deadlock."""
    writer = SegmentWriter(remote.uri(tmp_path), "run")

    class Model:
        pass

    for _ in range(200):
        model = Model()
        model.itself = model
        weakref.finalize(model, writer.emit, Frees(step="s", model="m"))
        del model
        gc.collect(0)
    gc.collect()
    writer.close()
    assert kinds(LogReader(remote.uri(tmp_path)).poll()).count("free") == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_writes_a_log_of_its_own(tmp_path):
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    writer.emit(Limit(limit=1))
    child = os.fork()
    if child == 0:
        writer.emit(Limit(limit=2))
        writer.close()
        os._exit(0)
    os.waitpid(child, 0)
    writer.close()
    limits = [e for e in LogReader(remote.uri(tmp_path)).poll() if e.event == "limit"]
    assert {event.limit: event.pid for event in limits} == {1: os.getpid(), 2: child}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_that_sees_nothing_writes_nothing(tmp_path):
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    writer.close()
    logs = sorted(tmp_path.iterdir())
    waiting = SegmentWriter(remote.uri(tmp_path / "other"), "run")
    child = os.fork()
    if child == 0:
        waiting.emit(Frees(step="s", model="m"))  # of a model of its parent, in a finalizer
        os._exit(len(threading.enumerate()) - 1)
    _, status = os.waitpid(child, 0)
    waiting.close()
    assert os.waitstatus_to_exitcode(status) == 0
    assert sorted(tmp_path.glob("*.jsonl")) == logs
    assert {event.pid for event in Trace.load(remote.uri(tmp_path / "other")).events} == {
        os.getpid()
    }


# A network that does not answer


NEVER = 10 * HUNG_SECONDS
"""Whoever waits so long for an answer hangs, and ends the test with it."""


def test_nothing_that_a_run_does_waits_for_the_network(tmp_path, hanging, monkeypatch):
    monkeypatch.setattr(folders, "_REQUEST_SECONDS", NEVER)
    hanging()
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    writer.emit(Limit(limit=1))
    remote.network.set()
    monkeypatch.setattr(segments, "_CLOSE_SECONDS", NEVER)
    writer.close()
    whole = ["process", "limit", "close"]
    wait_for(lambda: kinds(LogReader(remote.uri(tmp_path)).poll()) == whole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_nor_does_a_forked_child(tmp_path, hanging, monkeypatch):
    monkeypatch.setattr(folders, "_REQUEST_SECONDS", NEVER)
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    hanging()
    child = os.fork()
    if child == 0:
        writer.emit(Limit(limit=1))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_what_is_not_written_when_the_writer_closes_is_counted_as_lost(tmp_path, hanging):
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    wait_for(lambda: list(tmp_path.iterdir()) and not writer._writing)
    hanging()
    for i in range(3):
        writer.emit(Limit(limit=i))
    assert writer.lost == 0
    writer.close()
    assert writer.lost == 3
    writer.emit(Frees(step="s", model="m"))
    assert writer.lost == 3
    # The network comes back, and this process still lives.
    remote.network.set()
    wait_for(lambda: writer.lost == 0)
    wait_for(lambda: Trace.load(remote.uri(tmp_path)).notes == [])
    assert len(Trace.load(remote.uri(tmp_path)).of_kind("limit")) == 3


def test_what_is_refused_when_the_writer_closes_is_counted_as_lost(tmp_path, monkeypatch):
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    wait_for(lambda: list(tmp_path.iterdir()) and not writer._writing)

    def failing(self, name, data):
        raise OSError("the network is away")

    monkeypatch.setattr(RemoteFolder, "write", failing)
    writer.emit(Frees(step="s", model="m"))
    writer.close()
    assert writer.lost == 1


def test_a_reader_gives_up_on_a_network_that_does_not_answer(tmp_path, hanging):
    SegmentWriter(remote.uri(tmp_path), "run").close()
    hanging()
    reader = LogReader(remote.uri(tmp_path))
    for ask in (reader.fetch, reader.fetch_all, lambda: Trace.load(remote.uri(tmp_path))):
        with pytest.raises(TimeoutError, match="addonly://.* has not answered for 1 seconds"):
            ask()


class LosesTheNetwork(remote.NamedModelsAfar):
    """In its first batch."""

    def run_inference(self, batch, model, inference_args=None):
        remote.network.clear()
        return super().run_inference(batch, model, inference_args)


@pytest.mark.runs
def test_a_run_whose_network_hangs_has_its_result_and_says_what_is_missing(tmp_path, hanging):
    runner = WatchRunner(log=remote.uri(tmp_path))
    handler = keyed([["a"], ["b"]], 1, handler=LosesTheNetwork)
    assert run_keyed(runner, handler, ["a", "b"] * 5).result.state == "DONE"
    assert runner.trace.incomplete


def test_a_closed_writer_lets_events_go(tmp_path):
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    writer.close()
    writer.emit(Frees(step="s", model="m"))
    writer.close()
    assert kinds(LogReader(remote.uri(tmp_path)).poll()) == ["process", "close"]


def test_a_place_that_cannot_be_written_loses_all_and_one_that_beam_does_not_know_is_an_error(
    tmp_path,
):
    (tmp_path / "file").write_text("")
    writer = SegmentWriter(remote.uri(tmp_path / "file"), "run")
    writer.emit(Frees(step="s", model="m"))
    writer.close()
    assert writer.lost == 2
    with pytest.raises(OSError, match="apache-beam"):
        SegmentWriter("nowhere://bucket/logs", "run")


def test_a_saved_trace_is_loaded_from_afar(tmp_path):
    SegmentWriter(remote.uri(tmp_path / "log"), "run").close()
    trace = Trace.load(remote.uri(tmp_path / "log"))
    path = trace.save(tmp_path / "trace.jsonl")
    assert Trace.load(remote.uri(path)).events == trace.events
    with pytest.raises(ValueError, match="must be a file of this machine"):
        trace.save(remote.uri(tmp_path / "other.jsonl"))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Trace.load(remote.uri(tmp_path / "nothing.jsonl"))
    with pytest.raises(FileNotFoundError, match="no event log"):
        Trace.load(remote.uri(tmp_path / "nothing"))


def test_what_is_a_uri():
    assert is_remote("gs://bucket/a") and is_remote("s3://b") and is_remote("hdfs://n/a")
    assert not any(map(is_remote, ["a", "/a", "C:\\a", "C:/a", "a:b", "file:///a", "./x://y"]))
    with pytest.raises(ValueError, match="patterns"):
        location("gs://bucket/a*")
