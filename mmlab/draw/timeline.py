"""A run becomes a picture: lanes of models, models resident against the limit, memory."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mmlab import fonts
from mmlab._arguments import short
from mmlab._text import columns, head, named, plural
from mmlab.draw import theme
from mmlab.draw.picture import DPI, Picture
from mmlab.events import UNKNOWN, Process, printable
from mmlab.reports.shortage import OutOfMemory, megabytes, out_of_memory
from mmlab.reports.summary import Summary, count_per_model, summarize
from mmlab.state import NS, Residence, State, steps_of_count

WIDTH_INCHES = 9.5
TEXT_INCHES = WIDTH_INCHES - 0.25
MOST_LANES = 40
LANE_INCHES = 0.36
BAR = 0.62
"""Height of a resident model, as a share of its lane."""
LABEL_POINTS = 9.5
SMALL_POINTS = 8
MOST_MARKS = 60
"""Evictions in one lane that are still drawn one by one with a mark."""
REFRESHED = {
    "color": theme.PAPER,
    "markeredgecolor": theme.INK,
    "markersize": 5.5,
    "linestyle": "none",
}


def draw_timeline(
    state: State, *, title: str | None = None, models: Iterable[str] | None = None
) -> Picture:
    """Draw what happened to every model of a run.

    Above, one lane per process and model: loading (hatched), resident (pale), in use (full), the
    decision to evict (a triangle), and from there to the moment its memory was freed (a dotted
    outline that ends in a circle); a diamond marks a refresh, when a model is to come from another
    path from then on. In the middle, the number of models resident, those that are loading hatched
    on top of them, against the hint and the effective limit. Below, the resident set size
    and the models' own bytes. Seconds count from the submission of the pipeline. A run that was out
    of memory ends with a mark at the model that did not fit and at what the allocator was asked
    for, and says what was held and what to change.

    Args:
      state: of a run, finished or not.
      title: replaces the step's label in the header.
      models: names of the models that have lanes, in this order; all others share one lane. Without
        them the 40 busiest have lanes: those with the most loads and batches.

    Raises:
      ValueError: there is no such model in this run.
    """
    names = None if models is None else _names(state, models)
    with theme.style():
        return Picture(_drawn(state, title, names), _outline(state, title))


def _names(state: State, models: Iterable[str]) -> list[str]:
    if isinstance(models, str):
        raise TypeError(f"models must be a list of names, got {short(models)}: give [{models!r}]")
    names = list(models)
    known = list(dict.fromkeys(count.model for count in count_per_model(state)))
    for name in names:
        if name not in known:
            there = short(", ".join(known), 300)
            raise ValueError(f"models names {short(name)}, which this run does not have: {there}")
    return names


def _drawn(state: State, title: str | None, models: Sequence[str] | None) -> Figure:
    shown = busiest(lanes_of(state), models)
    unfit = out_of_memory(state)
    figure, (top, middle, bottom) = _figure(shown, head_lines=bool(unfit))
    x = Seconds(state.start_ns, max(state.end_ns, state.start_ns + 1), figure)
    draw_lanes(top, shown, x)
    _draw_residency(middle, state, x)
    _draw_memory(bottom, state, x)
    if unfit is not None:
        draw_end(top, shown, unfit, x)
        _draw_asked(bottom, state, unfit, x)
        for axes in (top, middle, bottom):
            axes.axvline(x(unfit.at_ns), color=theme.ALERT, linewidth=1.2, zorder=2)
    _draw_header(figure, state, title, unfit)
    refreshes, late = bool(state.of_kind("refresh")), leaves_late(state, x)
    draw_legend(figure, refreshes=refreshes, late=late)
    return figure


# What is drawn


@dataclass(frozen=True)
class Lane:
    """The loads of one model in one process, and how they are drawn."""

    step: str
    model: str
    label: str
    colour: str
    residences: Sequence[Residence]
    refreshes: Sequence[int] = ()
    """When, in nanoseconds, it was given another path."""

    @property
    def work(self) -> int:
        """How busy it is: loads and batches."""
        return len(self.residences) + sum(len(r.uses) for r in self.residences)

    @property
    def inches(self) -> float:
        """How wide its label is."""
        first, *others = self.label.split("\n")
        bold = bool(self.residences)
        widths = [theme.text_inches(first, LABEL_POINTS, bold=bold)]
        return max(widths + [theme.text_inches(line, SMALL_POINTS, bold=bold) for line in others])


def busiest(lanes: Sequence[Lane], models: Sequence[str] | None = None) -> list[Lane]:
    """The lanes that are drawn: at most `MOST_LANES`, and one for all others together.

    Args:
      models: names of the models to choose from, in the order in which they are drawn.
    """
    chosen = list(lanes)
    if models is not None:
        order = {name: place for place, name in enumerate(models)}
        chosen = sorted((x for x in lanes if x.model in order), key=lambda x: order[x.model])
    if len(chosen) > MOST_LANES:
        drawn = {id(lane) for lane in sorted(chosen, key=lambda lane: -lane.work)[:MOST_LANES]}
        chosen = [lane for lane in chosen if id(lane) in drawn]
    kept = {id(lane) for lane in chosen}
    others = [lane for lane in lanes if id(lane) not in kept]
    return [*chosen, _together(others)] if others else chosen


def _together(lanes: Sequence[Lane]) -> Lane:
    residences = [r for lane in lanes for r in lane.residences]
    loads = sum(r.load_end_ns is not None for r in residences)
    evictions = sum(r.evict_ns is not None for r in residences)
    label = (
        f"{plural(len(lanes), 'other')}\n{plural(loads, 'load')}, {plural(evictions, 'eviction')}"
    )
    refreshes = [t_ns for lane in lanes for t_ns in lane.refreshes]
    return Lane("", "", label, theme.OTHERS, residences, refreshes)


def lanes_of(state: State) -> list[Lane]:
    """One lane per process and model, in the order of the mapping; idle models have one too."""
    groups: dict[tuple[Process | None, str, str], list[Residence]] = {}
    processes = list(dict.fromkeys(r.process for r in state.residences)) or [None]
    for process in processes:
        for model in state.models:
            groups[process, model.step, model.model] = []
    for r in state.residences:
        groups.setdefault((r.process, r.step, r.model), []).append(r)
    refreshes: dict[tuple[Process, str, str], list[int]] = defaultdict(list)
    for event in state.of_kind("refresh"):
        refreshes[event.process, event.step, event.model].append(event.t_ns)
    colours = theme.model_palette.colours(model for _, _, model in groups)
    several_steps = len({step for _, step, _ in groups}) > 1
    name = process_names([process for process in processes if process is not None])
    lanes = []
    for (process, step, model), residences in groups.items():
        if not residences and len(processes) > 1:
            continue
        parts = [name[process]] if len(processes) > 1 else []
        parts += [shortened(named(step))] if several_steps and step != model else []
        label = " · ".join([*parts, shortened(named(model))])
        refreshed = refreshes[process, step, model]
        lanes.append(Lane(step, model, label, colours[model], residences, refreshed))
    return lanes


def process_names(processes: Sequence[Process]) -> dict[Process, str]:
    """What pictures call the processes: numbered, and after their machine where there are several.

    >>> list(process_names([Process("a", 7), Process("a", 9)]).values())
    ['worker 1', 'worker 2']
    >>> list(process_names([Process("a", 7), Process("b", 7), Process("b", 9)]).values())
    ['a 1', 'b 1', 'b 2']
    """
    hosts = list(dict.fromkeys(process.host for process in processes))
    host_name = {host: shortened(host, 18) for host in hosts} if len(hosts) > 1 else {}
    numbers: Counter[str] = Counter()
    names = {}
    for process in processes:
        numbers[process.host] += 1
        names[process] = f"{host_name.get(process.host, 'worker')} {numbers[process.host]}"
    return names


def shortened(name: str, most: int = 24) -> str:
    """A name that fits into `most` columns: without its middle, and with readable escapes.

    >>> shortened("a model with a long name", 16), shortened("T-🦖")
    ('a model…ong name', 'T-<U+1F996>')
    """
    name = fonts.drawable(name)
    if columns(name) <= most:
        return name
    return f"{head(name, most - 9)}…{head(name[::-1], 8)[::-1]}"


def fitting(words: str, inches: float, points: float, *, bold: bool = False) -> str:
    """A line that fits: without its middle where it is too long, and with readable escapes."""
    most = min(columns(fonts.drawable(words)), 400)
    while most > 12 and theme.text_inches(shortened(words, most), points, bold=bold) > inches:
        most = most * 19 // 20
    return shortened(words, most)


class Seconds:
    """Turns nanoseconds into seconds of the picture, and knows how wide one of its pixels is."""

    def __init__(self, start_ns: int, end_ns: int, figure: Figure):
        self.start_ns, self.end_ns = start_ns, end_ns
        self.end = (end_ns - start_ns) * NS
        self.pixel = self.end / (figure.get_size_inches()[0] * DPI * 0.8)

    def until(self, end_ns: int) -> Seconds:
        """The same axis for a run that ends earlier: what is still open ends there."""
        shorter = copy.copy(self)
        shorter.end_ns = end_ns
        return shorter

    def __call__(self, t_ns: int) -> float:
        return (t_ns - self.start_ns) * NS

    def bars(self, intervals: Iterable[tuple[int, int]], least_pixels: float) -> np.ndarray:
        """Rows of (begin, width) in seconds; what one pixel cannot tell apart is one bar."""
        seconds = np.array([(self(begin), self(end)) for begin, end in intervals]).reshape(-1, 2)
        return merge_close(seconds, self.pixel, least_pixels * self.pixel)


def merge_close(intervals: np.ndarray, gap: float, least: float) -> np.ndarray:
    """Merge intervals that are closer than `gap`, and widen those narrower than `least`.

    Args:
      intervals: shape (n, 2), begin and end.

    Returns:
      Shape (m, 2), begin and width, m ≤ n.

    >>> merge_close(np.array([[0.0, 1.0], [1.05, 2.0], [5.0, 5.0]]), 0.1, 0.5).tolist()
    [[0.0, 2.0], [5.0, 0.5]]
    """
    if not len(intervals):
        return intervals
    intervals = intervals[np.argsort(intervals[:, 0], kind="stable")]
    begin, reach = intervals[:, 0], np.maximum.accumulate(intervals[:, 1])
    first = np.concatenate(([True], begin[1:] - reach[:-1] > gap))
    last = np.concatenate((first[1:], [True]))
    width = np.maximum(reach[last] - begin[first], least)
    return np.column_stack((begin[first], width))


# Lanes


def draw_lanes(axes: Axes, lanes: Sequence[Lane], x: Seconds) -> None:
    """Draw one lane below the other."""
    for y, lane in enumerate(lanes):
        _draw_lane(axes, y, lane, x)
    axes.set_yticks(range(len(lanes)), [lane.label for lane in lanes])
    for tick, lane in zip(axes.get_yticklabels(), lanes, strict=True):
        tick.set_fontsize(SMALL_POINTS if "\n" in lane.label else LABEL_POINTS)
    for tick, lane in zip(axes.get_yticklabels(), lanes, strict=True):
        tick.set_fontweight("bold" if lane.residences else "normal")
        tick.set_color(theme.INK if lane.residences else theme.MUTED)
    axes.set_ylim(max(len(lanes), 1) - 0.45, -0.75)
    if not lanes:
        note = "no RunInference step was watched"
        axes.text(0.5, 0.5, note, transform=axes.transAxes, ha="center", color=theme.MUTED)


def _draw_lane(axes: Axes, y: int, lane: Lane, x: Seconds) -> None:
    pale, full, deep = theme.tint(lane.colour, 0.3), lane.colour, theme.shade(lane.colour, 0.55)
    loading, resident, used, leaving, failed = [], [], [], [], []
    for r in lane.residences:
        loaded = _loaded_ns(r, x.end_ns)
        loading.append((r.load_begin_ns, loaded))
        used += [(use.begin_ns, use.end_ns or x.end_ns) for use in r.uses]
        if r.error is not None:
            failed.append(x(loaded))
        if r.load_end_ns is not None:
            resident.append((r.load_end_ns, r.evict_ns or r.last_ns))
            if r.evict_ns is not None:
                leaving.append((r.evict_ns, r.last_ns))

    def bars(intervals: list, height: float, least: float, **style: Any) -> None:
        rows = x.bars(intervals, least)
        axes.broken_barh([tuple(row) for row in rows], (y - height / 2, height), **style)

    bars(resident, BAR, 1, facecolors=pale, edgecolors=full, linewidth=0.6)
    bars(loading, BAR, 2, facecolors=theme.PAPER, edgecolors=full, hatch="//////", linewidth=0.6)
    bars(used, BAR + 0.1, 3, facecolors=deep, edgecolors="none")
    bars(leaving, BAR * 0.7, 0, facecolors="none", edgecolors=theme.INK, linestyle=":", linewidth=1)
    _draw_marks(axes, y, lane.residences, x)
    refreshed = [x(t_ns) for t_ns in lane.refreshes]
    axes.plot(refreshed, [y] * len(refreshed), "D", **REFRESHED, zorder=5)
    axes.plot(failed, [y] * len(failed), "X", color=theme.INK, markersize=8, zorder=5)


def _loaded_ns(residence: Residence, end_ns: int) -> int:
    """When a load ended: well, with an error, or with the run."""
    if residence.load_end_ns is not None:
        return residence.load_end_ns
    return residence.free_ns or end_ns


def leaves_late(state: State, x: Seconds) -> bool:
    """Whether a model is evicted and not freed for so long that the picture can show it."""
    return any(
        x(r.last_ns) - x(r.evict_ns) > 3 * x.pixel
        for r in state.residences
        if r.evict_ns is not None
    )


def _draw_marks(axes: Axes, y: int, residences: Sequence[Residence], x: Seconds) -> None:
    evicted = [x(r.evict_ns) for r in residences if r.evict_ns is not None]
    freed = [x(r.free_ns) for r in residences if r.free_ns is not None and r.error is None]
    few = len(evicted) <= MOST_MARKS
    above, below = y - BAR / 2 - 0.12, y + BAR / 2 + 0.04
    if few:
        style = {"color": theme.INK, "markersize": 4.5, "clip_on": False}
        axes.plot(evicted, [above] * len(evicted), "v", **style, zorder=4)
    else:
        axes.vlines(evicted, above - 0.08, above + 0.08, color=theme.INK, linewidth=0.5)
    axes.plot(
        freed,
        [below] * len(freed),
        "o" if few else "|",
        markersize=3.8 if few else 3,
        markerfacecolor=theme.PAPER,
        markeredgecolor=theme.INK,
        markeredgewidth=0.9 if few else 0.4,
        linestyle="none",
        zorder=4,
        clip_on=False,  # most models are freed at the very end
    )


def draw_end(axes: Axes, lanes: Sequence[Lane], unfit: OutOfMemory, x: Seconds) -> None:
    """Mark the moment at which memory ran out, and the model that did not fit."""
    at = x(unfit.at_ns)
    for y, lane in enumerate(lanes):
        if (lane.step, lane.model) == (unfit.step, unfit.model):
            axes.plot([at], [y], "X", color=theme.ALERT, markersize=10, zorder=6, clip_on=False)
            axes.annotate(
                "did not fit" if unfit.loading else "out of memory",
                (at, y),
                xytext=(9, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                fontweight="bold",
                color=theme.ALERT,
                annotation_clip=False,
            )


# Models resident


def _draw_residency(axes: Axes, state: State, x: Seconds) -> None:
    groups: dict[Process, list[Residence]] = defaultdict(list)
    for residence in state.residences:
        groups[residence.process].append(residence)
    most = 0
    for group in groups.values():
        if len(groups) == 1:
            most = _fill_residency(axes, group, x)
        else:
            times, counts = steps_of_count(group)
            most = max([most, *counts])
            seconds, values = (
                [0.0, *map(x, times), x.end],
                [0, *counts, counts[-1] if counts else 0],
            )
            axes.step(seconds, values, where="post", color=theme.INK, linewidth=1.1)
    most = max(most, _draw_limits(axes, state, x))
    axes.set_ylim(0, most + 0.9)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4, min_n_ticks=1))
    axes.set_ylabel("models\nresident")


def _fill_residency(axes: Axes, group: Sequence[Residence], x: Seconds) -> int:
    """The models resident, and on top of them those that are loading. Returns the most of both.

    A model that is being loaded has its place already: Beam evicts before it loads.
    """
    changes = []
    for r in group:
        loaded = x(_loaded_ns(r, x.end_ns))
        changes.append((x(r.load_begin_ns), 0, 1))
        if r.load_end_ns is None:
            changes.append((loaded, 0, -1))
        else:
            changes += [(loaded, 1, 0), (x(r.last_ns), -1, -1)]
    rows = np.array(changes)
    times, moment = np.unique(rows[:, 0], return_inverse=True)
    change = np.zeros((len(times), 2))
    np.add.at(change, moment.ravel(), rows[:, 1:])
    resident, both = np.cumsum(change, axis=0).T
    seconds = [0.0, *times, x.end]
    for counts, style in (
        (both, {"facecolor": theme.PAPER, "edgecolor": theme.MUTED, "hatch": "//////"}),
        (resident, {"facecolor": theme.FILL, "edgecolor": theme.FILL}),
    ):
        axes.fill_between(
            seconds, [0, *counts, counts[-1]], step="post", **style, linewidth=0.5
        )  # fmt: skip
    return int(both.max())


def _draw_limits(axes: Axes, state: State, x: Seconds) -> int:
    """The hint as a dashed line and the effective limit as a full one. Returns the highest."""
    hints = {model.step: model.hint for model in state.models if model.hint is not None}
    marks: dict[float, str] = {}
    for step, hint in hints.items():
        limits = state.limits(step)
        ruled = limits[-1].limit if limits and limits[-1].limit else None
        _draw_limit_line(axes, [event for event in limits if event.limit], x)
        if ruled != hint:
            axes.axhline(hint, color=theme.MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
            marks[hint] = f"hint {hint}"
        if ruled is not None:
            marks[ruled] = f"hint = limit {ruled}" if ruled == hint else f"limit {ruled}"
    for value, text in marks.items():
        axes.annotate(
            text,
            (1, value),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    return max(marks, default=0)


def _draw_limit_line(axes: Axes, limits: Sequence[Any], x: Seconds) -> None:
    if limits:
        seconds = [*(x(event.t_ns) for event in limits), x.end]
        values = [*(event.limit for event in limits), limits[-1].limit]
        axes.step(seconds, values, where="post", color=theme.ALERT, linewidth=1.8, zorder=3)


# Memory


def _draw_memory(axes: Axes, state: State, x: Seconds) -> None:
    limit = memory_limit(state)
    highest = max(highest_rss(state), limit[1] if limit else 0)
    unit, name = (1e9, "GB") if highest >= 2e9 else (1e6, "MB")
    wording = "{:,.2f} GB" if highest >= 2e9 else "{:,.0f} MB"
    draw_memory_curves(axes, state, x, unit)
    lines = _label_memory(axes, summarize(state), partial(_size, wording=wording, unit=unit))
    axes.set_ylim(0, highest / unit * ((1.36 if limit else 1.22) + 0.2 * (lines - 1)) or 1)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.set_ylabel(f"memory\n{name}")
    axes.set_xlabel("seconds since the pipeline was submitted")
    axes.set_xlim(0, x.end)
    if limit is not None:
        start, more = _of_limit(limit)
        text = f"{start + more:,} MB =\n{start:,} at the start\n+ {more:,}\nfor the run"
        axes.annotate(text, (1, limit[1] / unit), xycoords=("axes fraction", "data"),
                      xytext=(5, 0), textcoords="offset points", va="center", fontsize=8.5,
                      color=theme.ALERT)  # fmt: skip


def limit_in_words(limit: tuple[int, int]) -> str:
    """What the limit of a run is made of, from `memory_limit`.

    >>> limit_in_words((340_000_000, 743_000_000))
    'limit: 743 MB = 403 at the start + 340 for the run'
    """
    start, more = _of_limit(limit)
    return f"limit: {start + more:,} MB = {start:,} at the start + {more:,} for the run"


def _of_limit(limit: tuple[int, int]) -> tuple[int, int]:
    """Megabytes at the start, and those that the run may take beside them."""
    more, ceiling = limit
    return round((ceiling - more) / 1e6), round(more / 1e6)


def _draw_asked(axes: Axes, state: State, unfit: OutOfMemory, x: Seconds) -> None:
    """What the allocator was asked for and did not give, on top of what was resident."""
    samples = [e for e in state.samples if e.rss is not None]
    if not samples or unfit.asked_bytes is None:
        return
    held = min(samples, key=lambda e: abs(e.t_ns - unfit.at_ns)).rss
    at, unit = x(unfit.at_ns), 1e9 if axes.get_ylabel().endswith("GB") else 1e6
    axes.plot([at, at], [held / unit, (held + unfit.asked_bytes) / unit], color=theme.ALERT,
              linewidth=5, solid_capstyle="butt", zorder=4)  # fmt: skip
    left = at > x.end / 2
    axes.annotate(f"asked for {megabytes(unfit.asked_bytes)} more", (at, 0.43),
                  xycoords=("data", "axes fraction"), xytext=(-6 if left else 6, 0),
                  textcoords="offset points", ha="right" if left else "left", va="center",
                  fontsize=9, color=theme.ALERT)  # fmt: skip


def _size(value: int, wording: str, unit: float) -> str:
    """Bytes in words; models may be far smaller than the process that holds them."""
    return wording.format(value / unit) if value >= 1e6 else f"{value / 1e3:,.0f} kB"


def draw_memory_curves(axes: Axes, state: State, x: Seconds, unit: float) -> None:
    """Draw resident set size (line), GPU memory (dashed), models' own bytes (area), and the limit.

    Args:
      unit: bytes per unit of the axis.
    """
    samples: dict[Process, list[tuple[float, int]]] = defaultdict(list)
    devices: dict[Process, list[tuple[float, int]]] = defaultdict(list)
    for event in state.samples:
        if event.rss is not None and event.t_ns <= state.end_ns:
            samples[event.process].append((x(event.t_ns), event.rss))
        if event.device_bytes is not None:
            devices[event.process].append((x(event.t_ns), event.device_bytes))
    for rows in samples.values():
        axes.plot(*_columns(rows, unit), color=theme.INK, linewidth=1.4)
    for rows in devices.values():
        axes.plot(*_columns(rows, unit), color=theme.INK, linewidth=1.4, linestyle="--")
    _draw_model_bytes(axes, state, x, unit)
    limit = memory_limit(state)
    if limit is not None:
        axes.axhline(limit[1] / unit, color=theme.ALERT, linewidth=1.2, linestyle=(0, (4, 3)))


def highest_rss(state: State) -> int:
    """The highest resident set size that was sampled during the run, in bytes."""
    during = (e.rss for e in state.samples if e.rss is not None and e.t_ns <= state.end_ns)
    return max(during, default=0)


def memory_limit(state: State) -> tuple[int, int] | None:
    """The limit of the run, and the resident set size that it allowed, in bytes.

    The limit counts from what the process held when the run began, which is its first sample.
    """
    limits = state.of_kind("memory_limit")
    first = next((event.rss for event in state.samples if event.rss is not None), None)
    if not limits or first is None:
        return None
    return limits[-1].bytes, first + limits[-1].bytes


def _columns(rows: list[tuple[float, int]], unit: float) -> tuple[list[float], list[float]]:
    rows = sorted(rows)
    return [seconds for seconds, _ in rows], [value / unit for _, value in rows]


def _draw_model_bytes(axes: Axes, state: State, x: Seconds, unit: float) -> None:
    change: dict[int, int] = defaultdict(int)
    for r in state.residences:
        if r.load_end_ns is not None and r.bytes is not UNKNOWN:
            change[r.load_end_ns] += r.bytes
            change[r.last_ns] -= r.bytes
    if not change:
        return
    times = sorted(change)
    held = np.cumsum([change[t_ns] for t_ns in times])
    # The models that were never released leave with the last moment: not a release.
    seconds = [0.0, *map(x, times)]
    values = [0.0, *(held / unit)]
    axes.fill_between(seconds, values, step="post", color=theme.FILL, linewidth=0)


def _label_memory(axes: Axes, s: Summary, wording: Callable[[int], str]) -> int:
    """Say what the curves are, inside the frame. Returns how many lines that takes."""
    parts = []
    if s.peak_rss_bytes:
        parts.append(f"RSS (line): peak {wording(s.peak_rss_bytes)}")
    if s.rss_bytes:
        parts.append(f"{wording(s.rss_bytes)} at the end")
    if s.device_bytes:
        parts.append(f"GPU (dashed): at most {wording(s.device_bytes)}")
    if s.model_bytes:
        parts.append(f"models' own bytes (grey): at most {wording(s.model_bytes)}")
    lines = in_lines(parts, " · ", axes.get_position().width * WIDTH_INCHES - 0.2, 9)
    axes.text(
        0.008,
        0.955,
        "\n".join(lines),
        transform=axes.transAxes,
        va="top",
        fontsize=9,
        color=theme.INK,
        bbox={"facecolor": theme.PAPER, "alpha": 0.85, "edgecolor": "none", "pad": 1.5},
    )
    return max(len(lines), 1)


def in_lines(parts: Sequence[str], between: str, inches: float, points: float) -> list[str]:
    """Parts joined into as few lines as fit into `inches`; a part is never cut."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}{between}{part}" if lines else part
        if lines and theme.text_inches(longer, points) <= inches:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


