"""The picture of several runs at once: one clock, and the layout of the comparison."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from mmlab.draw import theme
from mmlab.draw.comparison import Multiple, arrange, draw_comparison
from mmlab.draw.race import RacePicture
from mmlab.draw.sheets import NOTEBOOK, PROJECTOR, PROJECTOR_RACE
from mmlab.state import State
from mmlab.trace import Trace
from tests.stories import SECOND, story

LATE = 3
"""Seconds from the begin of the first run to that of the second."""


def states_of(*runs):
    states = [State() for _ in runs]
    for state, events in zip(states, runs, strict=True):
        state.add(events)
    return states


def moved(events, seconds):
    moved_events = list(events)
    for event in moved_events:
        event.t_ns += seconds * SECOND
    return moved_events


@pytest.fixture
def race():
    first = [event for event in story() if event.event != "end"]
    second = moved([event for event in story() if event.event != "end"], LATE)
    return RacePicture("Race", ["hint 1", "hint 2", "no hint"], states_of(first, second, []))


def pixels(picture):
    return np.array(picture.image().convert("RGB"))


def is_colour(pixels, colour):
    return (pixels == np.array(Image.new("RGB", (1, 1), colour))[0, 0]).all(axis=-1)


def test_a_run_that_began_later_stands_later_on_the_one_clock(race):
    image = pixels(race)
    deep = theme.shade(theme.model_palette.colours(["a"])["a"], 0.55)
    begins = []
    for run in (0, 1):
        place = race._background.runs[run]
        row = image[place.lane_rows[0], place.memory.left : place.memory.right]
        begins.append(int(np.flatnonzero(is_colour(row, deep))[0]))
    per_second = (place.memory.right - place.memory.left) / race._background.layout.seconds
    assert begins[1] - begins[0] == pytest.approx(LATE * per_second, abs=2)


def test_each_run_says_how_it_stands(race):
    assert "hint 1: 3 loads" in race.line()
    assert "no hint: waits to start" in race.line()
    race.wait([2])
    assert "no hint: waits for memory" in race.line()
    before = pixels(race)
    race.end(0, None)
    race.end(1, "ValueError: no")
    assert "hint 2: ValueError: no" in race.line()
    assert (pixels(race) != before).any()


def test_before_the_first_run_has_begun_there_are_words():
    picture = RacePicture("Race", ["hint 1"], [State()])
    assert not picture.begun
    assert picture.image().size == (950, 64)


def test_the_race_and_the_comparison_have_one_layout():
    runs = [story(), story(), story()]
    race = RacePicture("Race", ["a", "b", "c"], states_of(*runs))
    live = race.image().size
    multiples = [Multiple(name, ("1 s",), None, Trace(story())) for name in "abc"]
    figure = draw_comparison(multiples, "Race", "One line.")
    assert live == tuple(round(inches * 100) for inches in figure.get_size_inches())
    places = [axes.get_position().bounds for axes in figure.axes]
    figure.set_dpi(100)
    for place, axes in zip(race._background.runs, figure.axes[::2], strict=True):
        box = axes.get_window_extent()
        assert (place.lanes.left, place.lanes.right) == (round(box.x0), round(box.x1))
    assert len(places) == 6


@pytest.mark.parametrize("runs", [1, 2, 3, 4, 5, 6, 8, 12])
@pytest.mark.parametrize("lanes", [1, 4, 8, 40])
def test_every_comparison_fits_on_one_screen(runs, lanes):
    grid = arrange([lanes] * runs)
    shown = [min(lanes, grid.most_lanes)] * runs
    height = grid.height(shown, NOTEBOOK.head)
    assert height <= NOTEBOOK.most_height + (0.01 if runs <= 8 else 2)
    if lanes <= 8 and runs <= 8:
        assert grid.most_lanes >= lanes


@pytest.mark.parametrize(("sheet", "runs"), [(PROJECTOR, 1), (PROJECTOR, 2), (PROJECTOR_RACE, 4)])
@pytest.mark.parametrize("lanes", [4, 8])
def test_on_a_projector_the_type_is_large_and_the_picture_small(sheet, runs, lanes):
    grid = arrange([lanes] * runs, sheet)
    shown = [min(lanes, grid.most_lanes)] * runs
    assert grid.height(shown, sheet.head) <= sheet.most_height
    assert grid.most_lanes >= 4
    state = Trace(list(story()))
    multiples = [Multiple(f"hint {i}", ["3 loads", "1.0 s"], None, state) for i in range(runs)]
    figure = draw_comparison(multiples, "Race", "", sheet)
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in texts) / 72 * sheet.pixels_per_inch >= 20
