"""What `predict` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmlab._arguments import whole_number
from mmlab._text import plural
from mmlab.prediction.advice import Advice, advise
from mmlab.prediction.loads import MOST_RELOADS, PredictedLoads
from mmlab.prediction.stepped import Stepped

if TYPE_CHECKING:
    from mmlab.draw.picture import Picture
    from mmlab.page.build import ReplayPage


@dataclass(frozen=True, eq=False, repr=False)
class Prediction(PredictedLoads):
    """Loads, evictions and bytes for every hint, a picture of them and advice.

    See `PredictedLoads` for what is known of each hint.

    Attributes:
      stepped: what `replay` shows.
    """

    stepped: Stepped = field(kw_only=True)

    def plot(self, *, title: str | None = None) -> Picture:
        """The curve of loads with its cliff, the optimum, and memory: see `draw_hints`."""
        from mmlab.draw.hints import HintCurves, draw_hints

        counts = f"{plural(self.elements, 'element')}   ·   {plural(self.keys, 'key')}   ·   "
        counts += f"{plural(len(self.models), 'model')}   ·   {self.fleet}"
        curves = HintCurves(
            about=counts,
            loads=self.loads,
            optimum=self.optimum,
            grouped_by_key=self.grouped_by_key,
            grouped_by_model=self.grouped_by_model,
            model_bytes=self.model_bytes,
            buffer_bytes=self.measured.buffer_bytes if self.measured else None,
            copies=self.copies,
            cliff=self.cliff(),
        )
        return draw_hints(curves, repr(self), title)

    def replay(self, *, first: int = 1) -> ReplayPage:
        """The accesses of the log as a page to step through, with a line for every limit.

        Nothing was run: it shows what would be loaded and evicted. Of a long log it shows the first
        100,000 elements, or 100,000 accesses from `first` on, and says so; its stack begins with
        the models of the accesses before. See `mmlab.page.build.ReplayPage`.

        Args:
          first: access of each model manager with which the page begins, from 1; managers with
            fewer are left out. Keys are shown for the first 100,000 elements of the log.

        Raises:
          ValueError, TypeError: no manager has so many accesses, `predict` kept only the first
            ones (`optimum=False`), or they are of more than 2,000 models until there.
        """
        first = whole_number("first", first)
        from mmlab.page.build import ReplayPage

        totals = self.managers.visits.tolist()
        return ReplayPage(self.stepped.content(self.models, totals, first), self.plot)

    def advise(
        self,
        *,
        memory: float | str | None = None,
        memory_limit: int | str | None = None,
        buffer: float | str | None = None,
        load_seconds: float | Mapping[str, float] | None = None,
        most_reloads: float = MOST_RELOADS,
    ) -> Advice:
        """The smallest hint that does not thrash and fits: see `mmlab.prediction.advice.advise`."""
        return advise(
            self,
            memory=memory,
            memory_limit=memory_limit,
            buffer=buffer,
            load_seconds=load_seconds,
            most_reloads=most_reloads,
        )
