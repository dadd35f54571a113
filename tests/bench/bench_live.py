"""What the live picture costs: one frame, however much has happened, and a pipeline beside it.

Prints medians and ratios. Run it with `make bench`.
"""

from __future__ import annotations

import io
import logging
import random
import statistics
import time
from collections.abc import Iterator

logging.disable(logging.WARNING)

import apache_beam as beam  # noqa: E402
from apache_beam.ml.inference.base import RunInference  # noqa: E402

from mmlab import WatchRunner  # noqa: E402
from mmlab.draw.live import LivePicture  # noqa: E402
from mmlab.draw.paint import png  # noqa: E402
from mmlab.draw.timeline import draw_timeline  # noqa: E402
from mmlab.trace import Trace  # noqa: E402
from mmlab.watching import run as watching_run  # noqa: E402
from tests.events import Event  # noqa: E402
from tests.handlers import NamedModels, keyed  # noqa: E402

MODELS = 8
FRAMES = 15
ROUNDS = 15
BATCHES = 600


def thrashing(intervals: int) -> Iterator[Event]:
    """Loads, uses and evictions one after another: three intervals for each load."""
    names = [{"step": "Classify", "model": f"CONFIG_{i + 1}", "hint": 1} for i in range(MODELS)]
    yield Event("bench", 0, "host", 1, 1, "run", info={"models": names})
    for i in range(max(intervals // 3, 1)):
        at, model, generation = i * 10_000_000, f"CONFIG_{i % MODELS + 1}", i // MODELS + 1

        def event(kind: str, ms: int, **fields: int) -> Event:
            return Event(
                "bench", at + ms * 1_000_000, "host", 1, 1, kind, "Classify", model, generation,  # noqa: B023
                **fields,
            )  # fmt: skip

        yield event("load_begin", 0, rss=500_000_000 + i)
        yield event("load_end", 3, bytes=64_000_000)
        yield event("use_begin", 4, n=1)
        yield event("use_end", 6)
        yield event("evict", 8)
        yield event("free", 9)


def seconds(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def frames() -> None:
    print(f"one frame, {MODELS} lanes, median of {FRAMES} (new figure: of 1 to 3)")
    for intervals in (100, 10_000, 100_000, 1_000_000):
        picture, events = LivePicture("Classify"), list(thrashing(intervals))
        picture.add(events)
        png(picture.image())
        times = []
        for i in range(FRAMES):
            at = events[-1].t_ns + i * 10_000_000
            picture.add([Event("bench", at, "host", 1, 1, "limit", "Classify", limit=1)])
            times.append(seconds(lambda: png(picture.image())))  # noqa: B023
        ours = statistics.median(times) * 1e3
        line = f"  {intervals:>9,} intervals  {ours:6.1f} ms"
        trace = Trace(events)
        _ = trace.residences
        draw = [
            seconds(lambda: draw_timeline(trace).figure.savefig(io.BytesIO(), dpi=100))  # noqa: B023
            for _ in range(1 if intervals > 10_000 else 3)
        ]
        figure = statistics.median(draw) * 1e3
        print(f"{line}   new figure {figure:9,.1f} ms   × {figure / ours:,.0f}")


class Busy(NamedModels):
    """Keeps a core busy for some milliseconds a batch."""

    times: list[float] = []

    def run_inference(self, batch, model, inference_args=None):
        Busy.times.append(time.perf_counter())
        sum(range(150_000))
        return super().run_inference(batch, model, inference_args)


class Notebook:
    """What a notebook does with a frame, without a notebook."""

    frames = 0

    def show(self, picture: LivePicture) -> None:
        png(picture.image())
        Notebook.frames += 1

    def finish(self, trace: Trace) -> None:
        pass


def run(watch: bool) -> float:
    """Seconds from the first batch to the last: Beam rounds those of a whole run to a fifth."""
    Busy.times.clear()
    with beam.Pipeline(WatchRunner("FnApiRunner", live=watch)) as pipeline:
        _ = (
            pipeline
            | beam.Create([(f"K{i % 4}", i) for i in range(BATCHES)], reshuffle=False)
            | RunInference(keyed([["K0"], ["K1"], ["K2"], ["K3"]], handler=Busy))
        )
    return Busy.times[-1] - Busy.times[0]


def slowdown() -> None:
    """Runs take turns at random; of those without a picture there are two, to see what is noise."""
    watching_run.screen_for = lambda live, text: Notebook() if live else None
    ways = {"without a picture": False, "the same again": False, "with the picture": True}
    for watch in (False, True):  # fonts are read once
        run(watch)
    chance, rounds = random.Random(1), []
    Notebook.frames = 0
    for _ in range(ROUNDS):
        order = chance.sample(list(ways), len(ways))
        rounds.append({way: run(ways[way]) for way in order})
    drawn = Notebook.frames / sum(took["with the picture"] for took in rounds)
    print(f"a pipeline that keeps a core busy; {drawn:.1f} frames a second; {ROUNDS} rounds")
    for way in ways:
        ratios = [took[way] / took["without a picture"] for took in rounds]
        print(
            f"  {way:<18} {statistics.median(took[way] for took in rounds):.2f} s   "
            f"× {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )


if __name__ == "__main__":
    frames()
    slowdown()
