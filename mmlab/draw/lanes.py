"""Lanes of a timeline: their choice, their labels, and the drawing of their bars."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mmlab import fonts
from mmlab._text import columns, named, plural, without_middle
from mmlab.draw import theme
from mmlab.draw.picture import DPI, WIDTH_INCHES
from mmlab.events import DeadLetter, Process, Refreshes, TracedModel
from mmlab.reports.shortage import OutOfMemory
from mmlab.state import NS, UNSEEN, Batches, Residence, State

MOST_LANES = 40
_BAR = 0.62
"""Height of a resident model, as a share of its lane."""
LABEL_POINTS = 9.5
SMALL_POINTS = 8
_MOST_MARKS = 60
"""Highest number of evictions in one lane that are marked one by one."""
FAILED: theme.Style = {
    "marker": "x",
    "markeredgecolor": theme.ALERT,
    "markeredgewidth": 2,
    "markersize": 6.5,
    "linestyle": "none",
    "clip_on": False,
}
TIMED_OUT: theme.Style = {
    "marker": "s",
    "color": theme.PAPER,
    "markeredgecolor": theme.ALERT,
    "markeredgewidth": 1.6,
    "markersize": 6,
    "linestyle": "none",
    "clip_on": False,
}
ALREADY: theme.Style = {
    # The marker starts at the left end of the bar, so that it does not cover the lane's label.
    "marker": [(0, -0.6), (0.9, 0), (0, 0.6), (0, -0.6)],
    "color": theme.PAPER,
    "markeredgecolor": theme.INK,
    "markersize": 8,
    "linestyle": "none",
    "clip_on": False,
}
REFRESHED: theme.Style = {
    "color": theme.PAPER,
    "markeredgecolor": theme.INK,
    "markersize": 5.5,
    "linestyle": "none",
}


LaneKey = tuple[Process | None, str, str]
"""Process that holds the model (None if no process has loaded it), step, and model name."""


@dataclass(frozen=True)
class Lane:
    """The loads and batches of one model in one process."""

    step: str
    model: str
    label: str
    colour: str
    residences: Sequence[Residence]
    batches: Sequence[Batches] = ()
    """Batches of the step for this model, even if another step of the process loaded it."""
    refreshes: Sequence[int] = ()
    """Times at which the model's path was replaced, nanoseconds."""
    timeouts: Sequence[int] = ()
    """Times at which Beam stopped waiting for a batch, nanoseconds."""
    until_ns: int | None = None
    """End of the process, nanoseconds; None if it lasted to the end of the run."""

    @property
    def failures(self) -> list[int]:
        """Times at which a batch ended with an exception, nanoseconds."""
        return [t_ns for each in self.batches for t_ns in each.end_ns[each.failed].tolist()]

    @property
    def work(self) -> int:
        """Number of loads and batches."""
        return len(self.residences) + sum(map(len, self.batches))

    def used(self, end_ns: int) -> np.ndarray:
        """Begin and end of each batch, clipped at `end_ns`: nanoseconds, shape (n, 2)."""
        if not self.batches:
            return np.zeros((0, 2), np.int64)
        ends = np.concatenate([each.end_ns for each in self.batches])
        begins = np.concatenate([each.begin_ns for each in self.batches])
        open_until = end_ns if self.until_ns is None else min(end_ns, self.until_ns)
        return np.column_stack((begins, np.where(ends == UNSEEN, open_until, ends)))


@dataclass(frozen=True)
class _Bars:
    """Intervals in which models were in one state.

    Attributes:
      loads: index of the load of each interval in the argument of `bars_of`, shape (n,).
      ns: begin and end, nanoseconds, shape (n, 2); equal for moments.
    """

    loads: np.ndarray
    ns: np.ndarray


BARS = ("loading", "resident", "leaving")
MOMENTS = ("already", "evicted", "freed", "failed")


def bars_of(residences: Iterable[Residence]) -> dict[str, _Bars]:
    """Return the intervals and moments of some loads, keyed by the names in `BARS` and `MOMENTS`.

    A model is leaving when it is evicted and not yet freed.
    """
    rows: dict[str, list[tuple[int, int, int]]] = {name: [] for name in (*BARS, *MOMENTS)}
    for place, r in enumerate(residences):
        begin, loaded = r.loading
        rows["already" if r.already else "loading"].append((place, begin, loaded))
        if r.error is not None:
            rows["failed"].append((place, loaded, loaded))
        elif r.free_ns is not None:
            rows["freed"].append((place, r.free_ns, r.free_ns))
        if r.load_end_ns is not None:
            left = r.last_ns if r.evict_ns is None else r.evict_ns
            rows["resident"].append((place, loaded, left))
            if r.evict_ns is not None:
                rows["evicted"].append((place, left, left))
                rows["leaving"].append((place, left, r.last_ns))
    tables = {name: np.array(each, np.int64).reshape(-1, 3) for name, each in rows.items()}
    return {name: _Bars(table[:, 0], table[:, 1:]) for name, table in tables.items()}


