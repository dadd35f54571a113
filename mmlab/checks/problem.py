"""`Problem`, the result of every check."""

from __future__ import annotations

from dataclasses import dataclass

from mmlab._text import shown_everywhere
from mmlab.beam.cards import ModelCard


@shown_everywhere
@dataclass(frozen=True, repr=False)
class Problem:
    """A problem of a pipeline or a model handler.

    Attributes:
      what: what is wrong, in a sentence.
      where: the step and, if it concerns one model, the model and its keys.
      fix: what to do, in a sentence.
      fatal: whether the run is certain to fail.
    """

    what: str
    where: str
    fix: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.what} {self.fix}"

    def __repr__(self) -> str:
        return f"[fatal] {self}" if self.fatal else str(self)


def where_is(card: ModelCard) -> str:
    """The step, the model and its keys, for `Problem.where`."""
    return f"{card.step}, model {card.name}{with_keys(card)}"


def with_keys(card: ModelCard) -> str:
    """The keys of a model in brackets; empty if it has none."""
    return f" (keys {', '.join(card.keys)})" if card.keys else ""
