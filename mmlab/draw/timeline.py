"""The timeline of a run: lanes of models, number of models against the limit, memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmlab._arguments import short
from mmlab._text import in_bytes, plural
from mmlab.draw import theme
from mmlab.draw.lanes import (
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
from mmlab.draw.layout import (
    HEADLINE_INCHES,
    MEMORY_POINTS,
    RIGHT_INCHES,
    TEXT_INCHES,
    Layout,
    draw_frame,
    headline,
    headline_parts,
    in_lines,
    is_flat,
    limit_lines,
    limits_text,
    memory_words,
    parts_of_limit,
    title_of,
    unit_of,
    write_header,
)
from mmlab.draw.picture import WIDTH_INCHES, Picture
from mmlab.events import UNKNOWN, MemoryLimit, Refreshes, printable
from mmlab.reports.shortage import OutOfMemory, out_of_memory
from mmlab.reports.summary import count_per_model, summarize
from mmlab.state import NS, Residence, State, held_over_time, over_time


def draw_timeline(
    state: State, *, title: str | None = None, models: Iterable[str] | None = None
) -> Picture:
    """Draw the timeline of every model of a run.

    The upper axes have one lane per process and model. Bars: loading (hatched), resident (pale),
    in use (full), evicted and not yet freed (dotted outline). Marks: eviction (triangle), memory
    freed (circle), refresh to another path (diamond), model in memory before the run (arrowhead),
    failed batch (cross), batch that Beam stopped waiting for (square). The axes in the middle show
    the number of models resident, and loading (hatched), against the hint and the effective limit.
    The lower axes show the resident set size and the models' own bytes. Seconds are counted from
    the submission of the pipeline. If the run was out of memory, the picture marks the model that
    did not fit and the size of the failed allocation, and says what was held and what to change.

    Args:
      state: state of a run, finished or not.
      title: replaces the step's label in the header.
      models: names of the models that have lanes, in this order; all others share one lane. By
        default the 40 models with the most loads and batches have lanes.

    Raises:
      ValueError: a model is not part of this run.
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
    lanes = busiest(lanes_of(state), models)
    unfit = out_of_memory(state)
    layout, words = _layout(state, title_of(state, title), lanes)
    frame = draw_frame(layout)
    x = Seconds(state.start_ns, max(state.end_ns, state.start_ns + 1))
    draw_lanes(frame.lanes, lanes, x)
    _draw_residency(frame.models, state, x)
    draw_memory_curves(frame.memory, state, x, layout.unit)
    _write_memory(frame.memory, words)
    if unfit is not None:
        draw_end(frame.lanes, lanes, unfit, x)
        _draw_asked(frame.memory, state, unfit, x, layout.unit)
        for axes in (frame.lanes, frame.models, frame.memory):
            axes.axvline(x(unfit.at_ns), color=theme.ALERT, linewidth=1.2, zorder=2)
    _write_headlines(frame.figure, state, unfit)
    return frame.figure


def _layout(state: State, title: str, lanes: Sequence[Lane]) -> tuple[Layout, list[str]]:
    """Return the layout of a whole run, and the lines of words in its memory axis."""
    limit = memory_limit(state)
    highest = max(highest_memory(state), limit[1] if limit else 0)
    s, unit = summarize(state), unit_of(highest)
    left = left_inches(lane.label for lane in lanes)
    parts = memory_words(
        peak=s.peak_rss_bytes, now=s.rss_bytes, when="at the end", device=s.device_bytes,
        models=_most_known_bytes(state), unit=unit, several=state.memory.processes > 1,
        how=s.sized_by,
        unknown=sum(r.load_end_ns is not None and r.bytes is UNKNOWN for r in state.residences),
    )  # fmt: skip
    words = in_lines(parts, " · ", memory_words_inches(left), MEMORY_POINTS)
    seconds = max(state.end_ns - state.start_ns, 1) * NS
    flat = is_flat(_most_known_bytes(state), highest)
    layout = Layout(
        title=title,
        lanes=len(lanes),
        left_inches=left,
        seconds=seconds,
        most_models=_most_models(state),
        limits=limit_lines(state),
        memory=memory_top(highest, len(words), limited=limit is not None, flat=flat),
        unit=unit,
        memory_limit=limit,
        already=s.already > 0,
        failed=s.failed > 0,
        timed_out=len(state.timeouts) > 0,
        refreshes=bool(state.facts(Refreshes)),
        late=leaves_late(state, Seconds(0, round(seconds / NS))),
        evicted=s.evictions > 0,
        freed=any_freed(state),
        flat=flat,
    )
    return layout, words


