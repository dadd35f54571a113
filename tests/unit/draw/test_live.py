"""The picture that is drawn while a run goes on: right, and no slower when much has happened."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mmlab.draw import live, theme
from mmlab.draw.live import LivePicture, png
from mmlab.trace import Trace
from tests.events import Event
from tests.unit.trace.test_trace import SECOND, event, story


def drawn(events, title="My run"):
    picture = LivePicture(title)
    picture.add(events)
    return picture


def lane_pixels(image, lane, begin, end, span):
    """The middle row of a lane, from `begin` to `end` seconds."""
    columns = live.WIDTH - live.LEFT - live.RIGHT
    y = live.HEAD + lane * live.LANE + live.LANE // 2
    left, right = (live.LEFT + int(t / span * columns) for t in (begin, end))
    return np.array(image.convert("RGB"))[y, left:right]


def is_colour(pixels, colour):
    return (pixels == np.array(Image.new("RGB", (1, 1), colour))[0, 0]).all(axis=-1)


def test_states_are_where_they_happened():
    events = [e for e in story() if e.event != "end"]
    picture = drawn(events)
    image = picture.image()
    span = picture._span
    colour = theme.model_palette.colours(["a"])["a"]
    deep, pale = theme.shade(colour, 0.55), theme.tint(colour, 0.3)
    assert is_colour(lane_pixels(image, 0, 2.1, 2.9, span), deep).all()
    assert is_colour(lane_pixels(image, 0, 3.1, 3.9, span), pale).mean() > 0.9
    loading = lane_pixels(image, 0, 1.1, 1.9, span)
    assert 0.1 < is_colour(loading, colour).mean() < 0.7
    assert not is_colour(lane_pixels(image, 0, 4.6, 6.9, span), pale).any()


def test_a_model_that_is_loading_stands_hatched_on_those_that_are_resident():
    picture = drawn([e for e in story() if e.event != "end"])
    image, span = picture.image(), picture._span
    top = live.HEAD + 3 * live.LANE + live.GAP
    columns = live.WIDTH - live.LEFT - live.RIGHT
    pixels = np.array(image.convert("RGB"))[top + 30 : top + live.RESIDENCY]

    def share(begin, end, colour):
        left, right = (live.LEFT + int(t / span * columns) for t in (begin, end))
        return is_colour(pixels[:, left:right], colour).mean()

    assert 0.2 < share(5.2, 5.8, theme.MUTED) < 0.6
    assert share(6.2, 6.8, theme.FILL) > 0.95
    assert share(4.6, 4.9, theme.FILL) == share(4.6, 4.9, theme.MUTED) == 0


def test_its_counts_are_those_of_the_trace():
    picture = drawn(story())
    summary = Trace(story()).summary()
    assert picture._counts == {name: getattr(summary, name) for name in picture._counts}
    assert "3 loads · 2 evictions · 1 resident" in picture.line()


def test_events_may_come_in_pieces():
    whole = drawn(story()).image()
    picture = LivePicture("My run")
    for one in story():
        picture.add([one])
        picture.image()
    assert (np.array(picture.image()) == np.array(whole)).all()


def test_uses_of_another_process_are_drawn_where_the_model_is():
    events = [
        event("load_begin", 0, model="a", generation=1),
        event("load_end", 0.1, model="a", generation=1),
        event("use_begin", 0.5, pid=2, model="a", n=1),
        event("use_end", 1.0, pid=2, model="a"),
    ]
    picture = drawn(events)
    assert len(picture._lanes) == 1
    deep = theme.shade(theme.model_palette.colours(["a"])["a"], 0.55)
    assert is_colour(lane_pixels(picture.image(), 0, 0.6, 0.9, picture._span), deep).all()


def test_before_the_first_event_there_is_a_picture():
    image = Image.open(io.BytesIO(png(LivePicture("My run").image())))
    assert image.width == 950


@pytest.mark.parametrize("name", ["모델", "🦖", "x" * 300, "<b>", "a\x00b", "\ud800", ""])
def test_any_name_can_be_drawn(name):
    assert drawn([event("load_begin", 1, model=name, step=name, generation=1)], name).image()


@pytest.mark.runs
def test_a_long_run_is_kept_in_numbers_not_in_pixels():
    events = []
    for i in range(20_000):
        at = i / 50
        events += [
            event("load_begin", at, generation=i + 1, rss=1000 + i),
            event("load_end", at + 0.002, generation=i + 1),
            event("evict", at + 0.008, generation=i + 1),
            event("free", at + 0.009, generation=i + 1),
        ]
    picture = drawn(events)
    first = np.array(picture.image())
    assert (np.array(picture.image()) == first).all()
    assert picture._span >= 400
    assert {cover.shape for cover in picture._covers.values()} == {(1, 716)}


def test_many_models_are_cut():
    events = [event("load_begin", i, model=f"m{i}", generation=1) for i in range(60)]
    image = drawn(events).image()
    assert image.height < live.HEAD + 41 * live.LANE + 400


def test_a_failed_load_ends():
    events = [
        event("load_begin", 1, model="a", generation=1),
        event("load_fail", 2, model="a", generation=1, error="MemoryError: no"),
        Event("run", 3 * SECOND, "host", 1, 1, "end", info={"state": "FAILED"}),
    ]
    assert drawn(events)._open == {}