def busiest(lanes: Sequence[Lane], models: Sequence[str] | None = None) -> list[Lane]:
    """Return the lanes to draw: at most `MOST_LANES`, and one shared by all other models.

    Args:
      models: names of the models that get lanes, in drawing order.
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
    loads = sum(r.loaded for r in residences)
    evictions = sum(r.evict_ns is not None for r in residences)
    batches = [each for lane in lanes for each in lane.batches]
    refreshes = [t_ns for lane in lanes for t_ns in lane.refreshes]
    timeouts = [t_ns for lane in lanes for t_ns in lane.timeouts]
    label = others_label(len(lanes), loads, evictions)
    return Lane("", "", label, theme.OTHERS, residences, batches, refreshes, timeouts)


def others_label(lanes: int, loads: int, evictions: int) -> str:
    """Label of the lane that all other models share."""
    return f"{plural(lanes, 'other')}\n{plural(loads, 'load')}, {plural(evictions, 'eviction')}"


def lanes_of(state: State) -> list[Lane]:
    """Return one lane per process and model, in mapping order, including idle models."""
    loads: dict[LaneKey, list[Residence]] = defaultdict(list)
    for r in state.residences:
        loads[r.process, r.step, r.model].append(r)
    batches = _batches_by_lane(state)
    first_ns = {key: of[0].load_begin_ns for key, of in loads.items()}
    for key, parts in batches.items():
        begins = [int(part.begin_ns[0]) for part in parts]
        first_ns[key] = min([first_ns.get(key, begins[0]), *begins])
    keys = lane_keys(state.models, sorted(first_ns, key=first_ns.__getitem__))
    refreshes: dict[LaneKey, list[int]] = defaultdict(list)
    for event in state.facts(Refreshes):
        refreshes[event.process, event.step, event.model].append(event.t_ns)
    timeouts: dict[LaneKey, list[int]] = defaultdict(list)
    for letter, process in timeouts_of(state):
        timeouts[process, letter.step or "", letter.model or ""].append(letter.t_ns)
    versions = versions_of(state, {key: of[-1].load_begin_ns for key, of in loads.items()})
    colours = theme.model_palette.colours(model for _, _, model in keys)
    ended = state.ended_early
    return [
        Lane(
            key[1], key[2], label, colours[key[2]], loads.get(key, ()), batches.get(key, ()),
            refreshes[key], timeouts[key], ended.get(key[0]) if key[0] else None,
        )
        for key, label in zip(keys, lane_labels(keys, keys, versions, ended), strict=True)
    ]  # fmt: skip


def timeouts_of(state: State) -> list[tuple[DeadLetter, Process]]:
    """Batches that Beam stopped waiting for, each with the process that held the model."""
    found = []
    for event in state.timeouts:
        asked, t_ns = (event.step or "", event.model or "", event.cohort), np.array([event.t_ns])
        [place] = state.holders.at(event.process, asked, None, t_ns)
        holders = state.holders.residences
        found.append((event, holders[place].process if place >= 0 else event.process))
    return found


def _batches_by_lane(state: State) -> dict[LaneKey, list[Batches]]:
    """Group batches by lane.

    A batch belongs to the process that holds its model; if no load was seen, to the process that
    asked for it.
    """
    batches = state.batches
    number = {process: i for i, process in enumerate(batches.processes)}
    holders = np.array([number[r.process] for r in state.residences] or [0], np.int64)
    holder = np.where(batches.residence >= 0, holders[batches.residence], batches.process)
    lanes: dict[LaneKey, list[Batches]] = defaultdict(list)
    together = holder * max(len(batches.models), 1) + batches.asked
    for code in np.unique(together).tolist():
        process, asked = divmod(code, max(len(batches.models), 1))
        step, model, _ = batches.models[asked]
        rows = np.flatnonzero(together == code)
        lanes[batches.processes[process], step, model].append(batches.take(rows))
    return lanes


def versions_of(state: State, last_load_ns: Mapping[LaneKey, int]) -> dict[LaneKey, str]:
    """Return the paths of refreshed models that have been loaded since their refresh.

    Args:
      last_load_ns: begin of the last load of each lane.
    """
    return {
        (event.process, event.step, event.model): event.path
        for event in state.facts(Refreshes)
        if event.path is not None
        and event.t_ns <= last_load_ns.get((event.process, event.step, event.model), 0)
    }


def lane_keys(models: Iterable[TracedModel], loaded: Iterable[LaneKey]) -> list[LaneKey]:
    """Return the keys of all lanes of a run.

    Args:
      models: models that the run can load, in order.
      loaded: models that processes have loaded or asked for, sorted by first occurrence.
    """
    loaded = list(loaded)
    processes = list(dict.fromkeys(process for process, _, _ in loaded)) or [None]
    if len(processes) == 1:
        of_models = [(processes[0], model.step, model.model) for model in models]
        return list(dict.fromkeys([*of_models, *loaded]))
    order = {(model.step, model.model): place for place, model in enumerate(models)}
    by_process = {process: place for place, process in enumerate(processes)}
    last = len(order)
    return sorted(loaded, key=lambda key: (by_process[key[0]], order.get(key[1:], last)))


def lane_labels(
    keys: Sequence[LaneKey],
    among: Sequence[LaneKey],
    versions: Mapping[LaneKey, str],
    ended: Collection[Process] = (),
) -> list[str]:
    """Return labels: the model, with its step and process if the run has several of them.

    Args:
      among: keys of all lanes.
      versions: see `versions_of`; the file names are added to the labels.
      ended: processes that ended before the run.
    """
    processes = list(dict.fromkeys(process for process, _, _ in among if process is not None))
    several_steps = len({step for _, step, _ in among}) > 1
    name = _process_names(processes)
    labels = []
    for key in keys:
        process, step, model = key
        parts = [name[process]] if process is not None and len(processes) > 1 else []
        parts += [shortened(named(step))] if several_steps and step != model else []
        of = f" ({shortened(PurePath(versions[key]).name, 16)})" if key in versions else ""
        of += " (ended)" if process in ended else ""
        labels.append(" · ".join([*parts, shortened(named(model))]) + of)
    return labels


def _label_inches(label: str) -> float:
    """Width of a lane label in bold, in inches: labels of loaded models are bold."""
    first, *others = label.split("\n")
    widths = [theme.text_inches(first, LABEL_POINTS, bold=True)]
    return max(widths + [theme.text_inches(line, SMALL_POINTS, bold=True) for line in others])


def _process_names(processes: Sequence[Process]) -> dict[Process, str]:
    """Name and number processes for pictures, by their machine if there are several machines.

    >>> list(_process_names([Process("a", 7), Process("a", 9)]).values())
    ['worker 1', 'worker 2']
    >>> list(_process_names([Process("a", 7), Process("b", 7), Process("b", 9)]).values())
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
    """Shorten a name to `most` columns without its middle; escape what the fonts lack.

    >>> shortened("a model with a long name", 16), shortened("T-🦖")
    ('a model…ong name', 'T-<U+1F996>')
    """
    return without_middle(fonts.drawable(name), most, last=8)