def memory_top(highest: float, lines: int, *, limited: bool, flat: bool = False) -> float:
    """Upper end of a memory axis with space for lines of words above the curves."""
    if flat:
        return highest * (1.6 + 0.5 * (max(lines, 1) - 1))
    return highest * ((1.36 if limited else 1.3) + 0.2 * (max(lines, 1) - 1))


def memory_words_inches(left_inches: float) -> float:
    """Maximum width of the words in the memory axis."""
    return WIDTH_INCHES - RIGHT_INCHES - left_inches - 0.2


# Models resident


def _held_or_loading(residences: Iterable[Residence]) -> tuple[np.ndarray, np.ndarray]:
    """Number of models held or loading, over time; see `over_time`.

    A loading model takes a slot: Beam evicts before it loads.
    """
    rows = [(r.load_begin_ns, r.loading[1] if r.load_end_ns is None else r.last_ns)
            for r in residences]  # fmt: skip
    return over_time([begin for begin, _ in rows], [end for _, end in rows])


def _most_models(state: State) -> int:
    groups = list(state.residences_by_process.values())
    curve = _held_or_loading if len(groups) == 1 else held_over_time
    return max((int(curve(group)[1].max(initial=0)) for group in groups), default=0)


def _draw_residency(axes: Axes, state: State, x: Seconds) -> None:
    """Draw the models held by each process; with one process, also models being loaded."""
    groups = list(state.residences_by_process.values())
    if len(groups) == 1:
        hatched: theme.Style = {"facecolor": theme.PAPER, "edgecolor": theme.MUTED}
        hatched["hatch"] = "//////"
        filled: theme.Style = {"facecolor": theme.FILL, "edgecolor": theme.FILL}
        for curve, style in ((_held_or_loading, hatched), (held_over_time, filled)):
            seconds, counts = _steps(curve(groups[0]), x)
            axes.fill_between(seconds, counts, step="post", **style, linewidth=0.5)
        return
    for group in groups:
        seconds, counts = _steps(held_over_time(group), x)
        axes.step(seconds, counts, where="post", color=theme.INK, linewidth=1.1)


def _steps(curve: tuple[np.ndarray, np.ndarray], x: Seconds) -> tuple[np.ndarray, np.ndarray]:
    """Extend a curve from the first second of the picture to its last."""
    times, counts = curve
    last = counts[-1:] if len(counts) else np.zeros(1, np.int64)
    return (
        np.concatenate([[0.0], (times - x.start_ns) * NS, [x.end]]),
        np.concatenate([[0], counts, last]),
    )


# Memory


def _write_memory(axes: Axes, words: Sequence[str]) -> None:
    """Explain the curves inside the axes."""
    axes.text(
        0.008, 0.955, "\n".join(words), transform=axes.transAxes, va="top", fontsize=MEMORY_POINTS,
        color=theme.INK,
        bbox={"facecolor": theme.PAPER, "alpha": 0.85, "edgecolor": "none", "pad": 1.5},
    )  # fmt: skip


def limit_in_words(limit: tuple[int, int]) -> str:
    """Describe the parts of a limit from `memory_limit`.

    >>> limit_in_words((340_000_000, 743_000_000))
    'limit: 743 MB = 403 at the start + 340 for the run'
    """
    start, more = parts_of_limit(limit)
    return f"limit: {start + more:,} MB = {start:,} at the start + {more:,} for the run"


def _draw_asked(axes: Axes, state: State, unfit: OutOfMemory, x: Seconds, unit: float) -> None:
    """Draw the failed allocation on top of the resident memory."""
    samples = [
        (abs(t_ns - unfit.at_ns), rss)
        for of in state.processes.values()
        for t_ns, rss in zip(of.rss.t_ns, of.rss.values, strict=True)
    ]
    if not samples or unfit.asked_bytes is None:
        return
    held, at = min(samples)[1], x(unfit.at_ns)
    axes.plot([at, at], [held / unit, (held + unfit.asked_bytes) / unit], color=theme.ALERT,
              linewidth=5, solid_capstyle="butt", zorder=4)  # fmt: skip
    left = at > x.end / 2
    axes.annotate(f"asked for {in_bytes(unfit.asked_bytes)} more", (at, 0.43),
                  xycoords=("data", "axes fraction"), xytext=(-6 if left else 6, 0),
                  textcoords="offset points", ha="right" if left else "left", va="center",
                  fontsize=9, color=theme.ALERT)  # fmt: skip


