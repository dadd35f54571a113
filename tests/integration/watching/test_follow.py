"""A run is followed from its log by somebody who did not start it."""

from __future__ import annotations

import threading

import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from mmlab import Trace, WatchRunner, follow
from mmlab.watching import follow as module
from tests import remote
from tests.handlers import Model, NamedModels, keyed, run_keyed
from tests.waiting import HUNG_SECONDS

pytestmark = pytest.mark.runs

_seen = threading.Event()


class WaitsToBeSeen(NamedModels):
    """Answers when somebody has seen that its model is loaded."""

    def load_model(self):
        return Model(self.name)

    def run_inference(self, batch, model, inference_args=None):
        assert _seen.wait(HUNG_SECONDS)
        return super().run_inference(batch, model, inference_args)


class Screen:
    def __init__(self):
        self.left = None

    def wait(self, picture):
        pass

    def show(self, picture):
        _seen.set()

    def finish(self, trace, title=None):
        self.left = trace


def test_a_run_is_drawn_while_it_goes_on_and_ends_with_its_trace(tmp_path, monkeypatch):
    screen = Screen()
    monkeypatch.setattr(module, "screen_for", lambda live, text: screen)
    _seen.clear()
    handler = keyed([["a"]], handler=WaitsToBeSeen)
    runner = WatchRunner(FnApiRunner(), log=tmp_path, live=False)
    run = threading.Thread(target=run_keyed, args=(runner, handler, ["a", "a"]))
    run.start()
    trace = follow(tmp_path)
    run.join(HUNG_SECONDS)
    assert trace is screen.left
    assert trace.state == "DONE"
    assert trace.summary().counts() == runner.trace.summary().counts()


def test_it_waits_for_the_first_run_and_chooses_the_newest(tmp_path):
    followed = []
    other = threading.Thread(target=lambda: followed.append(follow(tmp_path, live=False)))
    other.start()
    runner = WatchRunner(FnApiRunner(), log=tmp_path, live=False)
    run_keyed(runner, keyed([["a"]]), ["a"])
    other.join(HUNG_SECONDS)
    assert followed[0].summary().elements == 1
    (tmp_path / "0-older").mkdir()
    Trace.load(tmp_path).save(tmp_path / "0-older" / "log.jsonl")
    assert follow(tmp_path, live=False).events[0].run == runner.trace.events[0].run


def test_an_interrupt_ends_the_following_and_not_the_run(tmp_path, monkeypatch):
    runner = WatchRunner(FnApiRunner(), log=tmp_path, live=False)
    run_keyed(runner, keyed([["a"], ["b"]]), [*"ab"])
    [log] = tmp_path.iterdir()
    for path in log.glob("*.jsonl"):  # the run was killed before it could say so
        kept = [line for line in path.read_text().splitlines() if '"event":"end"' not in line]
        path.write_text("\n".join(kept) + "\n")

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", interrupt)
    trace = follow(log, live=False)
    assert trace.summary().loads == 2
    assert trace.incomplete


def test_a_log_behind_beams_file_systems(tmp_path):
    runner = WatchRunner(FnApiRunner(), log=remote.uri(tmp_path / "far"), live=False)
    run_keyed(runner, keyed([["a"]], handler=remote.NamedModelsAfar), ["a", "a"])
    trace = follow(remote.uri(tmp_path / "far"), live=False)
    assert trace.summary() == runner.trace.summary()
