"""Pictures of the data, so that the cells of a lesson stay about pipelines."""

from __future__ import annotations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmlab.lessons.digits import MAPPING, SCANNERS, distorted, pictures
from mmlab.plots import theme
from mmlab.plots.picture import Picture


def show_scans(each: int = 5) -> Picture:
    """The same `each` digits as every scanner sees them, and the model that reads them."""
    upright, labels = pictures("test")
    figure = Figure(figsize=(9.5, 1.75), facecolor=theme.PAPER)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(SCANNERS))
    model_of = {key: name for name, keys in MAPPING.items() for key in keys}
    colours = theme.model_palette.colours(MAPPING)
    for ax, (key, distortion) in zip(axes, SCANNERS.items(), strict=True):
        strip = distorted(upright[:each], key).transpose(1, 0, 2).reshape(8, -1)
        ax.imshow(strip, cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"{key}\n{distortion}", fontsize=9.5, color=theme.INK)
        ax.set_xlabel(model_of[key], fontsize=9.5, fontweight="bold", color=theme.INK)
        for spine in ax.spines.values():
            spine.set(color=colours[model_of[key]], linewidth=2.5)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.72, bottom=0.14, wspace=0.08)
    digits = " ".join(map(str, labels[:each]))
    lines = [
        f"{key}: {distortion}, read by {model_of[key]}" for key, distortion in SCANNERS.items()
    ]
    return Picture(figure, f"The digits {digits} as six scanners see them\n  " + "\n  ".join(lines))
