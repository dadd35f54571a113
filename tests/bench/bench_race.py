"""What drawing a race costs: CPU of the pictures beside that of the same race undrawn.

Rounds alternate, and the median is shown. At most 5% of the CPU of the race may go into pictures.
"""

from __future__ import annotations

import os
import statistics
import time

import psutil

from mmlab.compare import hints
from mmlab.draw.paint import png
from mmlab.explorer.setting import Setting, build

ROUNDS = 5
SETTING = Setting(models=4, megabytes=64, elements=48)


class PngScreen:
    """Makes each frame, as a notebook's screen does, and shows it nowhere."""

    frames = 0

    def wait(self, picture):
        self.show(picture)

    def show(self, picture):
        png(picture.image())
        PngScreen.frames += 1

    def finish(self, trace, title=None):
        pass

    def clear(self):
        pass


def race(screen) -> tuple[float, float]:
    """CPU seconds of this process, and wall seconds."""
    hints.screen_for = lambda live, text: screen
    own = psutil.Process().cpu_times()
    began = time.monotonic()

    def with_hint(pipeline, hint):
        build(pipeline, Setting(**{**vars(SETTING), "hint": hint}))

    hints.compare_hints(with_hint, (1, 2, 4, None), together=True, progress=None)
    wall, now = time.monotonic() - began, psutil.Process().cpu_times()
    return now.user + now.system - own.user - own.system, wall


def main() -> None:
    race(None)  # the template starts
    rows = [(race(None), race(PngScreen())) for _ in range(ROUNDS)]
    extra = statistics.median(drawn[0] - undrawn[0] for undrawn, drawn in rows)
    wall = statistics.median(undrawn[1] for undrawn, _ in rows)
    cores = len(os.sched_getaffinity(0))
    print(f"a race of four hints: {wall:.1f} s on {cores} cores, undrawn")
    print(f"its pictures: {extra:.2f} s of CPU in {PngScreen.frames / ROUNDS:.0f} frames, "
          f"{extra / (wall * cores):.1%} of the machine (limit 5%)")  # fmt: skip


if __name__ == "__main__":
    main()
