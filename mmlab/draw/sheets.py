"""Sizes of pictures of several runs, and of their parts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmlab.draw.layout import TITLE_INCHES
from mmlab.draw.picture import PIXELS_PER_INCH, WIDTH_INCHES


@dataclass(frozen=True)
class Sheet:
    """Sizes of a picture, in inches if no other unit is given.

    Attributes:
      width: width of the picture.
      most_height: maximum height, which fits on a screen.
      head: height of the title and the line below it.
      foot: height of the ticks and label of the time axis, and of the legend.
      block: distance from one run's memory to the next run's lanes, with a line of words.
      lanes, slim_lanes: heights of a lane to try in this order; slim ones only with several
        columns of runs.
      memory: heights of the memory axes to try in this order.
      columns: number of columns of runs; None for as few as fit.
      title_points: font size of the title.
      words_points: font size of the lines below the title.
      memory_room: upper end of the memory axes as a multiple of the highest value: words may be
        written above it.
      explains: whether axes and legend are explained in full; if not, briefly.
      pixels_per_inch: resolution on the screen.
    """

    width: float = WIDTH_INCHES
    most_height: float = 7.0
    head: float = 0.72
    foot: float = 0.85
    block: float = 0.56
    lanes: tuple[float, ...] = (0.25, 0.2)
    slim_lanes: tuple[float, ...] = (0.16, 0.13, 0.11)
    memory: tuple[float, ...] = (0.7, 0.45)
    columns: int | None = None
    title_points: float = 14
    words_points: float = 10
    memory_room: float = 1.42
    explains: bool = True
    pixels_per_inch: float = PIXELS_PER_INCH

    @property
    def second_line(self) -> float:
        """Distance from the top of the picture to the line below the title, in inches."""
        return TITLE_INCHES + self.title_points / 72 * 1.55

    @property
    def text_width(self) -> float:
        """Width of a line of the header, in inches."""
        return self.width - 0.25

    def pixels(self, inches: float) -> int:
        """Convert inches to whole pixels of the screen."""
        return round(inches * self.pixels_per_inch)


NOTEBOOK = Sheet()
"""A picture that fits on a laptop's screen without scrolling."""
PROJECTOR = Sheet(
    width=7.35,
    most_height=2.5,
    head=0.42,
    foot=0.36,
    block=0.26,
    lanes=(0.2, 0.16),
    slim_lanes=(0.145,),
    memory=(0.34,),
    columns=2,
    title_points=11,
    words_points=9,
    memory_room=1.1,
    explains=False,
    pixels_per_inch=170,
)
"""Part of a 1280 × 720 screen that is legible from a distance; 8.5 points are 20 pixels."""
PROJECTOR_RACE = replace(PROJECTOR, most_height=3.95)
"""A whole 1280 × 720 screen, except for a row of buttons."""
