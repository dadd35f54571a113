"""Sizes of a picture of several runs, and of its parts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmlab.draw.layout import TITLE_INCHES
from mmlab.draw.picture import PIXELS_PER_INCH, WIDTH_INCHES


@dataclass(frozen=True)
class Sheet:
    """The measures of a picture, all but the last in inches.

    Attributes:
      width: of the picture.
      most_height: what fits on a screen.
      head: the title, and the line below it.
      foot: the ticks of the time axis, its label, and the legend.
      block: from one run's memory to the next run's lanes, with a line of words between.
      lanes, slim_lanes: heights of a lane, the first that fits; the slim ones only where runs stand
        in columns.
      memory: heights of the axes of memory, the first that fits.
      columns: how many runs stand beside each other; None for as few as fit.
      title_points: size of the title.
      words_points: size of the lines below it.
      memory_room: the axes of memory go up to so many times the highest value: there may be words
        above it.
      explains: whether axes and legend say what they are in full; else they are short.
      pixels_per_inch: on the screen.
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
        """From the top of the picture to the line below the title, in inches."""
        return TITLE_INCHES + self.title_points / 72 * 1.55

    @property
    def text_width(self) -> float:
        """Of a line of the header, in inches."""
        return self.width - 0.25

    def pixels(self, inches: float) -> int:
        """Inches as whole pixels of the screen."""
        return round(inches * self.pixels_per_inch)


NOTEBOOK = Sheet()
"""What fits on a laptop's screen without scrolling."""
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
"""Part of a screen of 1280 × 720 pixels that is read from a distance; 8.5 points are 20 pixels."""
PROJECTOR_RACE = replace(PROJECTOR, most_height=3.95)
"""The whole of that screen, except for a row of buttons."""
