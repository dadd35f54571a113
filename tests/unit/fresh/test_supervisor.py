"""What a supervisor and its parent say to each other, without a process: they are threads here."""

from __future__ import annotations

import errno
import os
import socket
import threading
from types import SimpleNamespace

import pytest

from mmlab.fresh import launch, supervisor, template

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
SENTENCE = "temporary files cannot be written .*: free some space there, or set TMPDIR"


@pytest.fixture
def calm(monkeypatch):
    """What a supervisor would do to its own process is not done to that of the test."""
    for name in ("_adopt_orphans", "_wait_for_descendants", "end_descendants"):
        monkeypatch.setattr(supervisor, name, lambda *_: None)
    monkeypatch.setattr(supervisor.signal, "signal", lambda *_: None)


@pytest.fixture
def supervise(calm):
    """Have a run supervised that `start` starts; returns the parent's end of the channel."""
    threads = []

    def begin(start):
        parent, channel = socket.socketpair()
        threads.append(threading.Thread(target=supervisor.supervise, args=(channel, start)))
        threads[-1].start()
        return parent

    yield begin
    for thread in threads:
        thread.join()


def request(channel, folder):
    python = SimpleNamespace(channel=None, last_words=lambda: "it said nothing")
    return launch.Supervised(channel, folder, b"a job", python)


def no_process(*_):
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


class Ended:
    """A run that has ended at once."""

    pid = 2**22 + 1  # of no process

    def wait(self):
        return 3


def test_the_folder_is_there_until_the_parent_hangs_up(supervise, tmp_path):
    folder = tmp_path / "run"
    run = request(supervise(lambda _: Ended()), folder)
    assert run.wait(None)
    assert (run.pid, run.exit_code(), run.exit_code()) == (Ended.pid, 3, 3)
    assert (folder / supervisor.JOB).read_bytes() == b"a job"
    run.close()
    assert not folder.exists()
    run.kill()
    run.close()


def test_where_no_process_can_be_started_it_says_so(supervise, tmp_path):
    with pytest.raises(OSError, match="no process could be started: .* temporarily unavailable"):
        request(supervise(no_process), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_where_no_supervisor_can_be_started_it_says_so(calm, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fork", no_process)
    ours, control = socket.socketpair()
    thread = threading.Thread(target=template._serve, args=(control,))
    thread.start()
    channel, other = socket.socketpair()
    with other:
        socket.send_fds(ours, [b"."], [other.fileno()])
    with pytest.raises(OSError, match="no process could be started: .* unavailable"):
        request(channel, tmp_path / "run")
    with control:
        ours.close()
        thread.join()


def test_a_folder_that_cannot_be_made_is_said_with_what_to_do(supervise, tmp_path):
    with pytest.raises(OSError, match=SENTENCE):
        request(supervise(no_process), tmp_path / "missing" / "run")


def test_a_folder_that_cannot_be_filled_is_said_and_removed(supervise, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(supervisor.Path, "write_bytes", full)
    with pytest.raises(OSError, match=SENTENCE):
        request(supervise(no_process), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_there_before_is_left_alone(supervise, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="File exists"):
        request(supervise(no_process), tmp_path)
    assert (tmp_path / "file").exists()


def test_a_supervisor_that_is_gone_is_a_lost_connection(tmp_path):
    channel, other = socket.socketpair()
    other.close()
    with pytest.raises(ConnectionError, match="the supervisor ended: it said nothing"):
        request(channel, tmp_path / "run")
