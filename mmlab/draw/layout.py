"""The frame of a timeline: header, axes, limits and legend, without events.

The live picture and the final timeline have the same frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mmlab._text import columns, plural, some
from mmlab.draw import theme
from mmlab.draw.lanes import (
    ALREADY,
    FAILED,
    LABEL_POINTS,
    REFRESHED,
    TIMED_OUT,
    fitting,
    shortened,
)
from mmlab.draw.picture import WIDTH_INCHES, new_figure
from mmlab.events import Unknown
from mmlab.reports.summary import StepLimit, size_words, step_limits
from mmlab.reports.words import hint_words, loads_words
from mmlab.state import NS, Counts, State

MB, _GB = 1e6, 1e9
_MOST_LIMITS = 40
"""Maximum width of hints and limits in the header, in columns of text."""
TEXT_INCHES = WIDTH_INCHES - 0.25
_LANE_INCHES = 0.36
RIGHT_INCHES = 1.09
"""Margin to the right of the axes, for the labels of limits."""
_HEAD_INCHES = 0.94
_FLAT_INCHES = 0.6
"""Height of the memory axis if models are too small to be seen on it."""
TITLE_POINTS, HEADLINE_POINTS, MEMORY_POINTS = 14, 10.5, 9
TEXT_LEFT = 0.012 * WIDTH_INCHES
TITLE_INCHES, HEADLINE_INCHES = 0.12, 0.42
"""Distance from the top of the picture to the tops of the header's first two lines."""


@dataclass(frozen=True)
class _LimitLine:
    """The hint of a step, and the effective limit.

    Attributes:
      hint: `UNKNOWN` if Beam does not expose it.
      changes: pairs of a time in seconds and the limit from then on.
    """

    hint: int | Unknown
    changes: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True)
class Layout:
    """Everything that determines a frame: equal layouts give equal frames.

    Attributes:
      title: first line of the header.
      lanes: number of lanes.
      left_inches: width of the lane labels.
      seconds: upper end of the time axis.
      most_models: value that the axis of models must reach; limits may extend it.
      limits: one for each step that has a hint.
      memory: upper end of the memory axis, bytes.
      unit: bytes per unit of the memory axis: see `unit_of`.
      memory_limit: see `memory_limit` in `mmlab.draw.timeline`.
      already: whether the legend explains models that were in memory before the run.
      failed, timed_out: whether the legend explains batches that failed or timed out.
      refreshes: whether the legend explains refreshes.
      late: whether the legend explains models that were evicted long before they were freed.
      evicted, freed: whether the legend explains evictions and released memory.
      flat: whether the memory axis is low, because models are too small to be seen on it.
    """

    title: str
    lanes: int
    left_inches: float
    seconds: float
    most_models: int
    limits: tuple[_LimitLine, ...]
    memory: float
    unit: float
    memory_limit: tuple[int, int] | None = None
    already: bool = False
    failed: bool = False
    timed_out: bool = False
    refreshes: bool = False
    late: bool = False
    evicted: bool = True
    freed: bool = True
    flat: bool = False


def is_flat(models: float, highest: float) -> bool:
    """Whether models are too small to be seen on the memory axis.

    Args:
      models: most bytes of models held, 0 if unknown.
      highest: upper end of the axis, in bytes.
    """
    return 0 < models < 0.01 * highest


def unit_name(unit: float) -> str:
    """
    >>> unit_name(_GB), unit_name(MB)
    ('GB', 'MB')
    """
    return "GB" if unit == _GB else "MB"


def unit_of(most_bytes: float) -> float:
    """Return the unit of a memory axis, in bytes: GB from a highest value of 2 GB, else MB.

    >>> unit_of(3e9) == _GB, unit_of(5e8) == MB
    (True, True)
    """
    return _GB if most_bytes >= 2e9 else MB


@dataclass(frozen=True)
class _Frame:
    """An empty timeline.

    Attributes:
      figure: the whole picture.
      lanes, models, memory: the axes, from top to bottom.
    """

    figure: Figure
    lanes: Axes
    models: Axes
    memory: Axes


