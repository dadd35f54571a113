"""The model manager of a keyed handler: its models, limit, evictions and refreshes."""

from __future__ import annotations

import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from apache_beam.ml.inference import base

from mmlab.beam.guards import notify
from mmlab.beam.handlers import AnyHandler
from mmlab.beam.shared import held_model


class _ObservedOrder(OrderedDict[Any, Any]):
    """The LRU order of a model manager; calls `on_evict` with each evicted cohort."""

    on_evict: Callable[[Any], None]

    def popitem(self, last: bool = True) -> tuple[Any, Any]:
        cohort, tag = super().popitem(last=last)
        notify(self.on_evict, cohort)
        return cohort, tag


class _ManagerObserver(Protocol):
    """Callbacks for the decisions of a model manager.

    Beam's `load` is not locked: two threads may be in it at the same time, and slow code makes a
    conflict more likely. So `on_evict`, which is called inside it, must only store its argument;
    `on_load_returned` can do the rest.
    """

    def pending(self) -> bool:
        """Whether `on_load_returned` has work to do."""

    def on_evict(self, cohort: Any) -> None:
        """The manager evicts the model of a cohort, inside Beam's `load`."""

    def on_load_returned(self) -> None:
        """Beam's `load` has returned or raised."""

    def on_conflict(self, error: BaseException) -> None:
        """Beam's `load` raised a KeyError because of another thread."""

    def on_limit(self, limit: Any) -> None:
        """The number of models that the manager allows has changed."""

    def on_refresh(self, cohort: Any, previous: Any, handler: AnyHandler, path: str) -> None:
        """The next load of a cohort reads its weights from another path.

        `previous` is the former cohort of its keys, which may be the same.
        """

    def on_joined(self, manager: Any, *about: Any) -> None:
        """Another run wants reports, too; see `report_to`."""


def report_to(manager: Any, *about: Any) -> bool:
    """Make a manager, possibly of another run, report to this run as well.

    Args:
      manager: the manager, or the reference to it that a batch gets.
      about: passed to its observer; must be picklable, as the manager may be in another process.
    Returns:
      Whether the manager is observed.
    """
    join = getattr(manager, "report_to", None)
    if join is None:
        return False
    join(*about)
    return True


def models_held(manager: Any) -> list[tuple[Any, Any]]:
    """Return cohorts and models that a manager holds in this process, least recently used first."""
    tags, proxies = getattr(manager, "_tag_map", None), getattr(manager, "_proxy_map", None)
    if not isinstance(tags, dict) or not isinstance(proxies, dict):
        return []
    held = ((cohort, proxies.get(tag)) for cohort, tag in list(tags.items()))
    return [(cohort, held_model(entry[1])) for cohort, entry in held if entry is not None]


def models_allowed(manager: Any) -> Any:
    """Return how many models a manager allows; None for no limit, or if Beam does not expose it."""
    return getattr(manager, "_max_models", None)


def observe_manager(manager: Any, observer: _ManagerObserver) -> list[str]:
    """Report the decisions of a model manager: evictions, refreshes, its effective limit.

    Args:
      manager: the result of `KeyedModelHandler.load_model`, in the process that holds the models.
    Returns:
      What cannot be observed with this version of Beam: any of "evictions", "limit", "refresh".
    """
    blind = []
    if isinstance(getattr(manager, "_tag_map", None), OrderedDict):
        order = _ObservedOrder(manager._tag_map)
        order.on_evict = observer.on_evict
        manager._tag_map = order
    else:
        blind.append("evictions")
    seen = {
        "limit": hasattr(manager, "_max_models") and hasattr(manager, "increment_max_models"),
        "refresh": hasattr(manager, "_mh_map") and hasattr(manager, "update_model_handler"),
    }
    manager._observer = observer
    manager.__class__ = _reporting(type(manager), **seen)
    return blind + [what for what, is_seen in seen.items() if not is_seen]


def _reporting(manager_type: Any, *, limit: bool, refresh: bool) -> type:
    class Reporting(manager_type):  # type: ignore[misc]  # a private class of Beam's
        def load(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().load(*args, **kwargs)
            except KeyError as error:
                if limit and _is_conflict(error, self._max_models):
                    notify(self._observer.on_conflict, error)
                raise
            finally:
                if self._observer.pending():
                    notify(self._observer.on_load_returned)

        def report_to(self, *about: Any) -> None:
            notify(self._observer.on_joined, self, *about)

        if limit:

            def increment_max_models(self, increment: int) -> None:
                super().increment_max_models(increment)
                notify(self._observer.on_limit, self._max_models)

        if refresh:

            def update_model_handler(self, key: Any, model_path: str, previous_key: Any) -> None:
                super().update_model_handler(key, model_path, previous_key)
                leaf = self._mh_map.get(key)
                notify(self._observer.on_refresh, key, previous_key, leaf, model_path)

    Reporting.__name__ = manager_type.__name__
    Reporting.__qualname__ = manager_type.__qualname__
    return Reporting


def _is_conflict(error: KeyError, limit: Any) -> bool:
    """Whether Beam's `load` raised because another thread removed an entry of its maps.

    With a limit below 1, `load` evicts its own new entry, so the error needs no second thread.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    in_load = frame.f_globals is vars(base) and frame.f_code.co_name == "load"
    in_order = frame.f_code is _ObservedOrder.popitem.__code__
    return (in_load or in_order) and limit is not None and limit >= 1
