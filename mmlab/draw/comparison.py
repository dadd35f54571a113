"""Several runs as small multiples on one screen, with a common scale of time and of memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmlab import fonts
from mmlab._text import named, plural
from mmlab.draw import theme
from mmlab.draw.lanes import (
    LABEL_POINTS,
    Lane,
    Seconds,
    any_freed,
    busiest,
    draw_end,
    draw_lanes,
    fitting,
    lanes_of,
    leaves_late,
    left_inches,
)
from mmlab.draw.layout import TITLE_INCHES, draw_legend, dress, in_lines, unit_name, unit_of
from mmlab.draw.picture import new_figure
from mmlab.draw.sheets import NOTEBOOK, Sheet
from mmlab.draw.timeline import draw_memory_curves, highest_memory, limit_in_words, memory_limit
from mmlab.reports.shortage import out_of_memory
from mmlab.reports.summary import summarize
from mmlab.reports.words import loads_words
from mmlab.state import NS, State

_WORDS_INCHES = 0.19
"""Height of a line of words."""
SIDE_INCHES = 0.3
_BELOW_BLOCK = 0.5
"""Share of the gap between two runs that belongs to the upper run."""
_LABEL_INCHES = 0.6
"""Height from which memory axes have a label of two lines."""
LABEL_OF_RUN_POINTS = 10.5
KEY_POINTS = 8.5


@dataclass(frozen=True)
class Multiple:
    """One run of a comparison.

    Attributes:
      label: title of the run, in bold above it.
      words: counts, with the seconds last. They are written beside the label; with several
        columns of runs, all but the last are written below it.
      problem: why the run failed, in a sentence; None when it succeeded.
      state: the state of the run.
    """

    label: str
    words: Sequence[str]
    problem: str | None
    state: State


@dataclass(frozen=True)
class Grid:
    """Arrangement of runs on one screen.

    Attributes:
      columns: number of columns of runs.
      lane: height of a model's lane, in inches.
      memory: height of the memory axes, in inches.
      most_lanes: highest number of lanes per run; the remaining models share the last lane.
      sheet: sizes of the picture.
    """

    columns: int
    lane: float
    memory: float
    most_lanes: int = 40
    sheet: Sheet = NOTEBOOK

    def lanes_inches(self, lanes: int) -> float:
        """Height of a run's lanes."""
        return min(max(lanes, 1), self.most_lanes) * self.lane + 0.1

    def rows(self, lanes: Sequence[int]) -> list[float]:
        """Height of the lanes in each row of runs, in inches."""
        tops = [self.lanes_inches(n) for n in lanes]
        return [max(tops[i : i + self.columns]) for i in range(0, len(tops), self.columns)]

    def height(self, lanes: Sequence[int], head: float) -> float:
        """Height of the whole picture, in inches."""
        rows = self.rows(lanes)
        return head + sum(rows) + len(rows) * (self.memory + self.block) + self.sheet.foot

    def is_lowest(self, run: int, runs: int) -> bool:
        """Whether this run is the lowest in its column."""
        return run + self.columns >= runs

    @property
    def block(self) -> float:
        """Height of a run without its lanes and its memory axes, in inches."""
        return self.sheet.block + (0 if self.columns == 1 else _WORDS_INCHES)

    @property
    def above_block(self) -> float:
        """Height of the words and the gap above the lanes of a run, in inches."""
        return self.block - _BELOW_BLOCK * self.sheet.block


