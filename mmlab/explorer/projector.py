"""The explorer's pictures on a projector: the previous run beside the new one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mmlab.compare.comparison import line_of
from mmlab.draw.comparison import Multiple, draw_comparison, words_of
from mmlab.draw.picture import Picture
from mmlab.draw.race import RacePicture
from mmlab.draw.sheets import PROJECTOR
from mmlab.events import Event
from mmlab.fresh.outcome import RunOutcome
from mmlab.state import State
from mmlab.watching.follow import view_of
from mmlab.watching.screens import EventFrames, Screen


def names_of(settings: Sequence[Sequence[str]], last: int) -> tuple[str, list[str]]:
    """Return the common parts of settings, and a name for each run: its number and differences.

    Args:
      settings: parts of the description of each setting; see `parts_of`.
      last: number of the last run.

    >>> names_of([["hint 2", "4 models"], ["hint 4", "4 models"]], 7)
    ('4 models', ['run 6: hint 2', 'run 7: hint 4'])
    >>> names_of([["hint 2", "4 models"]], 1)
    ('hint 2, 4 models', ['run 1'])
    """
    common = [part for part in settings[0] if all(part in parts for parts in settings)]
    labels = []
    for number, parts in enumerate(settings, start=last - len(settings) + 1):
        own = ", ".join(part for part in parts if part not in common)
        labels.append(f"run {number}: {own}" if own else f"run {number}")
    return ", ".join(common), labels


def live_pair(
    before: RunOutcome | None, title: str, labels: Sequence[str], screen: Screen
) -> Callable[[list[Event]], None]:
    """Return a callback that draws a run from its events, beside the previous run."""
    now = State()
    states = [now] if before is None else [before.trace, now]
    picture = RacePicture(
        title, labels, states, remark="", one_clock=False, sheet=PROJECTOR
    )  # fmt: skip
    if before is not None:
        picture.end(0, _problem(before))
    return view_of(lambda: EventFrames(picture, now, screen))


def pair(outcomes: Sequence[RunOutcome], title: str, labels: Sequence[str]) -> Picture:
    """Draw one or two finished runs beside each other."""
    runs = [
        Multiple(label, words_of(outcome.trace), _problem(outcome), outcome.trace)
        for outcome, label in zip(outcomes, labels, strict=True)
    ]
    text = "\n".join(f"{run.label}: {line_of(o)}" for run, o in zip(runs, outcomes, strict=True))
    return Picture(
        draw_comparison(runs, title, "", PROJECTOR), text,
        pixels_per_inch=PROJECTOR.pixels_per_inch,
    )  # fmt: skip


def _problem(outcome: RunOutcome) -> str | None:
    return None if outcome.succeeded else line_of(outcome)
