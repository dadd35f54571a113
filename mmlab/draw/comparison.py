"""Several runs become small multiples: the same seconds, the same scale of memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmlab import fonts
from mmlab._text import named, plural
from mmlab.draw import theme
from mmlab.draw.lanes import (
    Lane,
    Seconds,
    busiest,
    draw_end,
    draw_lanes,
    fitting,
    lanes_of,
    leaves_late,
    left_inches,
    shortened,
)
from mmlab.draw.layout import TEXT_INCHES, draw_legend, dress, in_lines
from mmlab.draw.picture import WIDTH_INCHES
from mmlab.draw.timeline import draw_memory_curves, highest_memory, limit_in_words, memory_limit
from mmlab.reports.shortage import out_of_memory
from mmlab.reports.summary import summarize
from mmlab.state import State

LANE_INCHES = 0.25
MEMORY_INCHES = 0.7
BLOCK_INCHES = 0.56
"""From one run's memory to the next run's lanes, with a line of words between."""
HEAD_INCHES = 0.72
FOOT_INCHES = 0.85
SIDE_INCHES = 0.3


@dataclass(frozen=True)
class Multiple:
    """One run of a comparison.

    Attributes:
      label: stands above the run, in bold.
      words: stand beside the label.
      problem: why the run failed, in a sentence; None when it succeeded.
      state: what happened.
    """

    label: str
    words: str
    problem: str | None
    state: State


def draw_comparison(runs: Sequence[Multiple], title: str, verdict: str) -> Figure:
    """Draw runs below each other: lanes of models and memory, on aligned axes.

    Seconds count from the submission of each pipeline. A run that ended early leaves the rest of
    its axes empty, so that lengths can be compared by eye.

    Args:
      runs: at least one.
      title: the first line of the header.
      verdict: the second; it is wrapped.
    """
    with theme.style():
        return _drawn(runs, title, verdict)


def _drawn(runs: Sequence[Multiple], title: str, verdict: str) -> Figure:
    shown = [busiest(lanes_of(run.state)) for run in runs]
    verdict_lines = in_lines(
        [fonts.drawable(word) for word in verdict.split()], " ", TEXT_INCHES, 10
    )
    head = HEAD_INCHES + 0.19 * max(len(verdict_lines) - 1, 0)
    figure, rows = _figure(shown, head)
    width_ns = max(run.state.end_ns - run.state.start_ns for run in runs) or 1
    scale = _Scale.of(runs)
    late = False
    for run, (top, bottom), mine in zip(runs, rows, shown, strict=True):
        x = Seconds(run.state.start_ns, run.state.start_ns + width_ns)
        _draw_run(run, top, bottom, mine, x, scale)
        late = late or leaves_late(run.state, x)
    _explain_memory(rows[0][1])
    rows[-1][1].set_xlabel("seconds since the pipeline was submitted")
    rows[-1][1].tick_params(labelbottom=True)
    height = figure.get_size_inches()[1]
    left: theme.Style = {"x": 0.012, "va": "top", "color": theme.INK}
    title = fitting(title, TEXT_INCHES, 14, bold=True)
    figure.text(y=1 - 0.12 / height, s=title, fontsize=14, fontweight="bold", **left)
    for i, line in enumerate(verdict_lines):
        figure.text(y=1 - (0.42 + 0.19 * i) / height, s=line, fontsize=10, **left)
    draw_legend(figure, late=late, ends=any(run.problem is None for run in runs))
    return figure


@dataclass(frozen=True)
class _Scale:
    """The scale of memory that all runs share."""

    top: int
    unit: float
    name: str

    @classmethod
    def of(cls, runs: Sequence[Multiple]) -> _Scale:
        limits = [limit[1] for run in runs if (limit := memory_limit(run.state))]
        top = max([1, *limits, *(highest_memory(run.state) for run in runs)])
        return cls(top, *((1e9, "GB") if top >= 2e9 else (1e6, "MB")))


def _draw_run(
    run: Multiple,
    top: Axes,
    bottom: Axes,
    lanes: Sequence[Lane],
    x: Seconds,
    scale: _Scale,
) -> None:
    draw_lanes(top, lanes, x.until(run.state.end_ns))
    draw_memory_curves(bottom, run.state, x, scale.unit)
    _draw_limit(bottom, run.state, scale.unit)
    bottom.set_ylim(0, scale.top / scale.unit * 1.42)
    bottom.yaxis.set_major_locator(MaxNLocator(nbins=3))
    bottom.set_ylabel(f"memory\n{scale.name}")
    for axes in (top, bottom):
        axes.set_xlim(0, x.end)
        axes.tick_params(labelbottom=False)
    end = x(run.state.end_ns)
    unfit = out_of_memory(run.state) if run.problem is not None else None
    if unfit is not None:
        draw_end(top, lanes, unfit, x)
    for axes in (top, bottom):
        colour = theme.MUTED if run.problem is None else theme.ALERT
        axes.axvline(end, color=colour, linewidth=1, linestyle="-" if run.problem else ":")
    _label(top, run)


def _explain_memory(axes: Axes) -> None:
    axes.annotate("RSS (line), models' own bytes (grey)", (0.008, 0.97), xycoords="axes fraction",
                  va="top", fontsize=8.5, color=theme.INK)  # fmt: skip


def _draw_limit(axes: Axes, state: State, unit: float) -> None:
    limit = memory_limit(state)
    if limit is not None:
        axes.axhline(limit[1] / unit, color=theme.ALERT, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.annotate(limit_in_words(limit), (1, limit[1] / unit),
                      xycoords=("axes fraction", "data"), xytext=(0, 2),
                      textcoords="offset points", ha="right", fontsize=8.5,
                      color=theme.ALERT)  # fmt: skip


def _label(axes: Axes, run: Multiple) -> None:
    def write(text: str, points: float, line: int, **style: Any) -> None:
        axes.annotate(
            text, (0, 1), xycoords="axes fraction", xytext=(points, 4 + 13 * line),
            textcoords="offset points", va="bottom", annotation_clip=False, **style,
        )  # fmt: skip

    label = shortened(named(run.label), 60)
    write(label, 0, 0, fontsize=10.5, fontweight="bold", color=theme.INK)
    beside = 12 + 72 * theme.text_inches(label, 10.5, bold=True)
    if run.problem is None:
        write(run.words, beside, 0, fontsize=9.5, color=theme.INK)
    else:
        room = axes.get_position().width * WIDTH_INCHES - beside / 72
        problem = fitting(" ".join(run.problem.split()), room, 9.5)
        write(problem, beside, 0, fontsize=9.5, color=theme.ALERT)


def _figure(lanes: Sequence[Sequence[Lane]], head: float) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    tops = [max(len(some), 1) * LANE_INCHES + 0.1 for some in lanes]
    height = head + sum(top + MEMORY_INCHES + BLOCK_INCHES for top in tops) + FOOT_INCHES
    figure = Figure(figsize=(WIDTH_INCHES, height), facecolor=theme.PAPER)
    FigureCanvasAgg(figure)
    left = left_inches(lane.label for some in lanes for lane in some) / WIDTH_INCHES
    width = 1 - left - SIDE_INCHES / WIDTH_INCHES
    rows = []
    y = height - head
    for top in tops:
        y -= BLOCK_INCHES - 0.28 + top
        upper = figure.add_axes((left, y / height, width, top / height))
        y -= MEMORY_INCHES + 0.06
        lower = figure.add_axes((left, y / height, width, MEMORY_INCHES / height))
        y -= 0.22
        for ax in (upper, lower):
            dress(ax)
        rows.append((upper, lower))
    return figure, rows


def words_of(state: State, *, seconds: str | None = None) -> str:
    """A run in one line: loads, evictions, seconds, and how much of them went into loading.

    Args:
      seconds: replaces the seconds of this run, where there were several.
    """
    s = summarize(state)
    reloads = f" ({plural(s.reloads, 'reload')})" if s.reloads else ""
    return "   ·   ".join(
        [
            f"{plural(s.loads, 'load')}{reloads}",
            plural(s.evictions, "eviction"),
            f"at most {plural(s.most_resident, 'model')}",
            f"{seconds or f'{s.wall_seconds:.1f} s'}, {s.loading_share:.0%} of it loading",
        ]
    )
