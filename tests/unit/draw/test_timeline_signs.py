"""The timeline explains the signs that it has, and no others; what cannot be seen takes no room."""

from __future__ import annotations

import pytest
from matplotlib.text import Text

from mmlab.trace import Trace
from tests.stories import event, story


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].findobj(Text) if text.get_text()]


def without(*kinds):
    return Trace([each for each in story() if each.event not in kinds])


def test_signs_that_do_not_occur_are_not_explained():
    whole = legend_of(Trace(story()).timeline().figure)
    assert {"evicted (dropped by Beam)", "freed (memory released)"} <= set(whole)
    still = legend_of(without("evict", "free").timeline().figure)
    assert "evicted (dropped by Beam)" not in still and "freed (memory released)" not in still


@pytest.mark.parametrize(("model_bytes", "is_flat"), [(10_000, True), (64_000_000, False)])
def test_the_axis_of_memory_is_low_where_models_cannot_be_seen_on_it(model_bytes, is_flat):
    events = [
        event("load_begin", 0, model="a", generation=1),
        event("load_end", 1, model="a", generation=1, bytes=model_bytes),
        event("memory", 2, rss=500_000_000),
    ]
    figure = Trace(events).timeline().figure
    lanes, models, memory = (axes.get_position().height for axes in figure.axes)
    assert (memory < models) == is_flat
