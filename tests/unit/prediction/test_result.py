"""Tables, the cliff, advice and pictures say what the numbers say."""

from __future__ import annotations

import numpy as np
import pytest

import mmlab
from mmlab import WatchRunner
from mmlab.prediction import NoAdviceError, compare_routings
from tests.handlers import keyed, run_keyed

MB = 10**6
TURNS = [f"K{i % 4}" for i in range(24)]


def turns(**options):
    return mmlab.predict(TURNS, sizes=64 * MB, **options)


def test_the_cliff_of_models_that_take_turns():
    cliff = turns().cliff()
    assert (cliff.hint, cliff.foot, cliff.before, cliff.after) == (3, 4, 24, 4)


def test_a_slope_is_no_cliff():
    rng = np.random.default_rng(0)
    keys = (100 * rng.random(20_000) ** 2).astype(int)
    assert mmlab.predict(keys).cliff() is None
    assert mmlab.predict(["a", "a"]).cliff() is None
    popular = (1000 * rng.random(20_000) ** 9).astype(int)
    assert mmlab.predict(popular).cliff() is None


def test_advice_that_fits():
    advice = turns().advise(memory=400 * MB, buffer=100 * MB, load_seconds=2)
    assert (advice.hint, advice.calm, advice.fits) == (4, 4, 4)
    assert (advice.memory_bytes, advice.counts) == (356 * MB, "resident set size")
    assert [(each.what, each.bytes, each.source) for each in advice.inputs] == [
        ("beside the models", 100 * MB, "given"),
        ("models", 256 * MB, "given"),
    ]
    assert (advice.loads, advice.evictions, advice.loading_seconds) == (4, 0, 8)
    assert (advice.grouped_hint, advice.grouped_loads) == (1, 4)
    said = repr(advice)
    assert "Set the hint to 4" in said
    assert "Hint 3 does: 83% of the visits load a model again, 24 loads (48 s of loading)" in said
    assert "With a GroupByKey before RunInference, hint 1 would do: 4 loads" in said


def test_advice_without_memory_says_what_to_buy():
    advice = turns().advise(buffer=100 * MB)
    assert (advice.hint, advice.memory_bytes, advice.fits) == (4, 356 * MB, None)


def said_by(advice):
    """Its text without the breaks of lines."""
    return " ".join(repr(advice).split())


def test_no_hint_fits_and_does_not_thrash():
    advice = turns().advise(memory=300 * MB, buffer=100 * MB)
    assert (advice.hint, advice.fits, advice.calm, advice.loads) == (None, 3, 4, 24)
    assert "No hint can be advised" in said_by(advice)
    assert "hint 3 is the largest that fits, and it thrashes: 24 loads" in said_by(advice)
    nothing = turns().advise(memory=100 * MB, buffer=100 * MB)
    assert (nothing.hint, nothing.fits) == (None, None)
    needs = "not even hint 1 fits, which needs about 164 MB. A machine with 164 MB"
    assert needs in said_by(nothing)


def test_every_process_of_a_machine_needs_its_buffer():
    advice = turns(processes=2).advise(buffer=100 * MB)
    beside, models = advice.inputs
    assert (beside.bytes, beside.source) == (200 * MB, "given, for each of 2 processes")
    assert advice.memory_bytes == models.bytes + 200 * MB


def test_copies_lower_the_hint():
    assert turns(copies=2).advise().hint == 2
    assert turns(copies=2).at(1)["limit"] == 2


@pytest.mark.parametrize(
    ("prediction", "options", "says"),
    [
        (mmlab.predict(TURNS), {"memory": 1e9, "buffer": 1}, "without their sizes: give sizes="),
        (turns(), {"memory": 1e9}, "give buffer= in bytes, or predict from a trace"),
        (mmlab.predict(["a", "b", "c"]), {}, "no model comes twice .* longer stretch"),
    ],
)
def test_advice_is_refused_where_the_input_does_not_allow_it(prediction, options, says):
    with pytest.raises(NoAdviceError, match=says):
        prediction.advise(**options)


