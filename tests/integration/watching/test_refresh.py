"""Models that a side input replaces while the pipeline runs: a refresh is its own mark."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.ml.inference.base import (
    KeyedModelHandler,
    KeyModelMapping,
    KeyModelPathMapping,
    ModelMetadata,
    RunInference,
)
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from mmlab import WatchRunner
from mmlab.draw.live import LivePicture
from tests.handlers import Refreshed, timed

pytestmark = pytest.mark.runs

COLLECTED: list[str] = []


def collect(result):
    COLLECTED.append(repr(result))


class Shared(Refreshed):
    def share_model_across_processes(self):
        return True


class Keyed(KeyedModelHandler):
    def should_skip_batching(self):
        return True


def many_models():
    return Keyed(
        [KeyModelMapping(["a", "b"], Refreshed("first")), KeyModelMapping(["c"], Refreshed("c"))]
    )


def paths(*news):
    return [KeyModelPathMapping(list(keys), path, path) for keys, path in news]


def run(runner, handler, elements, news):
    """Answers of a run in which each second's elements see that second's news."""
    COLLECTED.clear()
    with beam.Pipeline(runner) as pipeline:
        side = timed(pipeline, "news", list(enumerate(news)))
        _ = (
            timed(pipeline, "elements", elements)
            | "Score" >> RunInference(handler, model_metadata_pcoll=side)
            | beam.Map(collect)
        )
    return sorted(COLLECTED)


def refreshes(trace):
    return [(event.model, event.path) for event in trace.of_kind("refresh")]


V1, V2 = ModelMetadata("v1", "one"), ModelMetadata("v2", "two")


@pytest.mark.parametrize("handler", [Refreshed, Shared])
def test_a_new_model_of_one_handler(handler):
    elements = [(second, [second]) for second in (0, 0, 1, 1, 2)]
    runner = WatchRunner()
    watched = run(runner, handler("first"), elements, [V1, V2, V2])
    assert watched == run(FnApiRunner(), handler("first"), elements, [V1, V2, V2])
    assert sum("v2" in answer for answer in watched) == 3
    trace = runner.trace
    assert refreshes(trace) == [("Score", "v2")]  # the first path is where it began
    assert [residence.generation for residence in trace.residences] == [1, 2]
    [refresh] = trace.of_kind("refresh")
    assert trace.residences[0].load_end_ns < refresh.t_ns < trace.residences[1].load_begin_ns
    assert trace.summary().refreshes == trace.per_model()[0].refreshes == 1
    assert "1 refresh" in repr(trace.timeline())
    assert "refreshes" in str(trace.summary())


def test_new_models_of_a_keyed_handler_and_a_cohort_that_is_split():
    elements = [(second, [(key, second)]) for second in range(3) for key in "abc"]
    begin = paths(("ab", "v1"), ("c", "c1"))
    split = paths(("a", "v1"), ("b", "v2"), ("c", "c2"))
    runner = WatchRunner()
    watched = run(runner, many_models(), elements, [begin, split, split])
    assert watched == run(FnApiRunner(), many_models(), elements, [begin, split, split])
    assert sum("v2" in answer for answer in watched) == 2

    trace = runner.trace
    # Beam serves the very first batch before it looks at the news.
    assert refreshes(trace) == [("Refreshed a", "v1"), ("Refreshed c", "c2")]
    served = {count.model: (count.loads, count.keys) for count in trace.per_model()}
    assert served == {
        "Refreshed a": (2, {"a": 3, "b": 1}),
        "Refreshed c": (2, {"c": 3}),
        "Refreshed a b": (1, {"b": 2}),
    }
    for residence in trace.residences:
        assert residence.uses
    released = [r for r in trace.residences if r.free_ns is not None]
    assert [(r.model, r.generation, r.evict_ns) for r in released] == [
        ("Refreshed a", 1, None),
        ("Refreshed c", 1, None),
    ]


def test_pictures_mark_a_refresh_and_are_silent_without_one():
    elements = [(second, [second]) for second in (0, 1)]
    traces = []
    for news in ([V1, V2], [V1, V1]):
        runner = WatchRunner()
        run(runner, Refreshed("first"), elements, news)
        traces.append(runner.trace)
    told = [
        [text.get_text() for text in trace.timeline().figure.legends[0].get_texts()]
        for trace in traces
    ]
    assert [("refreshed" in words) for words in told] == [True, False]
    drawn = [
        sum(len(line.get_xdata()) for line in _diamonds(trace.timeline().figure))
        for trace in traces
    ]
    assert drawn == [1, 0]
    assert _live(traces[0]) != _live(traces[0], without="refresh")


def _diamonds(figure):
    return [line for line in figure.axes[0].get_lines() if line.get_marker() == "D"]


def _live(trace, without=None):
    picture = LivePicture("Score")
    picture.add(event for event in trace.events if event.event != without)
    return picture.image().tobytes()
