"""How often a run is drawn: five times a second at most, and not when nothing happens."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mmlab.events import Limit, RunBegins
from mmlab.log.writer import LogWriter
from mmlab.watching import screens
from mmlab.watching.screens import _CREDIT_SECONDS, RunFrames
from mmlab.watching.view import LiveView
from tests.events import Event


class Counting:
    """A screen that counts frames, each of which costs so many seconds of the processor."""

    def __init__(self, clock=None, cost=0.0):
        self.frames, self._clock, self._cost = 0, clock, cost

    def wait(self, picture):
        pass

    def show(self, picture):
        self.frames += 1
        if self._clock is not None:
            self._clock.now += self._cost

    def finish(self, trace, title=None):
        pass

    def clear(self):
        pass


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when the test says so, for the wall and for the thread alike."""
    clock = SimpleNamespace(now=0.0)
    fake = SimpleNamespace(monotonic=lambda: clock.now, thread_time=lambda: clock.now)
    monkeypatch.setattr(screens, "time", fake)
    return clock


def use(second):
    return Event("r", int(second * 1e9), "h", 1, 1, "use_begin", "s", "m", 1, n=1)


def frames_in(seconds, clock, cost):
    """RunFrames that are drawn while an event comes every hundredth of a second."""
    screen = Counting(clock, cost)
    frames = RunFrames("Busy", screen)
    end = clock.now + seconds
    while clock.now < end:
        clock.now += 0.01
        frames.add([use(clock.now)])
    return screen.frames


def test_a_busy_run_is_drawn_five_times_a_second_and_no_more(clock):
    assert 48 <= frames_in(10, clock, cost=0.0) <= 51


def test_drawing_takes_a_twentieth_of_the_time_and_what_the_first_frames_need(clock):
    frames = frames_in(100, clock, cost=0.05)
    assert 0.05 * 100 <= frames * 0.05 <= 0.05 * 100 + _CREDIT_SECONDS + 0.1


def test_events_of_the_same_moment_are_one_frame(clock):
    screen = Counting()
    frames = RunFrames("At once", screen)
    clock.now = 1.0
    for _ in range(1000):
        frames.add([use(1.0)])
    assert screen.frames == 1


def test_samples_of_memory_alone_are_drawn_seldom(clock):
    screen = Counting()
    frames = RunFrames("Idle", screen, [Event("r", 0, "h", 1, 1, "run")])
    for _ in range(40):
        clock.now += 0.5
        frames.add([Event("r", int(clock.now * 1e9), "h", 1, 1, "memory", rss=1)])
    assert 10 <= screen.frames <= 11
    clock.now += 0.5
    frames.add([use(clock.now)])
    assert screen.frames == 12


def test_no_frame_comes_before_it_is_known_which_models_there_are():
    screen = Counting()
    frames = RunFrames("Begins", screen, [Event("r", 0, "h", 1, 1, "process")])
    assert screen.frames == 0
    frames.add([Event("r", 1, "h", 1, 1, "run")])
    assert screen.frames == 1


def test_nothing_is_drawn_when_nothing_is_written(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(LiveView, "_follow", lambda self: None)  # frames are asked for here
    writer, screen = LogWriter(tmp_path, "r"), Counting()
    writer.emit(RunBegins())
    view = LiveView(str(tmp_path), "Idle", screen)

    def look():
        clock.now += 10
        view._frame(view._frames)

    look()
    before = screen.frames
    for _ in range(20):
        look()
    assert screen.frames == before <= 2
    writer.emit(Limit(limit=1))
    look()
    assert screen.frames == before + 1
    view.finish(lambda: None)
    writer.close()