def draw_frame(layout: Layout) -> _Frame:
    """Draw a timeline without events."""
    top, middle = max(layout.lanes, 1) * _LANE_INCHES + 0.25, 0.85
    bottom = _FLAT_INCHES if layout.flat else 1.25
    gaps, foot = 0.3, 0.85
    height = _HEAD_INCHES + top + middle + bottom + gaps + foot
    figure = new_figure(height)
    axes = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [top, middle, bottom], "hspace": 0.12}
    )
    figure.subplots_adjust(
        left=layout.left_inches / WIDTH_INCHES,
        right=1 - RIGHT_INCHES / WIDTH_INCHES,
        top=1 - _HEAD_INCHES / height,
        bottom=foot / height,
    )
    frame = _Frame(figure, *axes)
    for each in axes:
        dress(each)
    frame.lanes.set_ylim(max(layout.lanes, 1) - 0.45, -0.75)
    frame.lanes.set_yticks([])
    _frame_models(frame.models, layout)
    _frame_memory(frame.memory, layout)
    write_header(figure, TITLE_INCHES, layout.title, TITLE_POINTS, bold=True)
    draw_legend(
        figure, already=layout.already, failed=layout.failed, timed_out=layout.timed_out,
        refreshes=layout.refreshes, late=layout.late, evicted=layout.evicted, freed=layout.freed,
    )  # fmt: skip
    return frame


def _frame_models(axes: Axes, layout: Layout) -> None:
    axes.set_ylim(0, max(layout.most_models, _draw_limits(axes, layout)) + 0.9)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4, min_n_ticks=1))
    axes.set_ylabel("models\nresident")


