"""The timeline: what it draws, in words and in marks; that it survives any trace."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmlab.draw.lanes import _merge_close
from mmlab.trace import Trace
from tests.events import Event
from tests.figures import texts
from tests.stories import SECOND, event, story


def labels(axes):
    return [tick.get_text() for tick in axes.get_yticklabels()]


def marks(axes, marker):
    return sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == marker)


def test_lanes_marks_and_header():
    figure = Trace(story()).timeline(title="My run").figure
    top, middle, bottom = figure.axes
    assert labels(top) == ["a", "b", "c"]
    assert (marks(top, "v"), marks(top, "o")) == (2, 2)
    said = texts(figure)
    assert "My run" in said
    assert "hint 1" in said
    assert "3 loads (1 reload)" in said
    assert "hint = limit 1" in said
    assert "peak 0 kB" in said
    assert legend(figure) == [
        "loading",
        "resident",
        "in use",
        "evicted (dropped by Beam)",
        "evicted, not yet freed",
        "freed (memory released)",
        "batch failed",
    ]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_legend_has_no_late_release_where_there_is_none():
    at_once = [e for e in story() if e.event != "evict" or e.model != "a"]
    assert "evicted, not yet freed" not in legend(Trace(at_once).timeline().figure)


def test_a_model_that_is_loading_stands_hatched_on_those_that_are_resident():
    middle = Trace(story()).timeline().figure.axes[1]
    both, resident = middle.collections
    assert both.get_hatch() and not resident.get_hatch()

    assert (tops(both, 5.5), tops(resident, 5.5)) == (1, 0)
    assert (tops(both, 6.5), tops(resident, 6.5)) == (1, 1)
    assert (tops(both, 4.7), tops(resident, 4.7)) == (0, 0)


def tops(area, at):
    """How high a stepped area is at a moment."""
    path = area.get_paths()[0]
    return sum(path.contains_point((at, level + 0.5)) for level in range(4))


def test_without_a_hint_it_says_so():
    assert "no hint" in texts(Trace(story(hint=None)[:1]).timeline().figure)


def test_a_memory_limit_is_told_from_where_it_counts():
    error = "RuntimeError: DefaultCPUAllocator: can't allocate memory: allocate 63000000 bytes"
    events = [
        event("memory_limit", 0.1, model=None, bytes=340_000_000),
        event("memory", 0.2, model=None, rss=403_000_000),
        event("load_begin", 1, generation=1, rss=675_000_000),
        event("load_fail", 2, generation=1, error=error, rss=675_000_000),
        Event("run", 3 * SECOND, "host", 1, 1, "end", error=error, info={"state": "FAILED"}),
    ]
    figure = Trace(events).timeline().figure
    said = texts(figure)
    assert "743 MB =\n403 at the start\n+ 340\nfor the run" in said
    assert "asked for 63 MB more" in said
    marked = [line.get_ydata() for line in figure.axes[2].lines if line.get_linewidth() == 5]
    assert [list(rss) for rss in marked] == [[675, 738]]


def test_the_states_differ_without_colour():
    top = Trace(story()).timeline().figure.axes[0]
    looks = {
        (bars.get_hatch(), bars.get_linestyle()[0][1] is None, len(bars.get_facecolor()))
        for bars in top.collections
    }
    assert len(looks) >= 3


def test_hint_and_limit_that_differ_are_both_drawn():
    events = [*story(), event("limit", 0.6, model=None, limit=4)]
    figure = Trace(events).timeline().figure
    said = texts(figure)
    assert "hint 1 → limit 4" in said
    assert "limit 4" in [t.get_text() for t in figure.axes[1].texts]
    assert "hint 1" in [t.get_text() for t in figure.axes[1].texts]


def test_the_outline_has_no_times():
    assert repr(Trace(story()).timeline()) == (
        "Timeline of s: hint 1, 3 loads, 2 evictions, at most 1 resident\n"
        "  a  2 loads, 1 eviction, 1 batch, 3 elements\n"
        "  b  1 load, 1 eviction, 1 batch, 1 element, 1 failed\n"
        "  c  0 loads, 0 evictions, 0 batches, 0 elements"
    )


def test_a_notebook_gets_a_picture_and_the_words():
    data, metadata = Trace(story()).timeline()._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert data["text/plain"].startswith("Timeline of s")
    assert metadata["image/png"]["width"] == 950
    assert len(data["image/png"]) < 150_000


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_it_can_be_saved(tmp_path, ending):
    path = Trace(story()).timeline().save(tmp_path / f"timeline.{ending}")
    assert path.stat().st_size > 1000


@pytest.mark.parametrize(
    "name",
    ["$\\frac{x", "a_b^c$x$", "모델 하나", "🦖", "x" * 300, "<script>", "a\nb\x00c", "\ud800", ""],
)
def test_any_name_can_be_drawn(name):
    events = [
        Event("run", 0, "host", 1, 1, "run", info={"models": [{"step": name, "model": name}]}),
        event("load_begin", 1, model=name, step=name, generation=1),
        event("load_fail", 2, model=name, step=name, generation=1, error=name),
        Event("run", 3 * SECOND, "host", 1, 1, "end", error=name, info={"state": "FAILED"}),
    ]
    data, _ = Trace(events).timeline()._repr_mimebundle_()
    assert data["image/png"]


def many() -> Trace:
    """60 models, of which the last 40 are loaded twice."""
    return Trace(
        event(kind, i + half, model=f"m{i:03}", generation=generation)
        for i in range(60)
        for generation in ((1, 2) if i >= 20 else (1,))
        for kind, half in ((("load_begin", 0.2), ("load_end", 0.3), ("evict", 0.4)))
    )


def test_the_busiest_models_have_lanes_and_the_others_share_one():
    axes = many().timeline().figure.axes[0]
    assert labels(axes) == [
        *(f"m{i:03}" for i in range(20, 60)),
        "20 others\n20 loads, 20 evictions",
    ]


def test_models_are_chosen_and_drawn_in_the_order_given():
    axes = many().timeline(models=["m055", "m001"]).figure.axes[0]
    assert labels(axes) == ["m055", "m001", "58 others\n97 loads, 97 evictions"]


def test_a_model_that_the_run_does_not_have_is_named():
    with pytest.raises(ValueError, match="models names 'm9', which this run does not have: 'm000"):
        many().timeline(models=["m9"])
    with pytest.raises(TypeError, match=r"give \['m001'\]"):
        many().timeline(models="m001")


def extent(text):
    return text.get_window_extent(text.get_figure().canvas.get_renderer())


@pytest.mark.parametrize("name", ["m", "판매 예측 모델 아주 긴 이름", "W" * 24])
def test_the_caption_of_memory_and_the_names_of_models_stay_inside(name):
    gigabyte = 2_000_000_000
    events = [
        Event("run", 0, "host", 1, 1, "run", info={"models": [{"step": name, "model": name}]}),
        event("load_begin", 1, model=name, step=name, generation=1, rss=gigabyte),
        event("load_end", 2, model=name, step=name, generation=1, bytes=gigabyte),
        event("memory", 3, model=None, rss=gigabyte, peak_rss=gigabyte, device_bytes=gigabyte),
        Event("run", 4 * SECOND, "host", 1, 1, "end", info={"state": "DONE"}),
    ]
    figure = Trace(events).timeline().figure
    caption = extent(figure.axes[2].texts[0])
    frame = figure.axes[2].get_window_extent()
    assert "GPU" in figure.axes[2].texts[0].get_text()
    assert frame.x0 <= caption.x0 and caption.x1 <= frame.x1 and caption.y1 <= frame.y1
    assert all(extent(label).x0 >= 0 for label in figure.axes[0].get_yticklabels())


@pytest.mark.runs
def test_ten_thousand_loads_are_drawn_as_few_bars():
    events = []
    for i in range(10_000):
        at = i / 100
        events += [
            event("load_begin", at, generation=i + 1),
            event("load_end", at + 0.002, generation=i + 1, bytes=1),
            event("use_begin", at + 0.003, generation=i + 1, n=1),
            event("use_end", at + 0.004, generation=i + 1),
            event("evict", at + 0.008, generation=i + 1),
            event("free", at + 0.009, generation=i + 1),
        ]
    top = Trace(events).timeline().figure.axes[0]
    drawn = [len(bars.get_paths()) for bars in top.collections[:4]]
    assert len(drawn) == 4
    assert 0 < min(drawn) <= max(drawn) < 2500


pairs = st.lists(
    st.tuples(st.floats(0, 100), st.floats(0, 10)).map(lambda p: (p[0], p[0] + p[1])), max_size=40
)


@given(pairs, st.floats(0, 5), st.floats(0, 2))
def test_merged_intervals_cover_the_same_and_are_apart(intervals, gap, least):
    merged = _merge_close(np.array(intervals).reshape(-1, 2), gap, 0.0)
    ends = merged.sum(axis=1)
    for begin, end in intervals:
        assert any(b <= begin and end <= e + 1e-9 for b, e in zip(merged[:, 0], ends, strict=True))
    assert all(merged[1:, 0] - ends[:-1] > gap - 1e-9)
    wide = _merge_close(np.array(intervals).reshape(-1, 2), gap, least)
    assert len(wide) == len(merged)
    assert all(wide[:, 1] >= least) if len(wide) else True