@pytest.mark.parametrize("name", ["memory", "buffer", "load_seconds", "most_reloads"])
def test_bad_numbers(name):
    with pytest.raises(ValueError, match=f"{name} must be .*, got -1"):
        turns().advise(**{name: -1})
    with pytest.raises((TypeError, ValueError), match=f"{name} must be a number.*, got 'much'"):
        turns().advise(**{name: "much"})


def test_memory_is_that_of_a_machine_or_a_limit_of_each_process():
    with pytest.raises(ValueError, match="not both"):
        turns().advise(memory="1GB", memory_limit="1GB")
    assert turns().advise(memory="400MB", buffer="100MB").fits == 4


def test_under_a_memory_limit_the_inputs_that_nobody_measured_are_assumed():
    """Four models of 64 MB that take turns: a reload at each of 20 further visits."""
    advice = turns().advise(memory_limit="300MB")
    assert (advice.counts, advice.hint, advice.fits) == ("address space", None, 1)
    assert "The memory limit is 300 MB: hint 1 is the largest that fits" in said_by(advice)
    assert {each.what: each.bytes // MB for each in advice.inputs} == {
        "beside the models": 80,
        "models": 256,
        "loading": 64,
        "margin": 20,
    }
    assert all(each.source.startswith("assumed") for each in advice.inputs if each.what != "models")
    said = said_by(turns(copies=2).advise(memory_limit="300MB"))
    assert "not even hint 1 fits" in said
    assert "A limit of 634 MB would fit hint 1" in said


@pytest.mark.runs
def test_a_trace_of_a_failed_run_gives_no_advice():
    runner = WatchRunner()
    with pytest.raises(Exception, match="unknown"):
        run_keyed(runner, keyed([["a"], ["b"]], 1), ["a", "b", "a", "unknown"])
    prediction = mmlab.predict(runner.trace)
    assert "did not end" in prediction.notes[0]
    with pytest.raises(NoAdviceError, match="did not end"):
        prediction.advise()


def test_the_picture_says_the_same_in_words():
    picture = turns().plot(title="Turns")
    assert repr(picture).splitlines()[1:] == [
        "  hint 1: 24 loads, 23 evictions",
        "  hint 3: 24 loads, 21 evictions",
        "  hint 4: 4 loads, 0 evictions",
    ]
    top, bottom = picture.figure.axes
    assert [t.get_text() for t in top.texts] == ["the cliff: 24 → 4"]
    assert top.lines[0].get_ydata().tolist() == [24, 24, 24, 4]
    assert "256 MB" in bottom.texts[0].get_text()
    looks = {(line.get_linestyle(), line.get_marker()) for line in top.lines}
    assert len(looks) == len(top.lines)  # told apart without colour
    assert len(mmlab.predict(TURNS, optimum=False).plot().figure.axes) == 1


def test_text_stays_inside_the_picture():
    many = mmlab.predict(np.arange(2_000_000) % 900, sizes=10**9, workers=3, optimum=False)
    for prediction in (turns(), many):
        figure = prediction.plot().figure
        figure.canvas.draw()  # axes place their labels when they are drawn
        renderer = figure.canvas.get_renderer()
        frame = figure.bbox
        for ax in figure.axes:
            for text in [
                ax.yaxis.label,
                *ax.texts,
                *(ax.get_legend().get_texts() if ax.get_legend() else []),
            ]:
                box = text.get_window_extent(renderer)
                assert frame.x0 <= box.x0 and box.x1 <= frame.x1, text.get_text()


def test_a_fleet_sprayed_against_keyed():
    rng = np.random.default_rng(1)
    keys = (400 * rng.random(40_000) ** 2).astype(int)
    fleet = compare_routings(keys, workers=4, processes=2, sizes=MB)
    table = fleet.table(50)
    assert table.loc["spray", "models per process"] == 400
    assert table.loc["by_key", "models per process"] < 100
    assert table.loc["by_key", "loads"] < table.loc["spray", "loads"] / 5
    assert table.loc["by_key", "skew"] > table.loc["spray", "skew"]
    assert table.loc["by_key", "model bytes of the fullest machine"] <= 100 * MB
    alone = mmlab.predict(keys, workers=4, processes=2, routing="by_key", sizes=MB)
    assert (fleet.predictions["by_key"].loads == alone.loads).all()
    assert "spray: 3,198 loads, at most 400 models per process" in repr(fleet)