def _draw_limits(axes: Axes, layout: Layout) -> int:
    """Draw hints as dashed lines and effective limits as full ones. Returns the highest."""
    marks: dict[int, str] = {}
    for line in layout.limits:
        if line.changes:
            seconds = [*(second for second, _ in line.changes), layout.seconds]
            values = [*(limit for _, limit in line.changes), line.changes[-1][1]]
            axes.step(seconds, values, where="post", color=theme.ALERT, linewidth=1.8, zorder=3)
        limit = line.changes[-1][1] if line.changes else None
        if isinstance(line.hint, int) and limit != line.hint:
            axes.axhline(line.hint, color=theme.MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
            marks[line.hint] = f"hint {line.hint}"
        if limit is not None:
            marks[limit] = f"hint = limit {limit}" if limit == line.hint else f"limit {limit}"
    for value, text in marks.items():
        _write_beside(axes, value, text, 9)
    return max(marks, default=0)


def limit_lines(state: State) -> tuple[_LimitLine, ...]:
    """The hints and effective limits of a run's steps."""
    hints = {model.step: model.hint for model in state.models if model.hint is not None}
    lines = []
    for step, hint in hints.items():
        changes: list[tuple[float, int]] = []
        for event in state.limits(step):
            limit = event.limit if isinstance(event.limit, int) else 0
            if limit > 0 and (not changes or changes[-1][1] != limit):
                changes.append(((event.t_ns - state.start_ns) * NS, limit))
        lines.append(_LimitLine(hint, tuple(changes)))
    return tuple(lines)


def _frame_memory(axes: Axes, layout: Layout) -> None:
    unit = layout.unit
    axes.set_ylim(0, layout.memory / unit or 1)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.set_ylabel(f"memory\n{unit_name(unit)}")
    axes.set_xlabel("seconds since the pipeline was submitted")
    axes.set_xlim(0, layout.seconds)
    if layout.memory_limit is not None:
        start, more = parts_of_limit(layout.memory_limit)
        ceiling = layout.memory_limit[1] / unit
        axes.axhline(ceiling, color=theme.ALERT, linewidth=1.2, linestyle=(0, (4, 3)))
        text = f"{start + more:,} MB =\n{start:,} at the start\n+ {more:,}\nfor the run"
        _write_beside(axes, ceiling, text, 8.5, color=theme.ALERT)


def _write_beside(axes: Axes, value: float, text: str, points: float, **style: Any) -> None:
    axes.annotate(
        text, (1, value), xycoords=("axes fraction", "data"), xytext=(5, 0),
        textcoords="offset points", va="center", fontsize=points, **style,
    )  # fmt: skip


def parts_of_limit(limit: tuple[int, int]) -> tuple[int, int]:
    """Megabytes at the start of the run, and the megabytes that the run may add."""
    more, ceiling = limit
    return round((ceiling - more) / MB), round(more / MB)


# Words


def write_header(
    figure: Figure, inches: float, text: str, points: float, *, bold: bool = False,
    color: str = theme.INK,
) -> None:  # fmt: skip
    """Write a line of the header, `inches` below the top."""
    figure.text(
        TEXT_LEFT / WIDTH_INCHES, 1 - inches / figure.get_size_inches()[1], text, va="top",
        fontsize=points, fontweight="bold" if bold else "normal", color=color,
    )  # fmt: skip


def title_of(state: State, title: str | None) -> str:
    """First line of the header: the title, or the steps if there is no title."""
    if title is not None:
        return fitting(title, TEXT_INCHES, TITLE_POINTS, bold=True)
    steps = list(dict.fromkeys(model.step for model in state.models))
    return fitting(", ".join(steps), TEXT_INCHES, TITLE_POINTS, bold=True) or "No RunInference step"


def headline_parts(state: State) -> list[str]:
    """Counts of a run, worded for the header."""
    limits = limits_text(step_limits(state))
    if columns(limits) > _MOST_LIMITS:
        limits = "hint or limit differs between steps"
    return [limits, *count_words(state.counts)]


def headline(parts: Sequence[str]) -> tuple[str, float]:
    """Text and font size of the header's second line, as large as fits."""
    ways = [(between.join(parts), HEADLINE_POINTS) for between in ("   ·   ", "  ·  ", " · ")]
    ways += [(" · ".join(parts), points) for points in (9.5, 8.5, 7.5)]
    fits = (way for way in ways if theme.text_inches(*way) <= TEXT_INCHES)
    return next(fits, ways[-1])


def count_words(counts: Counts) -> list[str]:
    """Describe in words: models already in memory, loads, evictions, refreshes and batches."""
    refreshes = plural(counts.refreshes, "refresh")
    return [
        *([f"{counts.already:,} already in memory"] if counts.already else []),
        loads_words(counts.loads, counts.reloads),
        plural(counts.evictions, "eviction"),
        *([refreshes] if counts.refreshes else []),
        f"{plural(counts.elements, 'element')} in {plural(counts.uses, 'batch')}",
        *([f"{counts.failed:,} failed"] if counts.failed else []),
        *([f"{counts.timed_out:,} timed out"] if counts.timed_out else []),
    ]


def limits_text(steps: Sequence[StepLimit]) -> str:
    """Describe the hint, and the limit if it differs; for each step if the steps differ.

    >>> from mmlab.events import UNKNOWN
    >>> limits_text([StepLimit("A", 2, 4)]), limits_text([]), limits_text([StepLimit("A", 2, 2)])
    ('hint 2 → limit 4', 'no hint', 'hint 2')
    >>> limits_text([StepLimit("A", UNKNOWN, None)]), limits_text([StepLimit("A", 2, UNKNOWN)])
    ('hint unknown', 'hint 2, limit unknown')
    >>> limits_text([StepLimit("A", 1, 1), StepLimit("B", None, None)])
    'hint 1 (A), no hint (B)'
    """
    words: dict[str, list[str]] = {}
    for each in steps:
        words.setdefault(_limit_words(each), []).append(shortened(each.step))
    if len(words) < 2:
        return next(iter(words), hint_words(None))
    return ", ".join(f"{limit} ({some(of, most=2)})" for limit, of in words.items())


def _limit_words(of: StepLimit) -> str:
    if isinstance(of.limit, Unknown):
        return f"{_limit_words(StepLimit(of.step, of.hint, None))}, limit unknown"
    if not isinstance(of.hint, int):
        without = hint_words(None) if of.hint is None else "hint unknown"
        return without if of.limit is None else f"limit {of.limit}"
    if of.limit in (None, of.hint):
        return hint_words(of.hint)
    return f"{hint_words(of.hint)} → limit {of.limit}"


def memory_words(
    *,
    peak: int | None,
    now: int | None,
    when: str,
    device: int | None,
    models: int,
    unit: float,
    several: bool,
    how: Iterable[str] = ("tensors",),
    unknown: int = 0,
) -> list[str]:
    """Explain the memory curves and their highest values.

    Args:
      peak, now: highest and last resident set size of one process, bytes.
      when: time of the last one, in words.
      device: most GPU memory allocated by one process, bytes.
      models: most bytes of models on one machine.
      unit: bytes per unit of the axis.
      several: whether there are several processes, so that each figure must name its process.
      how: sources of the bytes of models: see `size_words`.
      unknown: number of loads of unknown size.
    """

    def word(value: int) -> str:
        """Choose a unit for each value: models may be far smaller than their process."""
        if value < 1e6:
            return f"{value / 1e3:,.0f} kB"
        return f"{value / unit:,.2f} GB" if unit == _GB else f"{value / unit:,.0f} MB"

    process, machine = (" of a process", " of a machine") if several else ("", "")
    of_models = _what_models_are(how, unknown, machine)
    return [
        *([f"RSS{process} (line): peak {word(peak)}"] if peak else []),
        *([f"{word(now)} {when}"] if now else []),
        *([f"GPU{process} (dashed): at most {word(device)}"] if device else []),
        *([f"{of_models}: at most {word(models)}"] if models else []),
    ]


def _what_models_are(how: Iterable[str], unknown: int, whose: str = "") -> str:
    """Explain the grey area in words.

    Args:
      whose: the processes that hold the models, in words.

    >>> _what_models_are(("tensors",), 0), _what_models_are(("file",), 1)
    ("models' own bytes (grey)", 'bytes of models (grey, by the files of their weights; \
1 load of unknown size left out)')
    """
    by = size_words(how).strip(" ()")
    left_out = f"{plural(unknown, 'load')} of unknown size left out" if unknown else ""
    more = "; ".join(part for part in (by, left_out) if part)
    if more:
        return f"bytes of models{whose} (grey, {more})"
    return f"models' own bytes{whose} (grey)"


def in_lines(parts: Sequence[str], between: str, inches: float, points: float) -> list[str]:
    """Join parts into as few lines of `inches` as possible, without cutting a part."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}{between}{part}" if lines else part
        if lines and theme.text_inches(longer, points) <= inches:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def dress(ax: Axes) -> None:
    """Apply mmlab's style to axes."""
    ax.tick_params(colors=theme.INK, labelsize=LABEL_POINTS, length=0)
    ax.yaxis.label.set(fontsize=9.5, color=theme.INK)
    ax.xaxis.label.set(fontsize=9.5, color=theme.INK)
    ax.grid(axis="x", color=theme.GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(theme.MUTED)


def draw_legend(
    figure: Figure, *, already: bool = False, failed: bool = False, timed_out: bool = False,
    refreshes: bool = False, late: bool = False, ends: bool = False, short: bool = False,
    evicted: bool = True, freed: bool = True,
) -> None:  # fmt: skip
    """Explain bars and marks below the figure; the arguments add entries for what occurs.

    Args:
      already: a model was in memory before the run.
      failed, timed_out: a batch failed or timed out.
      refreshes: a model was refreshed.
      late: a model was evicted long before it was freed.
      ends: a dotted line marks the end of a run.
      short: whether entries are single words.
      evicted, freed: a model was evicted or freed.
    """
    line: theme.Style = {"linestyle": "none", "color": theme.INK}
    handles: list[Patch | Line2D] = [
        Patch(facecolor=theme.PAPER, edgecolor=theme.INK, hatch="//////", label="loading"),
        Patch(facecolor=theme.FILL, edgecolor=theme.INK, label="resident"),
        Patch(facecolor=theme.INK, edgecolor=theme.INK, label="in use"),
    ]
    if evicted:
        mark = Line2D([], [], marker="v", markersize=6, label="evicted (dropped by Beam)", **line)
        handles.append(mark)
    if late:
        outline: theme.Style = {"facecolor": "none", "edgecolor": theme.INK, "linestyle": ":"}
        handles.append(Patch(**outline, label="evicted, not yet freed"))
    if freed:
        hollow: theme.Style = {"marker": "o", "markersize": 6, "markerfacecolor": theme.PAPER}
        handles.append(Line2D([], [], label="freed (memory released)", **hollow, **line))
    if already:
        handles.insert(0, Line2D([], [], label="already in memory", **ALREADY))
    if failed:
        handles.append(Line2D([], [], label="batch failed", **FAILED))
    if timed_out:
        handles.append(Line2D([], [], label="batch timed out", **TIMED_OUT))
    if refreshes:
        handles.append(Line2D([], [], marker="D", label="refreshed", **REFRESHED))
    if ends:
        handles.append(Line2D([], [], color=theme.MUTED, linestyle=":", label="the run ends"))
    many = len(handles) > 5
    if short:
        for handle in handles:
            handle.set_label(str(handle.get_label()).partition(" (")[0])
    figure.legend(
        handles=handles, loc="lower center", frameon=False, bbox_to_anchor=(0.5, 0.0),
        ncols=len(handles) if len(handles) < 7 else 4, fontsize=9 if many else 9.5,
        handlelength=1.6, columnspacing=1.2 if many else 1.6,
    )  # fmt: skip
