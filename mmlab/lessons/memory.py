"""Two pictures of memory: the parts of the peak, and the time from evicted to freed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmlab._text import in_megabytes
from mmlab.draw import theme
from mmlab.draw.layout import MB
from mmlab.draw.picture import WIDTH_INCHES, Picture, new_figure
from mmlab.events import Unknown
from mmlab.trace import Trace

_ROW_INCHES = 0.42
_DOTS_ROW_INCHES = 0.8
_LEFT_INCHES = 2.1
_PARTS = (
    ("before the first model: Python, PyTorch, Beam, the transforms", theme.FILL),
    ("the models", theme.INK),
    ("the rest of the peak", theme.MUTED),
)


def show_memory(traces: Mapping[str, Trace]) -> Picture:
    """Draw the peak memory of each run, split into models and the rest of the process.

    Args:
      traces: name of the run to its trace; each from a fresh process, so that no models of an
        earlier run are in memory.
    """
    shares = {name: _memory_shares(trace) for name, trace in traces.items()}
    words = "\n".join(
        f"  {name}: {in_megabytes(models)} of models" for name, (_, models, _) in shares.items()
    )
    with theme.style():
        return Picture(_drawn_shares(shares), f"Memory at the peak, run by run\n{words}")


def _memory_shares(trace: Trace) -> tuple[int, int, int]:
    """Split the peak into bytes before the first model, bytes of models, and the rest.

    The first is the last sample of the process's resident set size before its first load. The
    second is the most bytes of models that it held at once. The rest is the second copy of a model
    that is being loaded, buffers, and the memory of Beam while it runs.

    Raises:
      ValueError: the run loaded no model, no memory was sampled in the process that did, or the
        size of its models is not known.
    """
    if not trace.residences:
        raise ValueError(
            "the trace must have a load of a model, got none: give that of a run that loads one"
        )
    first = trace.residences[0]
    t_ns, rss = trace.curve(trace.processes[first.process].rss)
    if not len(rss):
        raise ValueError(
            f"the trace must have memory samples of {first.process}, got none: give that of "
            "another run"
        )
    before = int(rss[max(np.searchsorted(t_ns, first.load_begin_ns, side="right") - 1, 0)])
    summary = trace.summary()
    models = summary.model_bytes or 0
    if isinstance(models, Unknown):
        raise ValueError(
            "the trace must have the bytes of its models, got unknown: give that of another run"
        )
    return before, models, max((summary.peak_rss_bytes or 0) - before - models, 0)


def _drawn_shares(shares: Mapping[str, Sequence[int]]) -> Figure:
    figure, axes = _rows(list(shares), _ROW_INCHES, 1.25)
    for row, share in enumerate(shares.values()):
        left = 0.0
        for value, (_, colour) in zip(share, _PARTS, strict=True):
            axes.barh(row, value / MB, left=left, height=0.62, color=colour, edgecolor=theme.PAPER)
            if value / MB > 40:
                axes.text(
                    left + value / MB / 2, row, f"{value / MB:,.0f}", fontsize=9.5,
                    ha="center", va="center", color=theme.readable_on(colour),
                )  # fmt: skip
            left += value / MB
        axes.text(left, row, f"  {left:,.0f}", va="center", fontweight="bold", color=theme.INK)
    axes.set_xlim(0, 1.12 * max(sum(share) for share in shares.values()) / MB)
    axes.set_xlabel("MB at the peak of the run (resident set size)")
    patches = [axes.barh(0, 0, color=colour).patches[0] for _, colour in _PARTS]
    figure.legend(
        patches, [name for name, _ in _PARTS], loc="upper left", ncols=3, frameon=False, fontsize=9
    )
    return figure


def show_release(traces: Mapping[str, Trace]) -> Picture:
    """Draw the time from eviction to release, one dot per eviction.

    Args:
      traces: name of the run to its trace.
    """
    rows = {name: _release_delays(trace) for name, trace in traces.items()}
    words = "\n".join(
        f"  {name}: {len(delays)} evictions, {sum(freed for _, freed in delays)} freed in the run"
        for name, delays in rows.items()
    )
    with theme.style():
        return Picture(_drawn_delays(rows), f"From evicted to freed\n{words}")


def _release_delays(trace: Trace) -> list[tuple[float, bool]]:
    """Milliseconds from each eviction to the release, and whether the release was seen.

    If it was not seen, the time is up to the end of the run.
    """
    return [
        ((r.last_ns - r.evict_ns) / 1e6, r.free_ns is not None)
        for r in trace.residences
        if r.evict_ns is not None
    ]


def _drawn_delays(rows: Mapping[str, list[tuple[float, bool]]]) -> Figure:
    figure, axes = _rows(list(rows), _DOTS_ROW_INCHES, 1.2)
    style: dict[str, Any] = {
        "facecolor": theme.PAPER,
        "edgecolor": theme.INK,
        "linewidth": 1,
        "s": 26,
    }
    for row, delays in enumerate(rows.values()):
        # Spread vertically, in order of the evictions, so that no dot hides another.
        heights = row + np.linspace(-0.36, 0.36, len(delays) + 2)[1:-1]
        for freed, marker, label in ((True, "o", "freed"), (False, ">", "not before the end")):
            dots = [
                (max(delay, 0.001), height)
                for (delay, seen), height in zip(delays, heights, strict=True)
                if seen is freed
            ]
            if dots:
                axes.scatter(*zip(*dots, strict=True), marker=marker, label=label, **style)
    longest = max((delay for delays in rows.values() for delay, _ in delays), default=1)
    axes.set_xscale("log")
    axes.set_xlim(0.005, 10 ** np.ceil(np.log10(max(longest, 0.01) * 1.2)))
    axes.xaxis.set_major_formatter(lambda ms, _: f"{ms / 1e3:g} s" if ms >= 100 else f"{ms:g} ms")
    axes.tick_params(which="minor", bottom=False)
    axes.set_xlabel("from eviction until the memory is released")
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(
        unique.values(), unique.keys(), loc="upper left", ncols=2, frameon=False, fontsize=9
    )
    return figure


def _rows(names: list[str], row_inches: float, beside_inches: float) -> tuple[Figure, Axes]:
    """Axes with one row per name, first on top, and space for a legend above and an axis below."""
    height = beside_inches + row_inches * len(names)
    figure = new_figure(height)
    left = _LEFT_INCHES / WIDTH_INCHES
    bottom = 0.62 / height
    axes = figure.add_axes((left, bottom, 0.98 - left, row_inches * len(names) / height))
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", color=theme.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(left=False, labelsize=9.5, labelcolor=theme.INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure, axes