def fitting(words: str, inches: float, points: float, *, bold: bool = False) -> str:
    """Shorten a line to `inches` without its middle; escape what the fonts lack."""
    most = min(columns(fonts.drawable(words)), 400)
    while most > 12 and theme.text_inches(shortened(words, most), points, bold=bold) > inches:
        most = most * 19 // 20
    return shortened(words, most)


class Seconds:
    """Converts nanoseconds to seconds of the time axis, and merges what one pixel cannot show."""

    def __init__(self, start_ns: int, end_ns: int, inches: float = WIDTH_INCHES * 0.8):
        self.start_ns, self.end_ns = start_ns, end_ns
        self.end = (end_ns - start_ns) * NS
        self.pixel = self.end / (inches * DPI)

    def until(self, end_ns: int) -> Seconds:
        """Return the same axis for a run that ends at `end_ns`, where open intervals are closed."""
        shorter = copy.copy(self)
        shorter.end_ns = end_ns
        return shorter

    def __call__(self, t_ns: int) -> float:
        return (t_ns - self.start_ns) * NS

    def moments(self, intervals: np.ndarray) -> np.ndarray:
        """Begins of intervals in seconds; see `bars`."""
        return (intervals[:, 0] - self.start_ns) * NS

    def bars(self, intervals: np.ndarray, least_pixels: float) -> np.ndarray:
        """Rows of (begin, width) in seconds; intervals less than a pixel apart are merged.

        Args:
          intervals: nanoseconds, shape (n, 2).
        """
        seconds = (intervals - self.start_ns) * NS
        return _merge_close(seconds, self.pixel, least_pixels * self.pixel)


