"""Figures of memory: of a process, or of a machine, whose processes live at the same time."""

from __future__ import annotations

import pytest

import mmlab
from mmlab.draw.live import LivePicture
from mmlab.trace import Trace
from tests.events import Event
from tests.figures import texts

MB, SECOND = 10**6, 10**9
INFO = {"models": [{"step": "s", "model": m, "hint": 1, "keys": [m.upper()]} for m in "ab"]}


def event(kind, seconds, pid, *, host="one", model=None, **fields):
    step = None if kind == "memory" else "s"
    return Event("run", int(seconds * SECOND), host, pid, pid, kind, step, model, **fields)


def samples(pid, rss, times, host="one"):
    return [event("memory", t, pid, host=host, rss=rss * MB) for t in times]


def work(pid, seconds, names, host="one", size=4):
    """Each model is loaded and used; none is released."""
    events = []
    for i, name in enumerate(names):
        t, known = seconds + i / 10, {"host": host, "model": name, "generation": 1}
        events += [
            event("load_begin", t, pid, **known),
            event("load_end", t + 0.01, pid, bytes=size * MB, **known),
            event("use_begin", t + 0.02, pid, n=1, keys={name.upper(): 1}, **known),
            event("use_end", t + 0.03, pid, **known),
            event("use_begin", t + 0.04, pid, n=1, keys={name.upper(): 1}, **known),
            event("use_end", t + 0.05, pid, **known),
        ]
    return events


def run(*events):
    begin = Event("run", 0, "one", 9, 9, "run", info=INFO)
    end = Event("run", 10 * SECOND, "one", 9, 9, "end", info={"state": "DONE"})
    return [begin, *sorted((e for part in events for e in part), key=lambda e: e.t_ns), end]


TOGETHER = run(samples(1, 578, [1, 9]), samples(2, 558, [2, 8]), work(1, 3, "ab"))
ONE_AFTER_ANOTHER = run(samples(1, 578, [1, 4]), samples(2, 558, [5, 8]), work(1, 3, "ab"))
TWO_MACHINES = run(
    samples(1, 578, [1, 9]), samples(1, 558, [1, 9], "two"), work(1, 3, "ab"),
    work(1, 3, "a", "two"),
)  # fmt: skip


@pytest.mark.parametrize(
    "events, machine, processes",
    [(TOGETHER, 1136, 2), (ONE_AFTER_ANOTHER, 578, 1), (TWO_MACHINES, 578, 1)],
)
def test_a_machine_sums_the_processes_that_live_at_the_same_time(events, machine, processes):
    summary = Trace(events).summary()
    assert (summary.peak_rss_bytes, summary.machine_peak_rss_bytes) == (578 * MB, machine * MB)
    assert summary.processes == processes


def test_the_peak_of_a_machine_is_at_least_that_of_a_process():
    """The system remembers a peak that no sample shows."""
    peaks = [
        event("memory", 1, 1, rss=300 * MB, peak_rss=300 * MB),
        event("memory", 9, 1, rss=300 * MB, peak_rss=900 * MB),
    ]
    summary = Trace(run(peaks, samples(2, 100, [1, 9]), work(1, 3, "ab"))).summary()
    assert summary.peak_rss_bytes == summary.machine_peak_rss_bytes == 900 * MB


def test_each_figure_of_a_summary_says_whose_it_is():
    said = str(Trace(TOGETHER).summary())
    assert "578 MB (one process)" in said
    assert "1,136 MB (one machine, 2 processes at once)" in said
    assert "process" not in str(Trace(run(samples(1, 578, [1, 9]), work(1, 3, "ab"))).summary())


def test_advice_for_a_machine_counts_all_its_processes():
    """Two workers of 578 and 558 MB, of which one held models, fitted into 0.9 GB."""
    prediction = mmlab.predict(Trace(TOGETHER))
    advice = prediction.advise(memory=900 * MB)
    assert advice.hint is None and advice.fits is None
    beside, models, margin = advice.inputs
    assert (beside.bytes, models.bytes) == ((1136 - 8) * MB, 4 * MB)
    assert advice.memory_bytes == beside.bytes + models.bytes + margin.bytes
    assert beside.source == "measured in the trace: peak RSS less models"
    assert mmlab.predict(Trace(TWO_MACHINES)).advise(memory=2000 * MB).hint is not None


def test_given_or_alone_a_buffer_is_of_each_process():
    assert mmlab.predict(Trace(TOGETHER)).advise(buffer=100 * MB).memory_bytes == 104 * MB
    alone = mmlab.predict(Trace(ONE_AFTER_ANOTHER)).advise(memory=900 * MB)
    assert alone.hint == 1
    assert [each.bytes for each in alone.inputs[:2]] == [(578 - 8) * MB, 4 * MB]


def test_more_processes_need_more_than_were_measured():
    measured = mmlab.predict(Trace(TOGETHER)).measured
    one, two = measured.buffer_on_machine(1), measured.buffer_on_machine(2)
    assert (one, two - one) == ((1136 - 8) * MB, measured.buffer_bytes)


@pytest.mark.parametrize("hosts, most", [(("one", "one"), 1200), (("one", "two"), 800)])
def test_the_area_of_models_is_of_a_machine_and_its_caption_says_so(hosts, most):
    """The area summed all processes, and the caption had the most of one."""
    events = run(
        samples(1, 900, [1, 9], hosts[0]), samples(2, 700, [1, 9], hosts[1]),
        work(1, 3, "ab", hosts[0], size=400), work(2, 4, "a", hosts[1], size=400),
    )  # fmt: skip
    figure = Trace(events).timeline().figure
    words = texts(figure)
    caption = f"models' own bytes of a machine (grey): at most {most:,} MB"
    assert caption in words and "RSS of a process (line): peak 900 MB" in words
    picture = LivePicture("Two")
    picture.add(events)
    picture.image()
    layout = picture._background.layout
    assert caption in " · ".join(picture._memory_words(layout.left_inches, layout.unit))
    memory = figure.axes[2]
    tops = [path.vertices[:, 1].max() for c in memory.collections for path in c.get_paths()]
    assert max(tops) == pytest.approx(most)
    assert memory.get_ylim()[1] > most