def arrange(lanes: Sequence[int], sheet: Sheet = NOTEBOOK, words: int = 1) -> Grid:
    """Return the most legible arrangement of runs that fits on a screen.

    Args:
      lanes: number of lanes of each run.
      sheet: sizes of the picture.
      words: number of lines below the title.

    >>> arrange([4, 4]).columns, arrange([4] * 4).columns, arrange([4] * 4).lane
    (1, 2, 0.25)
    >>> arrange([40] * 8).columns, arrange([40] * 8).most_lanes
    (4, 12)
    """
    two = 2 if len(lanes) > 1 else 1
    three = 3 if len(lanes) > 4 else two
    four = 4 if len(lanes) > 6 else three
    high, slim = sheet.memory[0], sheet.memory[-1]
    grids = [
        *(Grid(1, lane, high) for lane in sheet.lanes),
        *(Grid(two, lane, high) for lane in sheet.lanes),
        *(Grid(two, lane, slim) for lane in (*sheet.lanes, *sheet.slim_lanes)),
        *(Grid(three, lane, slim) for lane in sheet.slim_lanes),
        *(Grid(four, lane, slim) for lane in sheet.slim_lanes),
    ]
    if sheet.columns is not None:
        grids = [grid for grid in grids if grid.columns == min(sheet.columns, len(lanes))]
    head = _head_inches(sheet, words)
    grids = [replace(grid, sheet=sheet) for grid in grids]
    for grid in grids:
        if grid.height(lanes, head) <= sheet.most_height:
            return grid
    last = grids[-1]
    others = last.height([0] * len(lanes), head) - last.lane * len(last.rows(lanes))
    fits = (sheet.most_height - others) / len(last.rows(lanes)) / last.lane
    return replace(last, most_lanes=max(3, int(fits)))


@dataclass(frozen=True)
class Block:
    """One run in the frame of a comparison.

    Attributes:
      label: title of the run.
      lanes: number of lanes.
      limit: see `memory_limit`.
    """

    label: str
    lanes: int
    limit: tuple[int, int] | None = None


@dataclass(frozen=True)
class GridLayout:
    """Everything that determines the frame of a comparison: equal layouts give equal frames.

    Attributes:
      title: first line of the header.
      words: other lines of the header.
      grid: arrangement of the runs.
      blocks: one for each run.
      left_inches: width of the lane labels.
      seconds: upper end of the time axes.
      memory: upper end of the memory axes, bytes.
      since: the event from which seconds are counted.
      late: see `draw_legend`.
      ends: whether the legend explains the line at the end of a run.
      evicted, freed: see `draw_legend`.
    """

    title: str
    words: tuple[str, ...]
    grid: Grid
    blocks: tuple[Block, ...]
    left_inches: float
    seconds: float
    memory: float
    since: str
    late: bool = False
    ends: bool = False
    evicted: bool = True
    freed: bool = True

    @property
    def unit(self) -> float:
        """Bytes per unit of the axes of memory."""
        return unit_of(self.memory / self.grid.sheet.memory_room)

    @property
    def points(self) -> float:
        """Font size of the lane labels."""
        return min(LABEL_POINTS, self.grid.lane * 60)

    @property
    def axes_inches(self) -> float:
        """Width of the axes of a run."""
        width = (self.grid.sheet.width - SIDE_INCHES) / self.grid.columns
        return width - self.left_inches - (0 if self.grid.columns == 1 else 0.12)


@dataclass(frozen=True)
class _RunAxes:
    """The axes of one run: lanes of models, and memory below them."""

    lanes: Axes
    memory: Axes


def draw_comparison(
    runs: Sequence[Multiple], title: str, verdict: str, sheet: Sheet = NOTEBOOK
) -> Figure:
    """Draw runs beside each other: lanes of models and memory, on equal axes.

    Seconds are counted from the submission of each pipeline. After the end of a run its axes are
    empty, so that durations can be compared by eye. The picture fits on one screen: many runs are
    arranged in columns with slim lanes, and the least busy models share one lane.

    Args:
      runs: at least one.
      title: first line of the header; left out if the sheet has no space for title and verdict.
      verdict: following lines of the header; it is wrapped.
      sheet: sizes of the picture.
    """
    with theme.style():
        return _drawn(runs, title, verdict, sheet)


