"""The picture that is drawn while a run goes on: right, and no slower when much has happened."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mmlab.draw import theme
from mmlab.draw.live import LivePicture
from mmlab.draw.paint import BAR, png
from mmlab.draw.progress import STATES
from mmlab.trace import Trace
from tests.events import Event
from tests.stories import SECOND, event, story


def drawn(events, title="My run"):
    picture = LivePicture(title)
    picture.add(events)
    return picture


def seconds_to_columns(picture, *seconds):
    background = picture._background
    return [background.left + int(background.axis.place(t)) for t in seconds]


def lane_pixels(picture, lane, begin, end):
    """The middle row of a lane, from `begin` to `end` seconds."""
    image = np.array(picture.image().convert("RGB"))
    left, right = seconds_to_columns(picture, begin, end)
    return image[picture._background.lane_rows[lane], left:right]


def is_colour(pixels, colour):
    return (pixels == np.array(Image.new("RGB", (1, 1), colour))[0, 0]).all(axis=-1)


def test_states_are_where_they_happened():
    picture = drawn([e for e in story() if e.event != "end"])
    colour = theme.model_palette.colours(["a"])["a"]
    deep, pale = theme.shade(colour, 0.55), theme.tint(colour, 0.3)
    assert is_colour(lane_pixels(picture, 0, 2.1, 2.9), deep).all()
    assert is_colour(lane_pixels(picture, 0, 3.1, 3.9), pale).mean() > 0.9
    loading = lane_pixels(picture, 0, 1.1, 1.9)
    assert 0.1 < is_colour(loading, colour).mean() < 0.7
    assert not is_colour(lane_pixels(picture, 0, 4.6, 6.9), pale).any()


def test_a_model_that_is_loading_stands_hatched_on_those_that_are_resident():
    picture = drawn([e for e in story() if e.event != "end"])
    image = np.array(picture.image().convert("RGB"))
    place = picture._background.models
    unit = round(place.pixels_per_unit)
    pixels = image[place.foot - unit + 3 : place.foot - 2]

    def share(begin, end, colour):
        left, right = seconds_to_columns(picture, begin, end)
        return is_colour(pixels[:, left:right], colour).mean()

    assert 0.2 < share(5.2, 5.8, theme.MUTED) < 0.6
    assert share(6.2, 6.8, theme.FILL) > 0.95
    assert share(4.6, 4.9, theme.FILL) == share(4.6, 4.9, theme.MUTED) == 0


def test_its_counts_are_those_of_the_trace():
    picture = drawn(story())
    summary = Trace(story()).summary()
    counts = vars(picture.state.counts)
    assert counts == {name: getattr(summary, name) for name in counts}
    assert "3 loads · 2 evictions · 1 resident" in picture.line()


@pytest.mark.runs
def test_the_live_and_the_final_picture_have_one_layout():
    """The size, the axes and the legend: only up to where the axes go may differ."""
    events = story()
    picture = LivePicture("Score")
    sizes, places = set(), set()
    for begun in range(1, len(events)):
        picture.add([events[begun - 1]])
        sizes.add(picture.image().size)
        background = picture._background
        places.add(
            (background.left, background.lane_rows, background.models.top, background.models.foot)
        )
    figure = Trace(events).timeline(title="Score").figure
    (size,) = sizes
    assert size == tuple(round(inches * 100) for inches in figure.get_size_inches())
    assert len(places) == 1
    figure.set_dpi(100)
    box = figure.axes[0].get_window_extent()
    assert (round(box.x0), round(box.x1)) == (background.left, background.right)
    rows = figure.axes[0].transData.transform([(0, lane) for lane in range(3)])[:, 1]
    assert background.lane_rows == tuple(size[1] - round(row) for row in rows)


def test_the_live_and_the_final_picture_have_the_same_marks():
    events = [e for e in story() if e.event != "end"]
    picture = drawn(events, "Score")
    live = np.array(picture.image().convert("L")) < 100
    figure = Trace(events).timeline(title="Score").figure
    figure.axes[2].set_xlim(0, picture._background.layout.seconds)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100)
    final = np.array(Image.open(buffer).convert("L")) < 100
    top, below = (picture._background.lane_rows[lane] for lane in (0, 1))
    for row, second in ((top - BAR // 2 - 4, 4), (top + BAR // 2 + 2, 4.5),
                        (below - BAR // 2 - 4, 7), (below + BAR // 2 + 2, 7)):  # fmt: skip
        (column,) = seconds_to_columns(picture, second)
        around = slice(row - 3, row + 4), slice(column - 7, column + 8)
        assert live[around].any() and final[around].any(), second


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
    deep = theme.shade(theme.model_palette.colours(["a"])["a"], 0.55)
    assert is_colour(lane_pixels(picture, 0, 0.6, 0.9), deep).all()
    assert len(picture._background.lane_rows) == 1


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
    axis = picture._background.axis
    assert axis.seconds >= 400
    shapes = {cover.shape for cover in picture._reader.covers(axis).values()}
    assert shapes == {(1, axis.columns)}


def test_many_models_are_cut():
    events = [event("load_begin", i, model=f"m{i}", generation=1) for i in range(60)]
    image = drawn(events).image()
    assert image.height < 41 * 36 + 500


def test_a_failed_load_ends():
    events = [
        event("load_begin", 1, model="a", generation=1),
        event("load_fail", 2, model="a", generation=1, error="MemoryError: no"),
        Event("run", 3 * SECOND, "host", 1, 1, "end", info={"state": "FAILED"}),
    ]
    picture = drawn(events)
    picture.image()
    covers = picture._reader.covers(picture._background.axis)
    covered = {state for state in STATES if covers[state].any()}
    assert covered == {"loading", "failed"}
    (failed,) = np.flatnonzero(covers["failed"][0])
    assert abs(failed - picture._background.axis.place(1)) <= 1
    assert picture.state.held_now == 0