def draw_memory_curves(axes: Axes, state: State, x: Seconds, unit: float) -> None:
    """Draw resident set size (line), GPU memory (dashed), models' own bytes (area), and the limit.

    There is one line per process; there is one area per machine, and areas overlap.

    Args:
      unit: bytes per unit of the axis.
    """
    for of in state.processes.values():
        for curve, line in ((of.rss, "-"), (of.device_bytes, "--")):
            t_ns, values = state.curve(curve)
            seconds = (t_ns - x.start_ns) * NS
            axes.plot(seconds, values / unit, color=theme.INK, linewidth=1.4, linestyle=line)
    _draw_model_bytes(axes, state, x, unit)


def _highest_rss(state: State) -> int:
    """Highest resident set size sampled during the run, in bytes."""
    curves = (state.curve(of.rss)[1] for of in state.processes.values())
    return max((int(values.max(initial=0)) for values in curves), default=0)


def _most_known_bytes(state: State) -> int:
    """Most known bytes of models held by one machine."""
    areas = (held_over_time(r, sizes=True)[1] for r in state.residences_by_machine.values())
    return max((int(held.max(initial=0)) for held in areas), default=0)


def highest_memory(state: State) -> int:
    """Highest drawn value, in bytes: memory of a process, or models on a machine."""
    return max(_highest_rss(state), _most_known_bytes(state))


def memory_limit(state: State) -> tuple[int, int] | None:
    """Return the limit of the run and the resident set size that it allows, in bytes.

    The limit applies to growth beyond the process's first sample, taken at the begin of the run.
    """
    limits = state.facts(MemoryLimit)
    firsts = [(of.rss.t_ns[0], of.rss.values[0]) for of in state.processes.values() if len(of.rss)]
    if not limits or not firsts:
        return None
    return limits[-1].bytes, min(firsts)[1] + limits[-1].bytes


def _draw_model_bytes(axes: Axes, state: State, x: Seconds, unit: float) -> None:
    for residences in state.residences_by_machine.values():
        seconds, held = _steps(held_over_time(residences, sizes=True), x)
        # Models that were never released drop to 0 at the last moment: not a release.
        if held.any():
            axes.fill_between(
                seconds[:-1], held[:-1] / unit, step="post", color=theme.FILL, linewidth=0
            )


# Words


def _write_headlines(figure: Figure, state: State, unfit: OutOfMemory | None) -> None:
    s = summarize(state)
    parts = [*headline_parts(state), f"{s.wall_seconds:.1f} s, {s.loading_share:.0%} of it loading"]
    write_header(figure, HEADLINE_INCHES, *headline(parts))
    lines = [unfit.what, unfit.advice] if unfit is not None else []
    if unfit is None and state.error:
        lines = state.error.splitlines()[:1]
    for i, line in enumerate(lines):
        line = fitting(line, TEXT_INCHES, 9.5)
        write_header(figure, 0.62 + 0.17 * i, line, 9.5, color=theme.ALERT)


def _outline(state: State, title: str | None) -> str:
    """Describe the picture without times, so that equal runs have equal descriptions."""
    s = summarize(state)
    width = max((len(count.model) for count in count_per_model(state)), default=0)
    lines = [
        f"Timeline of {title_of(state, title)}: {limits_text(s.limits)}, "
        + (f"{plural(s.already, 'model')} already in memory, " if s.already else "")
        + f"{plural(s.loads, 'load')}, "
        f"{plural(s.evictions, 'eviction')}, at most {s.most_resident} resident"
    ]
    for count in count_per_model(state):
        lines.append(
            f"  {printable(count.model):<{width}}  "
            + ("already in memory, " if count.already else "")
            + f"{plural(count.loads, 'load')}, "
            f"{plural(count.evictions, 'eviction')}, "
            + (f"{plural(count.refreshes, 'refresh')}, " if count.refreshes else "")
            + f"{plural(count.uses, 'batch')}, {plural(count.elements, 'element')}"
            + (f", {count.failed:,} failed" if count.failed else "")
            + (f", {count.timed_out:,} timed out" if count.timed_out else "")
        )
    if state.error:
        lines.append(f"  ended with {printable(state.error.split(':')[0])}")
    if (unfit := out_of_memory(state)) is not None:
        lines += [f"  {printable(unfit.what)}", f"  {unfit.advice}"]
    return "\n".join(lines)