def _drawn(runs: Sequence[Multiple], title: str, verdict: str, sheet: Sheet) -> Figure:
    words = _verdict_lines(verdict, sheet)
    if words and not sheet.explains:
        title = ""
    every = [lanes_of(run.state) for run in runs]
    grid = arrange([len(lanes) for lanes in every], sheet, len(words))
    shown = _same_models(every, grid.most_lanes)
    width_ns = max(run.state.end_ns - run.state.start_ns for run in runs) or 1
    layout = _grid_layout(runs, shown, grid, width_ns, title, words, sheet)
    figure, places = draw_grid(layout)
    for i, (block, place) in enumerate(zip(layout.blocks, places.values(), strict=True)):
        line = 1 if layout.grid.columns > 1 else 0
        _write_above(
            place.lanes, label_of(block, layout), LABEL_OF_RUN_POINTS, line=line, fontweight="bold"
        )
        if i == 0 and sheet.explains:
            _explain_memory(place.memory, memory_key(layout))
    for run, place, lanes in zip(runs, places.values(), shown, strict=True):
        x = Seconds(run.state.start_ns, run.state.start_ns + width_ns, layout.axes_inches)
        _draw_run(run, place, lanes, x, layout)
    return figure


def _grid_layout(
    runs: Sequence[Multiple],
    shown: Sequence[Sequence[Lane]],
    grid: Grid,
    width_ns: int,
    title: str,
    words: Sequence[str],
    sheet: Sheet,
) -> GridLayout:
    limits = [memory_limit(run.state) for run in runs]
    top = max([1, *(limit[1] for limit in limits if limit)]
              + [highest_memory(run.state) for run in runs])  # fmt: skip
    return GridLayout(
        title=fitting(title, sheet.text_width, sheet.title_points, bold=True),
        words=tuple(words),
        grid=grid,
        blocks=tuple(
            Block(named(run.label), len(lanes), limit)
            for run, lanes, limit in zip(runs, shown, limits, strict=True)
        ),
        left_inches=left_inches(lane.label for lanes in shown for lane in lanes),
        seconds=width_ns * NS,
        memory=top * sheet.memory_room,
        since="seconds since the pipeline was submitted",
        late=any(
            leaves_late(run.state, Seconds(run.state.start_ns, run.state.start_ns + width_ns))
            for run in runs
        ),
        ends=any(run.problem is None for run in runs),
        evicted=any(run.state.counts.evictions for run in runs),
        freed=any(any_freed(run.state) for run in runs),
    )


def _same_models(every: Sequence[Sequence[Lane]], most: int) -> list[list[Lane]]:
    """Choose the lanes to draw. If not all fit, every run shows the same models."""
    if all(len(lanes) <= most for lanes in every):
        return [busiest(lanes) for lanes in every]
    work: Counter[str] = Counter()
    for lanes in every:
        for lane in lanes:
            work[lane.model] += lane.work
    chosen = {model for model, _ in work.most_common(most - 1)}
    names = [name for name in dict.fromkeys(x.model for lanes in every for x in lanes)
             if name in chosen]  # fmt: skip
    return [busiest(lanes, names) for lanes in every]


def _verdict_lines(verdict: str, sheet: Sheet = NOTEBOOK) -> list[str]:
    """Wrap a verdict into lines that fit below a title."""
    words = [fonts.drawable(word) for word in verdict.split()]
    return in_lines(words, " ", sheet.text_width, sheet.words_points)


def _head_inches(sheet: Sheet, words: int) -> float:
    """Height of a header with `words` lines below its title."""
    return sheet.head + _WORDS_INCHES * max(words - 1, 0)


# The frame


