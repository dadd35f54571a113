"""The models of this process, and the runs that record what happens to them.

Beam keeps models and the handlers that loaded them after the run: a later run of the same pipeline,
or one with the same `model_identifier`, finds them in memory. So events of a model are reported to
every run that uses it, not only to the one that loaded it.

This code may run inside Beam's unlocked `load` or in a finalizer: no lock, no system call.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from time import monotonic_ns
from typing import Any, NamedTuple, Protocol

from mmlab.events import UNKNOWN, Event, Unknown


class Site(NamedTuple):
    """The model of a step, as events name it; a tuple, because it is hashed for every batch."""

    step: str
    model: str
    cohort: str | None = None


class Size(NamedTuple):
    """Bytes of a model, and how they were found: one of `mmlab.events.SIZED_BY`."""

    bytes: int | Unknown = UNKNOWN
    sized_by: str = "tensors"


class LoadedObject:
    """The object that a load returned.

    Attributes:
      identity: its `id`.
      number: its number among all objects that this process loaded.
      observable: whether its release can be seen.
      end_ns: end of the load, in nanoseconds of the machine's monotonic clock.
      rss_growth: growth of the process during the load in bytes; None if not measured.
    """

    def __init__(
        self, model: Any, number: int, weights: Callable[[], Path | None], rss_growth: int | None
    ):
        self.identity = id(model)
        self.number = number
        self.end_ns = monotonic_ns()
        self.rss_growth = rss_growth
        self._weights = weights
        self._size: Size | None = None
        self._get: Callable[[], Any]
        try:
            self._get, self.observable = weakref.ref(model), True
        except TypeError:  # no weak references: held until it is measured
            self._get, self.observable = (lambda: model), False

    def measured(self, measure: Callable[[Any, Callable[[], Path | None]], Size]) -> Size:
        """Return its size, measured at the first call; unknown if it was freed before.

        Args:
          measure: called with the object and a function that returns the file of its weights.
        """
        model = self._get()
        if self._size is None:
            self._size = Size() if model is None else measure(model, self._weights)
        if not self.observable:
            self._get = _nothing
        return self._size

    def is_still(self, model: Any) -> bool:
        """Whether `model` is certainly this object, and not another one at the same address."""
        return self.observable and self._get() is model


def _nothing() -> None:
    """Stands for the weak reference of an object that supports none, after it was measured."""


class Listener(Protocol):
    """A run that records models; each run numbers the generations itself."""

    marks: deque[Any]

    @property
    def ended(self) -> bool: ...

    def load_returned(self) -> None: ...

    def emit(self, event: Event) -> None: ...

    def load_begins(self, site: Site) -> int: ...

    def load_fails(self, site: Site, generation: int, error: BaseException) -> None: ...

    def load_ends(self, site: Site, generation: int, loaded: LoadedObject) -> None: ...

    def in_memory(self, site: Site, loaded: LoadedObject) -> int: ...

    def evicts(self, site: Site) -> None: ...

    def released(self, site: Site, generation: int, identity: int) -> None: ...

    def refreshes(self, site: Site, path: str) -> None: ...


class Load:
    """One load of one model.

    Args:
      listeners: the runs to report to, each with its site of the model.
    Attributes:
      loaded: the object that the load returned; None before its end.
      rss_growth: see `LoadedObject`.
    """

    def __init__(self, listeners: Iterable[tuple[Listener, Site]]):
        self.rss_growth: int | None = None
        self._generations = {(run, site): run.load_begins(site) for run, site in listeners}
        self.loaded: LoadedObject | None = None

    def fails(self, error: BaseException) -> None:
        """Report that the model could not be loaded."""
        for (run, site), generation in self._generations.items():
            run.load_fails(site, generation, error)

    def ends(
        self,
        model: Any,
        listeners: Iterable[tuple[Listener, Site]] = (),
        weights: Callable[[], Path | None] = lambda: None,
    ) -> None:
        """Report that the model is loaded.

        Args:
          listeners: the runs to report to; some may have joined since the load began.
          weights: returns the file of the weights, if there is one.
        """
        before = load_of(id(model))
        # A cache in `load_model` may return one object for several models.
        known = before.loaded if before is not None else None
        if known is not None and not known.is_still(model):
            known = None
        number = next(_numbers) if known is None else known.number
        self.loaded = loaded = LoadedObject(model, number, weights, self.rss_growth)
        _loads[loaded.identity] = self
        if loaded.observable:
            release = weakref.finalize(model, self._released, loaded.identity)
            release.atexit = False  # the end of a process is no release
        for (run, site), generation in list(self._generations.items()):
            run.load_ends(site, generation, loaded)
        for run, site in listeners:
            self.report_to(run, site)

    def _released(self, identity: int) -> None:
        # Runs in whichever thread drops the last reference, even inside the garbage collector.
        _loads.pop(identity, None)
        for (run, site), generation in list(self._generations.items()):
            run.released(site, generation, identity)

    def generation_in(self, run: Listener) -> int | None:
        """Return the generation of this load in a run; None if it was not reported there."""
        reported = list(self._generations.items())
        return next((generation for (other, _), generation in reported if other is run), None)

    def report_to(self, run: Listener, site: Site) -> None:
        """Report to a run that the model is in memory, unless this was reported before."""
        if self.loaded is None or self.generation_in(run) is not None:
            return
        self._generations[run, site] = run.in_memory(site, self.loaded)


_loads: dict[int, Load] = {}
"""The latest load of each loaded object, by its id."""
_numbers = itertools.count(1)


def load_of(identity: int) -> Load | None:
    """Return the latest load of the object with this `id`; None if it was not seen."""
    return _loads.get(identity)


class Followers:
    """The runs that use a model manager, each with its sites of the models.

    Attributes:
      evicted: cohorts whose models the manager has evicted.
    """

    def __init__(self) -> None:
        self._runs: tuple[tuple[Listener, dict[Any, Site]], ...] = ()
        self.evicted: set[Any] = set()

    @property
    def runs(self) -> list[Listener]:
        return [run for run, _ in self._runs]

    def add(self, run: Listener, sites: Mapping[Any, Site]) -> None:
        """Add a run, or the sites that a known run does not have yet."""
        for known, names in self._runs:
            if known is run:
                names.update({cohort: sites[cohort] for cohort in sites if cohort not in names})
                return
        self._runs = (*self._runs, (run, {**self._others(sites), **sites}))

    def _others(self, sites: Mapping[Any, Site]) -> dict[Any, Site]:
        """Return sites for models that only earlier runs name and that may be in memory."""
        step = next((site.step for site in sites.values()), "")
        return {
            cohort: site._replace(step=step)
            for _, names in self._runs
            for cohort, site in names.items()
        }

    def drop_ended(self) -> None:
        """Remove runs that have ended."""
        self._runs = tuple((run, sites) for run, sites in self._runs if not run.ended)

    def of(self, cohort: Any) -> list[tuple[Listener, Site]]:
        """Return each run with its site of a cohort's model."""
        return [(run, sites[cohort]) for run, sites in self._runs if cohort in sites]

    def names(self, run: Listener) -> dict[Any, Site]:
        """Return the sites of a run, by cohort."""
        return next((dict(sites) for known, sites in self._runs if known is run), {})

    def steps(self) -> list[tuple[Listener, str | None]]:
        """Return each run with the step of its events."""
        return [
            (run, next((site.step for site in sites.values()), None)) for run, sites in self._runs
        ]

    def split(self, cohort: Any, previous: Any, name: str) -> None:
        """Give some keys of a cohort a model of their own, from now on."""
        for _, sites in self._runs:
            if cohort not in sites and previous in sites:
                sites[cohort] = part_of(sites[previous], name)


def part_of(site: Site, name: str) -> Site:
    """Return the site of the model that a refresh gave to some keys of a cohort.

    Args:
      site: the model of the cohort.
      name: the first key of the part.
    """
    return Site(site.step, f"{site.model} {name}", name)