def _merge_close(intervals: np.ndarray, gap: float, least: float) -> np.ndarray:
    """Merge intervals that are closer than `gap`, and widen those narrower than `least`.

    Args:
      intervals: shape (n, 2), begin and end.

    Returns:
      Shape (m, 2), begin and width, m ≤ n.

    >>> _merge_close(np.array([[0.0, 1.0], [1.05, 2.0], [5.0, 5.0]]), 0.1, 0.5).tolist()
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


# Drawing


def draw_lanes(
    axes: Axes, lanes: Sequence[Lane], x: Seconds, *, points: float = LABEL_POINTS,
    nothing: str = "no RunInference step was watched",
) -> None:  # fmt: skip
    """Draw lanes from top to bottom.

    Args:
      points: maximum font size of the labels.
      nothing: text if there is no lane.
    """
    for y, lane in enumerate(lanes):
        _draw_lane(axes, y, lane, x)
    axes.set_yticks(range(len(lanes)), [lane.label for lane in lanes])
    for tick, lane in zip(axes.get_yticklabels(), lanes, strict=True):
        tick.set_fontsize(min(points, SMALL_POINTS) if "\n" in lane.label else points)
    for tick, lane in zip(axes.get_yticklabels(), lanes, strict=True):
        tick.set_fontweight("bold" if lane.work else "normal")
        tick.set_color(theme.INK if lane.work else theme.MUTED)
    axes.set_ylim(max(len(lanes), 1) - 0.45, -0.75)
    if not lanes:
        axes.text(0.5, 0.5, nothing, transform=axes.transAxes, ha="center", color=theme.MUTED)


def _draw_lane(axes: Axes, y: int, lane: Lane, x: Seconds) -> None:
    pale, full, deep = theme.tint(lane.colour, 0.3), lane.colour, theme.shade(lane.colour, 0.55)
    bars = bars_of(lane.residences)

    def draw(intervals: np.ndarray, height: float, least: float, **style: Any) -> None:
        rows = x.bars(intervals, least)
        axes.broken_barh([tuple(row) for row in rows], (y - height / 2, height), **style)

    hatched = {"facecolors": theme.PAPER, "edgecolors": full, "hatch": "//////"}
    dotted = {"facecolors": "none", "edgecolors": theme.INK, "linestyle": ":"}
    draw(bars["resident"].ns, _BAR, 1, facecolors=pale, edgecolors=full, linewidth=0.6)
    draw(bars["loading"].ns, _BAR, 2, **hatched, linewidth=0.6)
    draw(lane.used(x.end_ns), _BAR + 0.1, 3, facecolors=deep, edgecolors="none")
    draw(bars["leaving"].ns, _BAR * 0.7, 0, **dotted, linewidth=1)
    _draw_marks(axes, y, x.moments(bars["evicted"].ns), x.moments(bars["freed"].ns))
    refreshed = [x(t_ns) for t_ns in lane.refreshes]
    axes.plot(refreshed, [y] * len(refreshed), "D", **REFRESHED, zorder=5)
    for style, moments in ((FAILED, lane.failures), (TIMED_OUT, lane.timeouts)):
        seconds = [x(t_ns) for t_ns in moments]
        axes.plot(seconds, [y] * len(seconds), **style, zorder=5)
    already = x.moments(bars["already"].ns)
    axes.plot(already, [y] * len(already), **ALREADY, zorder=5)
    failed = x.moments(bars["failed"].ns)
    axes.plot(failed, [y] * len(failed), "X", color=theme.INK, markersize=8, zorder=5)


LATE_PIXELS = 3
"""Shortest visible time from the eviction of a model until it is freed, in pixels."""


def leaves_late(state: State, x: Seconds) -> bool:
    """Whether a model is freed visibly later than evicted: see `LATE_PIXELS`."""
    left = bars_of(state.residences)["leaving"].ns
    longest = int((left[:, 1] - left[:, 0]).max(initial=0))
    return longest * NS > LATE_PIXELS * x.pixel


def any_freed(state: State) -> bool:
    """Whether the release of any model's memory was observed."""
    return any(residence.free_ns is not None for residence in state.residences)


def _draw_marks(axes: Axes, y: int, evicted: np.ndarray, freed: np.ndarray) -> None:
    few = len(evicted) <= _MOST_MARKS
    above, below = y - _BAR / 2 - 0.12, y + _BAR / 2 + 0.04
    if few:
        style: theme.Style = {"color": theme.INK, "markersize": 4.5, "clip_on": False}
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
    """Mark the time at which memory ran out, and the model that did not fit."""
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


def left_inches(labels: Iterable[str]) -> float:
    """Width of the margin for lane labels."""
    return max([0.8, *(0.2 + _label_inches(label) for label in labels)])
