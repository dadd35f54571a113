"""Pictures of grainy digits, and of differences in accuracy with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mmlab.draw import theme
from mmlab.draw.picture import Picture, new_figure
from mmlab.lessons.ab.comparison import Difference
from mmlab.lessons.ab.digits import scans_and_labels
from mmlab.lessons.digits import pictures
from mmlab.lessons.pictures import draw_digit


def show_digits(count: int = 12) -> Picture:
    """Draw the first `count` test digits as written and as scanned."""
    written, labels = (part[:count] for part in pictures("test"))
    scans = scans_and_labels()[0][:count]
    with theme.style():
        figure = new_figure(1.75)
        axes = figure.subplots(2, count, squeeze=False)
        figure.subplots_adjust(left=0.1, right=0.995, top=0.98, bottom=0.02, hspace=0.08)
        for column in range(count):
            draw_digit(axes[0, column], written[column])
            draw_digit(axes[1, column], scans[column])
        for row, words in enumerate(("written", "scanned")):
            axes[row, 0].set_ylabel(words, rotation=0, ha="right", va="center", fontsize=10)
    return Picture(figure, f"The digits {' '.join(map(str, labels))}, as written and as scanned")


def show_disagreements(answers: pd.DataFrame, each: int = 6) -> Picture:
    """Draw scans that one model reads right and the other wrong.

    Args:
      answers: columns `id`, `label`, `A` and `B`, the digits that the models read.
      each: most scans of either kind.
    """
    scans = scans_and_labels()[0]
    a, b = answers["A"] == answers["label"], answers["B"] == answers["label"]
    kinds = {"only A is right": answers[a & ~b], "only B is right": answers[b & ~a]}
    with theme.style():
        figure = new_figure(1.35)
        lines = []
        for place, (kind, rows) in enumerate(kinds.items()):
            words = f"{kind}: {len(rows)} digits"
            lines.append(words)
            left = 0.01 + 0.505 * place
            grid = figure.add_gridspec(
                1, each, left=left, right=left + 0.475, top=0.62, bottom=0.02
            )
            figure.text(left, 0.98, words, va="top", fontsize=10.5, fontweight="bold")
            for column, row in enumerate(rows.head(each).to_dict("records")):
                ax = figure.add_subplot(grid[column])
                draw_digit(ax, scans[int(row["id"].removeprefix("digit-"))])
                ax.set_title(f"A: {row['A']}  B: {row['B']}", fontsize=9, color=theme.INK)
    return Picture(figure, "Where the models differ\n  " + "\n  ".join(lines))


def show_differences(differences: Mapping[str, Difference]) -> Picture:
    """Draw several measurements of the difference between A and B on one scale.

    Args:
      differences: name of the measurement to its difference.
    """
    height = 1.35 + 0.85 * len(differences)
    with theme.style():
        figure = new_figure(height)
        axes = figure.add_axes((0.03, 0.62 / height, 0.94, 1 - 1.12 / height))
        _dress(axes)
        for place, (words, difference) in enumerate(differences.items()):
            _draw_difference(axes, len(differences) - 1 - place, words, difference)
        axes.set_ylim(-0.35, len(differences) - 0.12)
        axes.set_xlabel(
            "accuracy of B minus accuracy of A, in percentage points", fontsize=10, color=theme.INK
        )
        reach = 1.08 * max(np.abs(d.draws).max() for d in differences.values())
        axes.set_xlim(-reach, reach)
        style: dict[str, Any] = {"fontsize": 10, "color": theme.MUTED, "va": "top"}
        top = 1 - 0.1 / height
        figure.text(0.03, top, "← A is better", **style)
        figure.text(0.97, top, "B is better →", ha="right", **style)
        figure.text(0.5, top, "no difference", ha="center", **style)
    lines = [f"{words}: {difference!r}" for words, difference in differences.items()]
    return Picture(figure, "\n".join(lines))


def _dress(axes: Axes) -> None:
    axes.axvline(0, color=theme.INK, linewidth=1)
    axes.set_yticks([])
    axes.tick_params(colors=theme.INK, labelsize=9.5)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.MUTED)


def _draw_difference(axes: Axes, floor: float, words: str, found: Difference) -> None:
    """Plot the draws as a density, the interval as a bar below it, the difference as a dot."""
    colour = theme.PALETTE[0] if found.tells_which else theme.MUTED
    places, heights = _hill(found.draws)
    axes.fill_between(
        places, floor, floor + 0.5 * heights, color=theme.tint(colour, 0.25), linewidth=0
    )
    axes.plot([found.low, found.high], [floor, floor], color=colour, linewidth=5,
              solid_capstyle="butt")  # fmt: skip
    axes.plot(found.points, floor, "o", color=theme.PAPER, markeredgecolor=colour,
              markeredgewidth=2.5, markersize=9, zorder=3)  # fmt: skip
    axes.annotate(f"{words}: {found!r}", (0, floor + 0.56), xycoords=("axes fraction", "data"),
                  fontsize=10, fontweight="bold", color=theme.INK,
                  bbox={"facecolor": theme.PAPER, "linewidth": 0, "pad": 1.5})  # fmt: skip


def _hill(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed density of the draws, scaled to a maximum of 1: places and heights.

    Smoothed, because shares of a few hundred digits are discrete and a histogram would be jagged.
    """
    width = max(float(draws.std()), 0.1)
    edges = np.linspace(draws.min() - width, draws.max() + width, 161)
    middles = (edges[:-1] + edges[1:]) / 2
    counts, _ = np.histogram(draws, edges)
    distances = (middles[:, None] - middles) / (0.3 * width)
    heights = np.exp(-(distances**2) / 2) @ counts
    return middles, heights / heights.max()
