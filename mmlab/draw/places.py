"""Places of a frame's axes on its canvas."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from mmlab.draw.paint import Canvas, Flags, is_background


@dataclass(frozen=True)
class Place:
    """The place of axes on the canvas, in pixels.

    Attributes:
      rows, columns: slices of the canvas inside the axes.
      pixels_per_unit: scale of the vertical axis.
      free: pixels that may be painted.
    """

    rows: slice
    columns: slice
    pixels_per_unit: float
    free: Flags

    @property
    def top(self) -> int:
        return int(self.rows.start)

    @property
    def foot(self) -> int:
        return int(self.rows.stop)

    @property
    def left(self) -> int:
        return int(self.columns.start)

    @property
    def right(self) -> int:
        return int(self.columns.stop)

    def moved(self, down: int, right: int) -> Place:
        """The same place elsewhere on the canvas."""
        return replace(
            self,
            rows=slice(self.top + down, self.foot + down),
            columns=slice(self.left + right, self.right + right),
        )

    def area(self, canvas: Canvas) -> Canvas:
        return canvas[self.rows, self.columns]

    def heights(
        self, values: npt.NDArray[np.float64], now: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Convert values to pixels above the foot; 0 after `now`."""
        pixels = np.nan_to_num(values * self.pixels_per_unit).astype(np.int64)
        return np.where(np.arange(len(pixels)) <= now, pixels, 0)

    def points(self, values: npt.NDArray[np.float64]) -> list[tuple[float, float]]:
        """Convert a curve to points of the canvas, leaving out columns without a value."""
        columns = np.flatnonzero(~np.isnan(values))
        rows = self.foot - values[columns] * self.pixels_per_unit
        return list(zip((columns + self.left).tolist(), rows.tolist(), strict=True))


def place_of(axes: Axes, canvas: Canvas, unit: float) -> Place:
    """The place of axes on the canvas.

    Args:
      unit: unit of the vertical axis, in bytes or models.
    """
    box = axes.get_window_extent()
    rows = slice(len(canvas) - round(box.y1), len(canvas) - round(box.y0))
    columns = slice(round(box.x0), round(box.x1))
    top = axes.get_ylim()[1] * unit
    return Place(rows, columns, box.height / top, is_background(canvas[rows, columns]))


def lane_rows(axes: Axes, canvas: Canvas, lanes: int) -> tuple[int, ...]:
    """The row of the canvas in the middle of each lane."""
    rows = [axes.transData.transform((0, y))[1] for y in range(lanes)]
    return tuple(len(canvas) - round(row) for row in rows)
