"""Pictures of digits before, between and after the two models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmlab.draw import theme
from mmlab.draw.picture import Picture, new_figure
from mmlab.lessons.digits import SIDE
from mmlab.lessons.pictures import draw_digit
from mmlab.lessons.sequence.scans import first_scans, label_of, written

_ROW_INCHES, _CAPTION_INCHES = 0.72, 0.32
_RIGHT, _WRONG = theme.INK, theme.ALERT


def show(
    rows: Mapping[str, Sequence[Any]],
    scans: Sequence[str],
    digits: Mapping[str, Sequence[int]] | None = None,
) -> Picture:
    """Draw rows of pictures, one column per scan, with the digits read below a row.

    Args:
      rows: name of the row to its pictures, of 64 or 8 by 8 pixels each.
      scans: names of the scans, in the order of the columns.
      digits: name of a row to the digits read from its pictures; wrong ones are marked with a
        cross.
    """
    with theme.style():
        figure = _drawn(rows, scans, digits or {})
    return Picture(figure, _in_words(rows, scans, digits or {}))


def show_lamp(count: int = 12) -> Picture:
    """Draw the first `count` digits as written and as scanned."""
    scans = dict(first_scans(count))
    rows = {"written": [written(scan) for scan in scans], "scanned": list(scans.values())}
    return show(rows, list(scans))


def _drawn(
    rows: Mapping[str, Sequence[Any]], scans: Sequence[str], digits: Mapping[str, Sequence[int]]
) -> Figure:
    inches = [_ROW_INCHES + _CAPTION_INCHES * (name in digits) for name in rows]
    figure = new_figure(sum(inches) + 0.1)
    top = 1.0
    for (name, pictures), height in zip(rows.items(), inches, strict=True):
        top -= height / figure.get_figheight()
        caption = height - _ROW_INCHES
        for column, pixels in enumerate(pictures):
            axes = figure.add_axes(
                (
                    0.15 + 0.85 * column / len(scans),
                    top + caption / figure.get_figheight(),
                    0.85 / len(scans) * 0.94,
                    _ROW_INCHES * 0.94 / figure.get_figheight(),
                )
            )
            draw_digit(axes, np.asarray(pixels).reshape(SIDE, SIDE), theme.GRID)
            if name in digits:
                _write_digit(axes, digits[name][column], label_of(scans[column]))
            if column == 0:
                axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    return figure


def _write_digit(axes: Axes, digit: int, label: int) -> None:
    right = digit == label
    words = str(digit) if right else f"✗ {digit}"
    weight = "normal" if right else "bold"
    axes.set_xlabel(
        words, fontsize=11, color=_RIGHT if right else _WRONG, fontweight=weight, labelpad=2
    )


def _in_words(
    rows: Mapping[str, Sequence[Any]], scans: Sequence[str], digits: Mapping[str, Sequence[int]]
) -> str:
    labels = " ".join(str(label_of(scan)) for scan in scans)
    return f"The digits {labels}: {', '.join(rows)}"