def draw_grid(
    layout: GridLayout, runs: Collection[int] | None = None
) -> tuple[Figure, dict[int, _RunAxes]]:
    """Draw the frame of a comparison, without events.

    Args:
      runs: numbers of the runs whose axes are drawn; None for all.
    """
    grid, sheet = layout.grid, layout.grid.sheet
    head = _head_inches(sheet, len(layout.words))
    lanes = [block.lanes for block in layout.blocks]
    height = grid.height(lanes, head)
    figure = new_figure(height, sheet.width)
    places = {}
    y = height - head
    for row, top in enumerate(grid.rows(lanes)):
        y -= grid.above_block + top
        for run in range(row * grid.columns, min((row + 1) * grid.columns, len(lanes))):
            if runs is None or run in runs:
                places[run] = _add_axes(figure, layout, run, y, top)
        y -= grid.memory + _BELOW_BLOCK * sheet.block
    for run, place in places.items():
        _dress(place, layout.blocks[run], layout)
        if grid.is_lowest(run, len(lanes)):
            if sheet.explains:
                narrow = min(grid.columns, len(lanes)) > 2
                place.memory.set_xlabel("seconds" if narrow else layout.since)
            place.memory.tick_params(labelbottom=True)
    left: theme.Style = {"x": 0.012, "va": "top", "color": theme.INK}
    title: theme.Style = {"fontsize": sheet.title_points, "fontweight": "bold"}
    figure.text(y=1 - TITLE_INCHES / height, s=layout.title, **title, **left)
    first = sheet.second_line if layout.title else TITLE_INCHES
    for i, line in enumerate(layout.words):
        below = first + _WORDS_INCHES * i
        figure.text(y=1 - below / height, s=line, fontsize=sheet.words_points, **left)
    draw_legend(figure, late=layout.late, ends=layout.ends, short=not sheet.explains,
                evicted=layout.evicted, freed=layout.freed)  # fmt: skip
    return figure, places


def _add_axes(figure: Figure, layout: GridLayout, run: int, y: float, top: float) -> _RunAxes:
    """Add the axes of a run, with lanes `y` inches above the foot in a row `top` inches high."""
    grid, height = layout.grid, figure.get_size_inches()[1]
    column = run % grid.columns
    sheet = grid.sheet
    left = column * (sheet.width - SIDE_INCHES) / grid.columns + layout.left_inches
    width = layout.axes_inches / sheet.width
    own = grid.lanes_inches(layout.blocks[run].lanes)
    x, lower = left / sheet.width, y - grid.memory - 0.06
    lanes = figure.add_axes((x, (y + top - own) / height, width, own / height))
    lower += top - own  # keep memory next to the lanes of a run with few lanes
    memory = figure.add_axes((x, lower / height, width, grid.memory / height))
    return _RunAxes(lanes, memory)


def _dress(place: _RunAxes, block: Block, layout: GridLayout) -> None:
    for axes in (place.lanes, place.memory):
        dress(axes)
        axes.set_xlim(0, layout.seconds)
        axes.tick_params(labelbottom=False)
    place.lanes.set_ylim(max(block.lanes, 1) - 0.45, -0.75)
    place.lanes.set_yticks([])
    place.memory.set_ylim(0, layout.memory / layout.unit or 1)
    place.memory.yaxis.set_major_locator(MaxNLocator(nbins=3))
    unit = unit_name(layout.unit)
    place.memory.set_ylabel(unit if layout.grid.memory < _LABEL_INCHES else f"memory\n{unit}")
    _draw_limit(place.memory, block.limit, layout.unit)


def label_of(block: Block, layout: GridLayout) -> str:
    """The label of a run, shortened to the width of its axes."""
    room = layout.axes_inches if layout.grid.columns > 1 else layout.axes_inches / 2
    return fitting(block.label, room, LABEL_OF_RUN_POINTS, bold=True)


def beside_label(block: Block, layout: GridLayout) -> float:
    """Left end of the words beside the label of a run, in points."""
    return 12 + 72 * theme.text_inches(label_of(block, layout), LABEL_OF_RUN_POINTS, bold=True)


def memory_key(layout: GridLayout) -> str:
    """Explanation in the memory axes of the first run."""
    ways = ("RSS (line), models' own bytes (grey)", "RSS (line), models (grey)")
    room = layout.axes_inches - 0.1
    return next((way for way in ways if theme.text_inches(way, KEY_POINTS) < room), ways[-1])


