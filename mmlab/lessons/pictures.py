"""Pictures of the data, so that the cells of a lesson stay about pipelines."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmlab._arguments import whole_number
from mmlab.lessons.digits import MAPPING, SCANNERS, distorted, pictures
from mmlab.plots import theme
from mmlab.plots.picture import Picture


def show_scans(each: int = 3) -> Picture:
    """The same `each` digits, 1 to 10, as every scanner sees them, and the model that reads them.

    Raises:
      TypeError, ValueError: `each` is no such number.
    """
    each = whole_number("each", each, most=10)
    with theme.style():
        return _drawn(each)


def _drawn(each: int) -> Picture:
    upright, labels = pictures("test")
    figure = Figure(figsize=(9.5, 1.3), facecolor=theme.PAPER)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(SCANNERS))
    model_of = {key: name for name, keys in MAPPING.items() for key in keys}
    colours = theme.model_palette.colours(MAPPING)
    for ax, (key, distortion) in zip(axes, SCANNERS.items(), strict=True):
        scans = distorted(upright[:each], key)
        paper = scans[0, 0, 0]
        framed = np.pad(scans, ((0, 0), (1, 1), (1, 1)), constant_values=paper)
        strip = np.concatenate(framed, axis=1)
        ax.imshow(strip, cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"{key}\n{distortion}", fontsize=9.5, color=theme.INK)
        ax.set_xlabel(model_of[key], fontsize=9.5, fontweight="bold", color=theme.INK)
        for spine in ax.spines.values():
            spine.set(color=colours[model_of[key]], linewidth=2.5)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.68, bottom=0.17, wspace=0.08)
    digits = " ".join(map(str, labels[:each]))
    lines = [
        f"{key}: {distortion}, read by {model_of[key]}" for key, distortion in SCANNERS.items()
    ]
    return Picture(figure, f"The digits {digits} as six scanners see them\n  " + "\n  ".join(lines))
