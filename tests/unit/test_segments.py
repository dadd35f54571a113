"""Logs behind Beam's FileSystems: segments that are written whole, and the reader that joins them.

The file system here can add files, and neither append, nor overwrite, nor delete.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest

from mmlab.trace import Trace, place, segments
from mmlab.trace.log import LogReader, members
from mmlab.trace.place import ENDED, RemoteFolder, is_remote, location
from mmlab.trace.segments import SegmentWriter
from tests import remote

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(segments, "CHECK_SECONDS", 0.02)
    monkeypatch.setattr(segments, "FIRST_SECONDS", 0.1)


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def kinds(events):
    return [event.event for event in events]


def test_segments_are_joined(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_LINES", 10)
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    for i in range(95):
        writer.emit("limit", members(limit=i))
        time.sleep(0.002)
    writer.close()
    assert len(list(tmp_path.glob("*.jsonl"))) > 2
    reader = LogReader(remote.uri(tmp_path))
    events = reader.poll()
    assert kinds(events) == ["process", *["limit"] * 95, "close"]
    assert [event.limit for event in events[1:-1]] == list(range(95))
    assert reader.poll() == []
    assert reader.torn == 0
    assert Trace.load(remote.uri(tmp_path)).notes == []


def test_a_reader_knows_of_a_writer_at_once_and_follows_it(tmp_path):
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    reader = LogReader(remote.uri(tmp_path))
    assert kinds(reader.poll()) == ["process"]
    writer.emit("free")
    seen = []
    wait_for(lambda: seen.extend(reader.poll()) or kinds(seen) == ["free"])
    writer.close()
    assert kinds(reader.poll()) == ["close"]


def test_an_unchanged_segment_is_not_read_again(tmp_path, monkeypatch):
    SegmentWriter(remote.uri(tmp_path), "run").close()
    reader = LogReader(remote.uri(tmp_path))
    reader.poll()
    monkeypatch.setattr(place, "read_remote", lambda uri: pytest.fail(f"{uri} was read again"))
    assert reader.poll() == []


def test_the_end_of_the_run_closes_the_writers_of_other_processes(tmp_path):
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    writer.emit("free")
    reader = LogReader(remote.uri(tmp_path))
    RemoteFolder(remote.uri(tmp_path)).touch(ENDED)
    reader.fetch_all()
    assert kinds(reader.parse()) == ["process", "free", "close"]
    wait_for(writer.run_ended)


def test_a_writer_that_was_killed_is_not_waited_for_for_ever_and_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(segments.SegmentWriter, "_follow", lambda self: None)
    monkeypatch.setattr(RemoteFolder, "patience", 0.2)
    monkeypatch.setattr(RemoteFolder, "pause", 0.05)
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    writer.emit("free")
    reader = LogReader(remote.uri(tmp_path))
    reader.fetch_all()
    trace = Trace(reader.parse())
    assert kinds(trace.events) == ["process"]
    (note,) = trace.notes
    assert f":{os.getpid()}: events after second 0.0 may be missing: it was killed" in note


DOOMED = """
import os, signal, sys, time
from mmlab.trace import segments
from tests import remote
segments.CHECK_SECONDS, segments.FIRST_SECONDS = 0.02, 0.1
writer = segments.SegmentWriter(sys.argv[1], "run")
writer.emit("limit", ',"limit":1')
while len(os.listdir(sys.argv[2])) < 2:
    time.sleep(0.02)
segments.FIRST_SECONDS = 1_000
writer.emit("limit", ',"limit":2')
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_killed_process_loses_its_last_segment_and_no_more(tmp_path):
    command = [sys.executable, "-c", DOOMED, remote.uri(tmp_path), str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    trace = Trace.load(remote.uri(tmp_path))
    assert [event.limit for event in trace.of_kind("limit")] == [1]
    assert "may be missing: it was killed" in trace.notes[0]


EXITING = """
import sys
from mmlab.trace.segments import SegmentWriter
from tests import remote
SegmentWriter(sys.argv[1], "run").emit("free")
"""


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
    writer.emit("limit", members(limit=1))
    wait_for(lambda: len(failures) > 2)
    writer.emit("limit", members(limit=2))
    monkeypatch.setattr(RemoteFolder, "write", real)
    writer.close()
    events = LogReader(remote.uri(tmp_path)).poll()
    assert [event.limit for event in events if event.event == "limit"] == [1, 2]


def test_what_waits_too_long_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "MOST_WAITING", 10)
    monkeypatch.setattr(segments, "CHECK_SECONDS", 60)
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    for i in range(25):
        writer.emit("limit", members(limit=i))
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
        weakref.finalize(model, writer.emit, "free")
        del model
        gc.collect(0)
    gc.collect()
    writer.close()
    assert kinds(LogReader(remote.uri(tmp_path)).poll()).count("free") == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_writes_a_log_of_its_own(tmp_path):
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    writer.emit("limit", members(limit=1))
    child = os.fork()
    if child == 0:
        writer.emit("free")
        writer.close()
        os._exit(0)
    os.waitpid(child, 0)
    writer.close()
    events = LogReader(remote.uri(tmp_path)).poll()
    assert [event.pid for event in events if event.event == "free"] == [child]
    assert [event.pid for event in events if event.event == "limit"] == [os.getpid()]


def test_a_closed_writer_lets_events_go(tmp_path):
    writer = SegmentWriter(remote.uri(tmp_path), "run")
    writer.close()
    writer.emit("free")
    writer.close()
    assert kinds(LogReader(remote.uri(tmp_path)).poll()) == ["process", "close"]


def test_a_place_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        SegmentWriter(remote.uri(tmp_path / "file"), "run")
    with pytest.raises(OSError, match="apache-beam"):
        SegmentWriter("nowhere://bucket/logs", "run")


def test_a_saved_trace_is_loaded_from_afar(tmp_path):
    SegmentWriter(remote.uri(tmp_path / "log"), "run").close()
    trace = Trace.load(remote.uri(tmp_path / "log"))
    path = trace.save(tmp_path / "trace.jsonl")
    assert Trace.load(remote.uri(path)).events == trace.events
    with pytest.raises(ValueError, match="saved to this machine"):
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