def _explain_memory(axes: Axes, text: str) -> None:
    axes.annotate(text, (0.008, 0.97), xycoords="axes fraction", va="top", fontsize=KEY_POINTS,
                  color=theme.INK)  # fmt: skip


def _draw_limit(axes: Axes, limit: tuple[int, int] | None, unit: float) -> None:
    if limit is not None:
        axes.axhline(limit[1] / unit, color=theme.ALERT, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.annotate(limit_in_words(limit), (1, limit[1] / unit),
                      xycoords=("axes fraction", "data"), xytext=(0, 2),
                      textcoords="offset points", ha="right", fontsize=8.5,
                      color=theme.ALERT)  # fmt: skip


def _write_above(
    axes: Axes, text: str, points: float, *, beside: float = 0, line: int = 0,
    color: str = theme.INK, fontweight: str = "normal",
) -> None:  # fmt: skip
    """Write above the lanes of a run.

    Args:
      beside: points from the left.
      line: 0 is the line next to the lanes.
    """
    axes.annotate(
        text, (0, 1), xycoords="axes fraction", xytext=(beside, 4 + 13 * line), va="bottom",
        textcoords="offset points", annotation_clip=False, fontsize=points, color=color,
        fontweight=fontweight,
    )  # fmt: skip


# Runs


def _draw_run(
    run: Multiple, place: _RunAxes, lanes: Sequence[Lane], x: Seconds, layout: GridLayout
) -> None:
    top, bottom = place.lanes, place.memory
    more = {} if run.state.processes else {"nothing": "ended before it began"}
    draw_lanes(top, lanes, x.until(run.state.end_ns), points=layout.points, **more)
    draw_memory_curves(bottom, run.state, x, layout.unit)
    end = x(run.state.end_ns)
    unfit = out_of_memory(run.state) if run.problem is not None else None
    if unfit is not None:
        draw_end(top, lanes, unfit, x)
    for axes in (top, bottom):
        axes.set_xlim(0, layout.seconds)
        colour = theme.MUTED if run.problem is None else theme.ALERT
        axes.axvline(end, color=colour, linewidth=1, linestyle="-" if run.problem else ":")
    bottom.set_ylim(0, layout.memory / layout.unit)
    _write_words(top, run, layout)


def _write_words(axes: Axes, run: Multiple, layout: GridLayout) -> None:
    colour = theme.INK if run.problem is None else theme.ALERT
    beside = beside_label(Block(named(run.label), 0), layout)
    room = layout.axes_inches - beside / 72
    words = run.words if run.problem is None else [" ".join(run.problem.split())]
    if layout.grid.columns == 1:
        text = fitting_words(words, room, "   ·   ")
        _write_above(axes, text, 9.5, beside=beside, color=colour)
        return
    if run.problem is None and words:
        *words, seconds = words
        _write_above(axes, fitting_words(seconds.split(", "), room, ", "), 9.5, beside=beside,
                    line=1)  # fmt: skip
    _write_above(axes, fitting_words(words, layout.axes_inches), 9.5, color=colour)


def fitting_words(words: Sequence[str], inches: float, between: str = " · ") -> str:
    """Join as many words as fit into a line of 9.5 points; the most important come first."""
    shown = list(words)
    while len(shown) > 1 and theme.text_inches(between.join(shown), 9.5) > inches:
        shown.pop()
    return fitting(between.join(shown), inches, 9.5)


def words_of(state: State, *, seconds: str | None = None) -> list[str]:
    """Describe a run in words: loads, evictions, seconds, and the share of time spent on loading.

    Args:
      seconds: replaces the seconds of this run if the run was repeated.
    """
    s = summarize(state)
    return [
        loads_words(s.loads, s.reloads),
        plural(s.evictions, "eviction"),
        f"at most {plural(s.most_resident, 'model')}",
        f"{seconds or f'{s.wall_seconds:.1f} s'}, {s.loading_share:.0%} of it loading",
    ]
