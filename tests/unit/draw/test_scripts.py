"""Timelines, comparisons and the live picture in any script: nothing is missing, nothing warns."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from mmlab import fonts
from mmlab.draw import theme
from mmlab.draw.comparison import Multiple, draw_comparison
from mmlab.draw.lanes import shortened
from mmlab.draw.live import LivePicture
from mmlab.trace import Trace
from tests.events import Event
from tests.stories import SECOND, event

NAMES = {
    "Hangul": "판매 예측 모델",
    "Han": "销售预测模型 銷售預測",
    "Kana": "カタカナとひらがな",
    "Cyrillic": "Модель прогноза",
    "Greek": "Μοντέλο πρόβλεψης",
    "emoji": "🦖🚀",
    "shaped": "مرحبا हिन्दी",
    "unseen": "\u200b",
    "empty": "",
    "long": "이름이 아주 길어서 줄여야 하는 모델 하나 더 길게",
}


def run() -> list[Event]:
    models = [{"step": "단계 шаг", "model": name, "hint": 2} for name in NAMES.values()]
    events = [Event("run", 0, "호스트", 1, 1, "run", info={"models": models})]
    for i, name in enumerate(NAMES.values()):
        for kind, at in (("load_begin", 0.1), ("load_end", 0.3), ("evict", 0.8), ("free", 0.9)):
            events.append(event(kind, i + at, step="단계 шаг", model=name, generation=1, rss=10**9))
    end = Event("run", 20 * SECOND, "호스트", 1, 1, "end", error="ValueError: 오류 🦖", info={})
    return [*events, end]


def compared() -> Figure:
    trace = Trace(run())
    runs = [
        Multiple("힌트 подсказка 🦖", ("3 loads", "1 s"), None, trace),
        Multiple("hint 2", (), "ValueError: 오류가 났습니다 " * 9, trace),
    ]
    return draw_comparison(runs, "비교 сравнение 🦖", "판정 всё хорошо 好 🦖 " * 20)


FIGURES = {
    "timeline": lambda: Trace(run()).timeline(title="제목 заголовок 标题 🦖").figure,
    "comparison": compared,
}


@pytest.fixture(params=FIGURES)
def figure(request):
    return FIGURES[request.param]()


@pytest.mark.parametrize("form", ["png", "pdf", "svg"])
def test_no_glyph_is_missing(figure, form, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), format=form)
    assert caplog.text == ""  # findfont logs what it does not find


def test_every_text_stays_in_the_figure(figure):
    renderer = figure.canvas.get_renderer()
    width = figure.bbox.width
    texts = [t for axes in figure.axes for t in (*axes.get_yticklabels(), *axes.texts)]
    for text in (*figure.texts, *texts):
        if text.get_text():
            box = text.get_window_extent(renderer)
            assert box.x0 >= 0 and box.x1 <= width, text.get_text()


def test_the_fonts_are_ours_alone():
    """Those of the machine would make other pictures elsewhere."""
    assert theme.font_families() == ["DejaVu Sans", "mmlab Sans CJK"]


@pytest.mark.parametrize("script", ["Hangul", "Han", "Kana", "Cyrillic", "Greek"])
def test_scripts_that_we_have_are_drawn(script):
    assert fonts.drawable(NAMES[script]) == NAMES[script]
    assert shortened(NAMES[script]) == NAMES[script]


def test_what_cannot_be_drawn_is_readable():
    assert shortened(NAMES["emoji"]) == "<U+1F996><U+1F680>"
    assert shortened("a\nb\x00") == "a<U+000A>b<U+0000>"
    assert fonts.drawable("e\u0301\u1112\u1161\u11ab") == "é한"  # put together again


# The live picture


def left_of_lanes(name):
    picture = LivePicture("")
    picture.add([event("load_begin", 1, step="s", model=name)])
    image = np.array(picture.image())
    background = picture._background
    middle = background.lane_rows[0]
    return image[middle - 12 : middle + 12, : background.left - 2], background


@pytest.mark.parametrize("name", NAMES.values())
def test_names_of_the_live_picture_fit_beside_their_lanes(name):
    pixels, background = left_of_lanes(name)
    assert (pixels[:, 10:] != 0).any()
    assert not (pixels[:, :3] != 0).any()


def test_hangul_in_the_live_picture_is_no_box():
    def drawn(name):
        return left_of_lanes(name)[0].tolist()

    assert drawn("가가") != drawn("너너")
    assert drawn("漢漢") != drawn("字字")


def test_the_busiest_models_have_lanes_in_the_live_picture():
    picture = LivePicture("")
    for i in range(60):
        for generation in (1, 2) if i >= 20 else (1,):
            picture.add(
                event(kind, i, step="s", model=f"m{i}", generation=generation)
                for kind in ("load_begin", "load_end", "evict", "free")
            )
    assert picture.image().height > 40 * 30
    *shown, others = picture._reader.lanes()
    assert [lane.model for lane in shown] == [f"m{i}" for i in range(20, 60)]
    assert others.numbers == tuple(range(20))
    assert others.label == "20 others\n20 loads, 20 evictions"
