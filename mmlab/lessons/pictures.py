"""Pictures of the lessons' data and results."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from mmlab._arguments import whole_number
from mmlab.draw import theme
from mmlab.draw.picture import Picture, new_figure
from mmlab.lessons.digits import MAPPING, SCANNERS, distorted, pictures


def show_scans(each: int = 3) -> Picture:
    """Draw the first digits as distorted by each scanner, with the model for that scanner.

    Args:
      each: number of digits, 1 to 10.

    Raises:
      TypeError, ValueError: `each` is not a whole number from 1 to 10.
    """
    each = whole_number("each", each, most=10)
    with theme.style():
        return _drawn(each)


def _drawn(each: int) -> Picture:
    upright, labels = pictures("test")
    figure = new_figure(1.3)
    axes = figure.subplots(1, len(SCANNERS))
    model_of = {key: name for name, keys in MAPPING.items() for key in keys}
    colours = theme.model_palette.colours(MAPPING)
    for ax, (key, distortion) in zip(axes, SCANNERS.items(), strict=True):
        scans = distorted(upright[:each], key)
        paper = scans[0, 0, 0]
        framed = np.pad(scans, ((0, 0), (1, 1), (1, 1)), constant_values=paper)
        strip = np.concatenate(framed, axis=1)
        draw_digit(ax, strip, colours[model_of[key]], linewidth=2.5)
        ax.set_title(f"{key}\n{distortion}", fontsize=9.5, color=theme.INK)
        ax.set_xlabel(model_of[key], fontsize=9.5, fontweight="bold", color=theme.INK)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.68, bottom=0.17, wspace=0.08)
    digits = " ".join(map(str, labels[:each]))
    lines = [
        f"{key}: {distortion}, read by {model_of[key]}" for key, distortion in SCANNERS.items()
    ]
    return Picture(figure, f"The digits {digits} as six scanners see them\n  " + "\n  ".join(lines))


def draw_digit(
    axes: Axes, pixels: np.ndarray, frame: str = theme.MUTED, *, linewidth: float = 0.8
) -> None:
    """Draw one scan, or several in a row: ink is 1, paper is 0."""
    axes.imshow(pixels, cmap="gray_r", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=frame, linewidth=linewidth)


def show_right(right: Mapping[str, Mapping[str, int]], scans: int) -> Picture:
    """Draw a table of the scans that each model reads right, by scanner.

    Scanners that a model was trained for are framed.

    Args:
      right: model to key to number of scans read right; missing keys stay empty.
      scans: number of scans of each scanner.
    """
    with theme.style():
        return _right_drawn(right, scans)


def _right_drawn(right: Mapping[str, Mapping[str, int]], scans: int) -> Picture:
    models = sorted(right)
    height = 0.62 + 0.46 * len(models)
    figure = new_figure(height)
    ax = figure.subplots()
    shares = [[right[model].get(key, 0) / scans for key in SCANNERS] for model in models]
    full = theme.tint(theme.PALETTE[2], 0.8)
    hue = LinearSegmentedColormap.from_list("right", [theme.PAPER, full])
    ax.imshow(shares, cmap=hue, vmin=0, vmax=1, aspect="auto")
    for row, model in enumerate(models):
        for column, key in enumerate(SCANNERS):
            _write_count(ax, column, row, right[model].get(key, ""), framed=key in MAPPING[model])
    keys = [f"{key}\n{distortion}" for key, distortion in SCANNERS.items()]
    ax.set_xticks(range(len(keys)), keys, fontsize=9.5)
    ax.set_yticks(range(len(models)), models, fontsize=9.5, fontweight="bold")
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.spines[:].set_visible(False)
    figure.subplots_adjust(left=0.1, right=0.99, top=1 - 0.5 / height, bottom=0.05 / height)
    return Picture(figure, _right_in_words(right, scans))


def _write_count(ax: Axes, column: int, row: int, count: int | str, framed: bool) -> None:
    ax.text(
        column, row, str(count), ha="center", va="center", weight="bold" if framed else "normal"
    )
    if framed:
        corner = column - 0.46, row - 0.42
        ax.add_patch(Rectangle(corner, 0.92, 0.84, fill=False, linewidth=1.6, color=theme.INK))


def _right_in_words(right: Mapping[str, Mapping[str, int]], scans: int) -> str:
    lines = [f"Scans read right, of {scans}, from {', '.join(SCANNERS)}"]
    for model in sorted(right):
        counts = (str(right[model].get(key, "–")) for key in SCANNERS)
        lines.append(f"  {model}: {', '.join(counts)}")
    return "\n".join(lines)