# Frame


def left_inches(lanes: Iterable[Lane]) -> float:
    """Room for the labels of lanes."""
    return max([0.75, *(0.2 + lane.inches for lane in lanes)])


def _figure(lanes: Sequence[Lane], *, head_lines: bool) -> tuple[Figure, Any]:
    top, middle, bottom = max(len(lanes), 1) * LANE_INCHES + 0.25, 0.85, 1.25
    head, gaps, foot = 0.98 if head_lines else 0.78, 0.3, 0.85
    height = head + top + middle + bottom + gaps + foot
    figure = Figure(figsize=(WIDTH_INCHES, height), facecolor=theme.PAPER)
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [top, middle, bottom], "hspace": 0.12}
    )
    figure.subplots_adjust(
        left=left_inches(lanes) / WIDTH_INCHES,
        right=0.885,
        top=1 - head / height,
        bottom=foot / height,
    )
    for ax in axes:
        dress(ax)
    return figure, axes


def dress(ax: Axes) -> None:
    """Axes in the style of the house."""
    ax.tick_params(colors=theme.INK, labelsize=LABEL_POINTS, length=0)
    ax.yaxis.label.set(fontsize=9.5, color=theme.INK)
    ax.xaxis.label.set(fontsize=9.5, color=theme.INK)
    ax.grid(axis="x", color=theme.GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(theme.MUTED)


def _draw_header(
    figure: Figure, state: State, title: str | None, unfit: OutOfMemory | None
) -> None:
    height = figure.get_size_inches()[1]
    left = 0.012
    figure.text(
        left, 1 - 0.12 / height, _title(state, title), fontsize=14, fontweight="bold",
        va="top", color=theme.INK,
    )  # fmt: skip
    figure.text(left, 1 - 0.42 / height, _headline(state), fontsize=10.5, va="top", color=theme.INK)
    lines = []
    if unfit is not None:
        lines = [unfit.what, unfit.advice]
    elif state.error:
        lines = state.error.splitlines()[:1]
    for i, line in enumerate(lines):
        figure.text(left, 1 - (0.63 + 0.19 * i) / height, fitting(line, TEXT_INCHES, 9.5),
                    fontsize=9.5, va="top", color=theme.ALERT)  # fmt: skip


def _title(state: State, title: str | None) -> str:
    if title is not None:
        return fitting(title, TEXT_INCHES, 14, bold=True)
    steps = list(dict.fromkeys(model.step for model in state.models))
    return fitting(", ".join(steps), TEXT_INCHES, 14, bold=True) or "No RunInference step"


def _headline(state: State) -> str:
    s = summarize(state)
    parts = [
        f"{limits_text(s)}",
        f"{plural(s.loads, 'load')}" + (f" ({plural(s.reloads, 'reload')})" if s.reloads else ""),
        plural(s.evictions, "eviction"),
        *([plural(s.refreshes, "refresh", "refreshes")] if s.refreshes else []),
        f"{plural(s.elements, 'element')} in {plural(s.uses, 'batch', 'batches')}",
        f"{s.wall_seconds:.1f} s, {s.loading_share:.0%} of it loading",
    ]
    return "   ·   ".join(parts)


def limits_text(s: Summary) -> str:
    """The hint, and the limit where it is another."""
    if s.hint is None:
        return "no hint" if s.limit is None else f"limit {s.limit}"
    return f"hint {s.hint}" if s.limit in (None, s.hint) else f"hint {s.hint} → limit {s.limit}"


def draw_legend(
    figure: Figure, *, refreshes: bool = False, late: bool = False, ends: bool = False
) -> None:
    """Say below the figure what bars and marks mean; some of them only where they occur.

    Args:
      refreshes: there is a mark of a refresh.
      late: a model was evicted long before it was freed.
      ends: a dotted line stands where a run ends.
    """
    line = {"linestyle": "none", "color": theme.INK}
    handles = [
        Patch(facecolor=theme.PAPER, edgecolor=theme.INK, hatch="//////", label="loading"),
        Patch(facecolor=theme.FILL, edgecolor=theme.INK, label="resident"),
        Patch(facecolor=theme.INK, edgecolor=theme.INK, label="in use"),
        Line2D([], [], marker="v", markersize=6, label="evicted (dropped by Beam)", **line),
        Line2D(
            [], [], marker="o", markersize=6, markerfacecolor=theme.PAPER,
            label="freed (memory released)", **line,
        ),
    ]  # fmt: skip
    if late:
        outline = {"facecolor": "none", "edgecolor": theme.INK, "linestyle": ":"}
        handles.insert(4, Patch(**outline, label="evicted, not yet freed"))
    if refreshes:
        handles.append(Line2D([], [], marker="D", label="refreshed", **REFRESHED))
    if ends:
        handles.append(Line2D([], [], color=theme.MUTED, linestyle=":", label="the run ends"))
    many = len(handles) > 5
    figure.legend(
        handles=handles, loc="lower center", frameon=False, bbox_to_anchor=(0.5, 0.0),
        ncols=len(handles) if len(handles) < 7 else 4, fontsize=9 if many else 9.5,
        handlelength=1.6, columnspacing=1.2 if many else 1.6,
    )  # fmt: skip


def _outline(state: State, title: str | None) -> str:
    """The picture in words, without times: the same for every run that does the same."""
    s = summarize(state)
    width = max((len(count.model) for count in count_per_model(state)), default=0)
    lines = [
        f"Timeline of {_title(state, title)}: {limits_text(s)}, {plural(s.loads, 'load')}, "
        f"{plural(s.evictions, 'eviction')}, at most {s.most_resident} resident"
    ]
    for count in count_per_model(state):
        lines.append(
            f"  {printable(count.model):<{width}}  {plural(count.loads, 'load')}, "
            f"{plural(count.evictions, 'eviction')}, "
            + (f"{plural(count.refreshes, 'refresh', 'refreshes')}, " if count.refreshes else "")
            + f"{plural(count.uses, 'batch', 'batches')}, {plural(count.elements, 'element')}"
        )
    if state.error:
        lines.append(f"  ended with {printable(state.error.split(':')[0])}")
    if (unfit := out_of_memory(state)) is not None:
        lines += [f"  {printable(unfit.what)}", f"  {unfit.advice}"]
    return "\n".join(lines)
