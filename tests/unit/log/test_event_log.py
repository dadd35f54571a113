"""Events, the files they are written to, and the reader that follows while they grow."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlab.events import (
    UNKNOWN,
    VERSION,
    Close,
    Frees,
    Limit,
    LoadEnds,
    LoadFails,
    NewerTraceError,
    RunBegins,
    RunInfo,
    TracedModel,
    UseBegins,
    _Other,
)
from mmlab.log import writer as log_writer
from mmlab.log.clock import Clocks
from mmlab.log.folders import SUFFIX
from mmlab.log.reader import LogReader, parse
from mmlab.log.writer import LogWriter
from mmlab.trace import Trace
from tests.unit.log import trace_format

ROOT = Path(__file__).parents[3]

text = st.text(max_size=40)
counts = st.integers(0, 2**60)


def read(line: str, clocks: Clocks | None = None):
    [event] = parse(line.encode(), Clocks() if clocks is None else clocks)
    return event


errors = st.one_of(st.none(), text)
STAMP = {
    "run": text,
    "host": text,
    "pid": st.integers(0, 2**31),
    "tid": st.integers(0, 2**31),
    "t_ns": st.integers(0, 2**62),
}
LOAD = {"step": text, "model": text, "cohort": errors, "generation": st.one_of(st.none(), counts)}


@given(
    st.one_of(
        st.builds(LoadEnds, **STAMP, **LOAD, bytes=st.one_of(counts, st.just(UNKNOWN))),
        st.builds(LoadFails, **STAMP, **LOAD, error=errors, rss=counts),
        st.builds(
            UseBegins, **STAMP, **LOAD, n=counts, keys=st.dictionaries(text, counts, max_size=5)
        ),
        st.builds(Limit, **STAMP, step=text, limit=st.sampled_from([None, UNKNOWN, 1, 2**60])),
        st.builds(
            RunBegins,
            **STAMP,
            info=st.builds(
                RunInfo,
                models=st.tuples(st.builds(TracedModel, text, text, keys=st.tuples(text))),
                sharing=st.tuples(st.tuples(text, text)),
            ),
        ),
    )
)
def test_an_event_survives_its_line(event):
    line = event.to_json()
    assert "\n" not in line
    assert read(line) == event


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "null",
        '"event"',
        "[" * 100_000,
        '{"v":1}',
        '{"run":1,"t_ns":1,"host":"h","pid":1,"tid":1,"event":"close"}',
        '{"run":"r","t_ns":"1","host":"h","pid":1,"tid":1,"event":"close"}',
        '{"run":"r","t_ns":1,"host":"h","pid":true,"tid":1,"event":"close"}',
        '{"run":"r","t_ns":1,"pid":1,"tid":1,"event":"close"}',
        '{"run":"r","t_ns":1,"host":"h","pid":1,"tid":1,"event":"free"}',
        '{"run":"r","t_ns":1,"host":"h","pid":1,"tid":1,"event":"dropped","n":"many"}',
        '{"run":"r","t_ns":1,"host":"h","pid":1,"tid":1,"event":"memory","rss":-1}',
        '{"run":"r","t_ns":1,"host":"h","pid":1,"tid":1,"event":"memory_limit","bytes":-1}',
        '{"run":"r","t_ns":1,"host":"h","pid":1,"tid":1}',
    ],
)
def test_what_is_no_event_is_refused(line):
    with pytest.raises(ValueError, match="not an event: "):
        read(line)


def test_a_newer_format_is_named():
    with pytest.raises(NewerTraceError, match="update mmlab"):
        read(json.dumps({"v": VERSION + 1}))


def test_unknown_members_are_ignored():
    line = '{"run":"r","t_ns":1,"host":"h","pid":1,"tid":1,"event":"close","colour":"red"}'
    assert read(line) == Close(run="r", t_ns=1, host="h", pid=1, tid=1)


def test_an_unknown_kind_of_event_keeps_its_stamp():
    line = '{"run":"r","t_ns":1,"host":"h","pid":2,"tid":3,"event":"sparkle","colour":"red"}'
    event = read(line)
    assert event == _Other(run="r", t_ns=1, host="h", pid=2, tid=3, event="sparkle")
    assert read(event.to_json()) == event


def test_what_is_unknown_is_neither_none_nor_0():
    line = '{"run":"r","t_ns":1,"host":"h","pid":1,"tid":1,"event":"%s","step":"s","model":"m"%s}'
    assert read(line % ("load_end", "")).bytes is UNKNOWN
    assert read(line % ("load_end", ',"bytes":0')).bytes == 0
    assert read(line % ("limit", "")).limit is None
    unseen = read(line % ("limit", ',"limit":"unknown"'))
    assert unseen.limit is UNKNOWN
    assert str(unseen.limit) == "unknown"
    assert read(unseen.to_json()) == unseen


def test_clocks_of_a_machine_are_aligned_once():
    anchor = '{"run":"r","t_ns":5,"host":"h","pid":%d,"tid":1,"event":"process","wall_ns":%d}'
    clocks = Clocks()
    assert read(anchor % (1, 1005), clocks).t_ns == 1005
    set_back = read(anchor % (2, 3), clocks)
    assert set_back.t_ns == 1005
    assert set_back.wall_ns == set_back.t_ns


# Machines that restart, and machines of one name

NOON = 1_800_000_000
SECOND = 10**9


def write_log(folder, pid, booted, begins, boot=None, number=None, kinds=("process", "close")):
    """The log of a process of machine h, which was started `booted` seconds after noon.

    Its events come a second after one another, from `begins` on, in seconds after noon.
    """
    name = f"h-{pid}" if number is None else f"h-{pid}.{number:06d}"
    with (folder / f"{name}{SUFFIX}").open("a") as file:
        for second, kind in enumerate(kinds, begins):
            line = {"run": "r", "host": "h", "pid": pid, "tid": 1, "event": kind}
            line["t_ns"] = (second - booted) * SECOND
            if kind == "process":
                info = {} if boot is None else {"boot": boot}
                line |= {"wall_ns": (NOON + second) * SECOND, "info": info}
            file.write(json.dumps(line) + "\n")


def seconds(events):
    return [event.t_ns / SECOND - NOON for event in events]


def test_a_machine_that_restarts_between_two_processes_has_two_clocks(tmp_path):
    write_log(tmp_path, 1, booted=-8_640_000, begins=0, boot="one")
    write_log(tmp_path, 2, booted=50, begins=100, boot="two")
    trace = Trace.load(tmp_path)
    assert seconds(trace.events) == [0, 1, 100, 101]
    assert trace.notes == []
    again = Trace.load(trace.save(tmp_path / "saved"))
    assert (again.events, again.notes) == (trace.events, [])


def test_two_machines_of_one_name_have_two_clocks_while_their_logs_grow(tmp_path):
    reader = LogReader(tmp_path)
    for pid, booted in ((1, -8_640_000), (2, 50)):
        write_log(tmp_path, pid, booted, begins=100, boot=f"boot {pid}", number=0)
    assert seconds(reader.poll()) == [100, 101] * 2
    for pid, booted in ((1, -8_640_000), (2, 50)):
        write_log(tmp_path, pid, booted, begins=110, number=1, kinds=["close"])
    assert seconds(reader.poll()) == [110] * 2


def test_a_log_without_its_first_line_goes_by_the_clock_of_its_machine(tmp_path):
    write_log(tmp_path, 1, booted=-10, begins=0, boot="one")
    write_log(tmp_path, 2, booted=-10, begins=5, kinds=["close"])
    assert seconds(Trace.load(tmp_path).events) == [0, 1, 5]


def test_clocks_that_disagree_without_a_reason_are_named(tmp_path):
    write_log(tmp_path, 1, booted=-8_640_000, begins=0)
    write_log(tmp_path, 2, booted=50, begins=100)
    trace = Trace.load(tmp_path)
    (note,) = trace.notes
    assert "h:2: its wall clock is +8,640,050 s off that of the first process of h" in note
    assert "if the machine was restarted, or is another of that name, these times are wrong" in note
    again = Trace.load(trace.save(tmp_path / "saved"))
    assert (again.events, again.notes) == (trace.events, trace.notes)


def test_a_clock_that_was_set_is_named_and_moves_nothing(tmp_path):
    write_log(tmp_path, 1, booted=-10, begins=0, boot="one")
    write_log(tmp_path, 2, booted=3590, begins=3700, boot="one")  # 3600 seconds later by the clock
    trace = Trace.load(tmp_path)
    assert seconds(trace.events) == [0, 1, 100, 101]
    (note,) = trace.notes
    assert "+3,600 s off" in note
    assert "wrong" not in note


@pytest.mark.skipif(not Path("/proc/sys/kernel/random/boot_id").exists(), reason="needs Linux")
def test_a_process_says_which_boot_its_clock_is_of(tmp_path):
    LogWriter(tmp_path, "run").close()
    (event,) = LogReader(tmp_path).poll()
    assert event.info.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_the_reader_gives_each_event_once_while_the_log_grows(tmp_path):
    reader = LogReader(tmp_path)
    assert reader.poll() == []
    writer = LogWriter(tmp_path, "run")
    assert [event.event for event in reader.poll()] == ["process"]
    writer.emit(Frees(step="s", model="m", generation=1))
    writer.emit(Limit(limit=2))
    assert [event.event for event in reader.poll()] == ["free", "limit"]
    assert reader.poll() == []
    assert reader.torn == 0


def test_a_half_written_line_is_read_when_it_is_whole(tmp_path):
    LogWriter(tmp_path, "run").close()
    path = next(tmp_path.glob(f"*{SUFFIX}"))
    reader = LogReader(tmp_path)
    reader.poll()
    line = b'{"run":"run","t_ns":1,"host":"h","pid":1,"tid":1,"event":"close"}\n'
    with path.open("ab", buffering=0) as file:
        file.write(line[:20])
        assert reader.poll() == []
        assert reader.torn == 1
        file.write(line[20:])
        assert [event.event for event in reader.poll()] == ["close"]
        assert reader.torn == 0


def test_many_threads_write_whole_lines(tmp_path):
    writer = LogWriter(tmp_path, "run")

    def write():
        for _ in range(500):
            writer.emit(Limit(limit=1))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader = LogReader(tmp_path)
    assert len(reader.poll()) == 8 * 500 + 1
    assert reader.torn == 0


def test_a_full_disk_is_counted_and_not_raised(tmp_path, monkeypatch):
    writer = LogWriter(tmp_path, "run")
    real = os.write

    def full(fd, data):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("os.write", full)
    writer.emit(Limit(limit=1))
    writer.emit(Limit(limit=2))
    monkeypatch.setattr("os.write", lambda fd, data: real(fd, data[:10]))
    writer.emit(Limit(limit=3))
    monkeypatch.setattr("os.write", real)
    writer.emit(Limit(limit=4))
    reader = LogReader(tmp_path)
    events = reader.poll()
    assert [event.limit for event in events if event.event == "limit"] == [4]
    assert sum(event.n for event in events if event.event == "dropped") == 3
    assert reader.torn == 2  # the account of what was lost, and the event after it


@pytest.fixture
def lossy(tmp_path, monkeypatch):
    """A writer that has lost two events to a full disk, which has space again."""
    writer = LogWriter(tmp_path, "run")

    def full(fd, data):
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        writer.emit(Limit(limit=1))
        writer.emit(Limit(limit=2))
    return writer


def dropped_in(folder):
    return [event.n for event in LogReader(folder).poll() if event.event == "dropped"]


def test_a_writer_that_is_closed_tells_of_what_it_lost(lossy, tmp_path):
    lossy.close()
    lossy.close()
    assert (dropped_in(tmp_path), lossy.lost) == ([2], 0)


def test_a_writer_that_has_nothing_more_to_write_tells_of_what_it_lost(lossy, tmp_path):
    assert not lossy.run_ended()
    assert not lossy.run_ended()
    assert (dropped_in(tmp_path), lossy.lost) == ([2], 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_tell_of_what_its_parent_lost(lossy, tmp_path):
    child = os.fork()
    if child == 0:
        lossy.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert (dropped_in(tmp_path), lossy.lost) == ([], 2)


EXITING = """
import os, sys
from mmlab.events import Frees
from mmlab.log.writer import LogWriter
writer, write = LogWriter(sys.argv[1], "run"), os.write
os.write = lambda fd, line: 0
writer.emit(Frees(step="s", model="m"))
os.write = write
"""


@pytest.mark.runs
def test_a_process_that_ends_by_itself_tells_of_what_it_lost(tmp_path):
    subprocess.run([sys.executable, "-c", EXITING, str(tmp_path)], cwd=ROOT, check=True)
    assert dropped_in(tmp_path) == [1]


def test_a_closed_writer_lets_events_go(tmp_path):
    writer = LogWriter(tmp_path, "run")
    writer.close()
    writer.emit(Frees(step="s", model="m"))
    writer.close()
    assert len(LogReader(tmp_path).poll()) == 1


def test_a_line_that_is_written_while_the_log_closes_goes_to_no_other_file(tmp_path, monkeypatch):
    """Between the two, another thread closes the log and opens a file, which gets its number."""
    writer = LogWriter(tmp_path, "run")
    others, clock = [], log_writer.monotonic_ns

    def interrupted():
        writer.close()
        others.append((tmp_path / f"other {len(others)}").open("w"))
        return clock()

    monkeypatch.setattr(log_writer, "monotonic_ns", interrupted)
    writer.emit(Frees(step="s", model="m"))
    (other,) = others
    other.close()
    assert (tmp_path / "other 0").read_text() == ""
    assert [event.event for event in LogReader(tmp_path).poll()] == ["process", "free"]


@pytest.mark.skipif(os.name != "posix", reason="counts file descriptors")
def test_a_closed_log_leaves_no_file_open(tmp_path):
    before = psutil.Process().num_fds()
    writers = [LogWriter(tmp_path, "run") for _ in range(20)]
    assert psutil.Process().num_fds() == before + 20
    for writer in writers:
        writer.close()
    assert psutil.Process().num_fds() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_signs_with_its_own_process_id(tmp_path):
    writer = LogWriter(tmp_path, "run")
    child = os.fork()
    if child == 0:
        writer.emit(Frees(step="s", model="m"))
        os._exit(0)
    os.waitpid(child, 0)
    events = {event.event: event.pid for event in LogReader(tmp_path).poll()}
    assert events["free"] == child


def test_logs_are_private(tmp_path):
    LogWriter(tmp_path, "run")
    path = next(tmp_path.glob(f"*{SUFFIX}"))
    assert path.stat().st_mode & 0o077 == 0


def test_the_page_about_the_format_has_the_table_of_these_structs():
    page = trace_format.PAGE.read_text("utf-8")
    assert page == trace_format.renewed(page), "run python -m tests.unit.log.trace_format"
    assert "`load_begin`" in page
