"""Curves of loads and memory over hints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mmlab import fonts
from mmlab._text import in_bytes
from mmlab.draw import theme
from mmlab.draw.layout import unit_name, unit_of
from mmlab.draw.picture import Picture, new_figure

_MARKED_HINTS = 40
"""Highest number of hints that are marked one by one."""
_LOG_FROM = 30
"""Factor between the most and the fewest loads above which the scale is logarithmic."""


@dataclass(frozen=True, eq=False)
class HintCurves:
    """Loads and memory for every hint from 1 to the number of models.

    Attributes:
      about: the run or workload, in words.
      loads: loads with Beam's rule, shape (models,); entry h - 1 is hint h.
      optimum: fewest possible loads, same shape; None if not computed.
      grouped_by_key: loads after a GroupByKey, same shape.
      grouped_by_model: loads after a GroupByModel, the same for every hint.
      model_bytes: bytes of models in the fullest process, same shape; None without sizes.
      buffer_bytes: other memory of the fullest process; None if not measured.
      copies: copies of the handler that share a limit; the limit is the hint times `copies`.
      cliff: steep fall of loads: the hints before and after it, and the loads at both; None
        without one.
    """

    about: str
    loads: np.ndarray
    optimum: np.ndarray | None
    grouped_by_key: np.ndarray
    grouped_by_model: int
    model_bytes: np.ndarray | None
    buffer_bytes: int | None
    copies: int
    cliff: tuple[int, int, int, int] | None

    @property
    def models(self) -> int:
        return len(self.loads)

    @property
    def hints(self) -> np.ndarray:
        return np.arange(1, self.models + 1)


def draw_hints(curves: HintCurves, text: str, title: str | None = None) -> Picture:
    """Draw loads over hints.

    The upper axes show loads with Beam's rule and their cliff, the fewest possible loads, loads
    after a GroupByKey, and one load per model. If sizes are known, the lower axes show the memory
    that the fullest process needs for models, and the buffer measured by a trace.

    Args:
      curves: the data.
      text: replaces the picture where only text can be shown.
      title: replaces the first line.
    """
    with theme.style():
        return Picture(_drawn(curves, title), text)


def _drawn(p: HintCurves, title: str | None) -> Figure:
    two = p.model_bytes is not None
    height = 5.6 if two else 4.1
    figure = new_figure(height)
    ratios = [2.4, 1] if two else [1]
    axes = figure.subplots(
        len(ratios), 1, sharex=True, squeeze=False,
        gridspec_kw={"height_ratios": ratios, "hspace": 0.14},
    )[:, 0]  # fmt: skip
    figure.subplots_adjust(left=0.095, right=0.79, top=1 - 0.82 / height, bottom=0.55 / height)
    for ax in axes:
        _frame(ax)
    _draw_loads(axes[0], p)
    if two:
        _draw_memory(axes[1], p)
    x = axes[-1]
    limit = f" (limit = hint × {p.copies})" if p.copies > 1 else ""
    x.set_xlabel(f"max_models_per_worker_hint{limit}", color=theme.INK, fontsize=9.5)
    x.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
    x.set_xlim(0.5, p.models + 0.5)
    head = fonts.drawable(title or "Loads for every hint, predicted")
    figure.text(
        0.012, 1 - 0.12 / height, head, fontsize=14, fontweight="bold", va="top", color=theme.INK
    )
    figure.text(0.012, 1 - 0.42 / height, p.about, fontsize=10.5, va="top", color=theme.INK)
    return figure


def _frame(axes: Axes) -> None:
    axes.tick_params(colors=theme.INK, labelsize=9.5, length=0)
    axes.grid(axis="y", color=theme.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.MUTED)


# Loads


def _draw_loads(axes: Axes, p: HintCurves) -> None:
    few = p.models <= _MARKED_HINTS
    curves: list[tuple[str, Any, dict[str, Any]]] = [
        ("Beam (LRU)", p.loads, {"color": theme.PALETTE[0], "linewidth": 2.2, "marker": "o"}),
    ]
    if p.optimum is not None:
        style = {"color": theme.PALETTE[2], "linewidth": 1.5, "linestyle": "--", "marker": "D"}
        curves.append(("fewest possible", p.optimum, style))
    per_model = np.full(p.models, p.grouped_by_model)
    same = np.array_equal(per_model, p.grouped_by_key)
    if not same:
        style = {"color": theme.PALETTE[4], "linewidth": 1.5, "linestyle": ":", "marker": "s"}
        curves.append(("after GroupByKey", p.grouped_by_key, style))
    style = {"color": theme.PALETTE[6], "linewidth": 1.2, "linestyle": "-.", "marker": "|"}
    name = "after GroupByKey,\nor per model" if same else "grouped per model"
    curves.append((name, per_model, style))
    for name, values, look in curves:
        look = {**look, "markersize": 4.5, "markerfacecolor": theme.PAPER}
        if not few:
            look["marker"] = ""
        axes.plot(p.hints, values, label=name, **look)
    highest, lowest = int(p.loads.max()), max(min(int(v.min()) for _, v, _ in curves), 1)
    if highest > _LOG_FROM * lowest:
        axes.set_yscale("log")
        axes.set_ylim(lowest * 0.6, highest * 2)
    else:
        axes.set_ylim(0, highest * 1.2)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(FuncFormatter(_short_count))
    axes.set_ylabel("loads", color=theme.INK, fontsize=9.5)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.005, 1.02), frameon=False, fontsize=9.5,
        handlelength=2.8, labelcolor=theme.INK,
    )  # fmt: skip
    _mark_cliff(axes, p)


def _short_count(value: float, _: int | None = None) -> str:
    """
    >>> _short_count(40), _short_count(10_000), _short_count(2_500_000)
    ('40', '10,000', '2.5 M')
    """
    return f"{value / 1e6:g} M" if value >= 1e6 else f"{value:,.0f}"


def _mark_cliff(axes: Axes, p: HintCurves) -> None:
    if p.cliff is None:
        return
    hint, foot, before, after = p.cliff
    axes.axvspan(hint, foot, color=theme.FILL, alpha=0.45, linewidth=0, zorder=0)
    left = (hint + foot) / 2 > p.models / 2
    axes.annotate(
        f"the cliff: {before:,} → {after:,}",
        (hint if left else foot, 0.985),
        xycoords=("data", "axes fraction"),
        xytext=(-7 if left else 7, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        fontsize=9.5,
        fontweight="bold",
        color=theme.INK,
    )


# Memory


def _draw_memory(axes: Axes, p: HintCurves) -> None:
    few = p.models <= _MARKED_HINTS
    held = np.asarray(p.model_bytes)
    buffer = p.buffer_bytes
    top = held + (buffer or 0)
    unit = unit_of(top.max())
    if few:
        axes.bar(p.hints, held / unit, width=0.62, color=theme.FILL, edgecolor=theme.MUTED,
                 linewidth=0.6)  # fmt: skip
    else:
        axes.fill_between(p.hints, held / unit, color=theme.FILL, step="mid", linewidth=0)
    notes = [f"grey: models,\nat most {in_bytes(held.max())}"]
    if buffer is not None:
        if few:
            axes.bar(p.hints, buffer / unit, width=0.62, bottom=held / unit, color=theme.PAPER,
                     edgecolor=theme.MUTED, linewidth=0.6, hatch="////")  # fmt: skip
        else:
            axes.fill_between(
                p.hints, held / unit, top / unit, step="mid", facecolor=theme.PAPER,
                edgecolor=theme.MUTED, hatch="////", linewidth=0,
            )  # fmt: skip
        notes.append(f"hatched: beside them,\n{in_bytes(buffer)}, measured")
    axes.set_ylim(0, top.max() / unit * 1.1 or 1)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.set_ylabel(f"{unit_name(unit)} in the\nfullest process", color=theme.INK, fontsize=9.5)
    axes.text(
        1.015, 0.98, "\n\n".join(notes), transform=axes.transAxes, va="top", fontsize=9.5,
        color=theme.INK,
    )  # fmt: skip
