"""Model handlers: what they wrap, the keys and models of a keyed one, how they travel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from apache_beam.internal import pickler
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler

from mmlab.beam.guards import BeamChangedError, private

AnyHandler = ModelHandler[Any, Any, Any]
AnyKeyed = KeyedModelHandler[Any, Any, Any, Any]
"""Handlers, of whatever examples, predictions and models."""


def handler_chain(handler: AnyHandler) -> list[AnyHandler]:
    """The handler and those it wraps (pre/post-processing, keys), outermost first."""
    chain = [handler]
    while (inner := _wrapped(chain[-1])) is not None:
        chain.append(inner)
    return chain


def _wrapped(handler: AnyHandler) -> AnyHandler | None:
    for name in ("_base", "_unkeyed"):
        inner = getattr(handler, name, None)
        if isinstance(inner, ModelHandler):
            return inner
    return None


def with_wrapped(handler: AnyHandler, inner: AnyHandler) -> None:
    """Put `inner` in the place of the handler that `handler` wraps."""
    for name in ("_base", "_unkeyed"):
        if isinstance(getattr(handler, name, None), ModelHandler):
            setattr(handler, name, inner)
            return
    raise BeamChangedError(f"{type(handler).__name__}._base", "watch a wrapped handler")


def holds_many_models(
    handler: AnyHandler,
) -> TypeGuard[AnyKeyed]:
    """Whether this very handler maps keys to several models."""
    return isinstance(handler, KeyedModelHandler) and _wrapped(handler) is None


def keyed_handler(
    handler: AnyHandler,
) -> AnyKeyed | None:
    """The `KeyedModelHandler` with several models inside `handler`, if there is one."""
    return next((h for h in handler_chain(handler) if holds_many_models(h)), None)


def cohort_handlers(
    keyed: AnyKeyed,
) -> dict[Any, AnyHandler]:
    """Cohort (the first key of a `KeyModelMapping`) to model handler, in mapping order."""
    return dict(private(keyed, "_id_to_mh_map", "read the key mapping"))


def cohort_of_key(keyed: AnyKeyed) -> Mapping[Any, Any]:
    """Key to cohort, in mapping order: the live mapping, which is not to be changed."""
    cohorts: Mapping[Any, Any] = private(keyed, "_key_to_id_map", "read the key mapping")
    return cohorts


def replace_cohort_handlers(
    keyed: AnyKeyed,
    handlers: Mapping[Any, AnyHandler],
) -> None:
    """Put `handlers` in the place of those that `keyed` maps its cohorts to."""
    private(keyed, "_id_to_mh_map", "watch the models of a keyed handler")
    keyed._id_to_mh_map = dict(handlers)
    keyed._key_to_id_map = dict(keyed._key_to_id_map)


def model_hint(keyed: AnyKeyed) -> Any:
    """`max_models_per_worker_hint` as it was given; None also where it cannot be read."""
    return getattr(keyed, _HINT, None)


def hides_hint(handler: AnyHandler) -> bool:
    """Whether the hint of a keyed handler cannot be read in this version of Beam."""
    keyed = keyed_handler(handler)
    return keyed is not None and not hasattr(keyed, _HINT)


_HINT = "_max_models_per_worker_hint"


def keeps_metrics_from(handler: AnyHandler) -> bool:
    """Whether a handler around a keyed one never asks it to count its batches.

    Beam's wrappers do not pass `override_metrics` on, without which a keyed handler of several
    models has no counters, and fails with `KeyError` when it wants to count.
    """
    return type(handler).override_metrics is ModelHandler.override_metrics


def model_copies(handler: AnyHandler) -> int:
    """Copies of its model that a machine loads; 1 where the handler knows that only in a worker."""
    try:
        return int(handler.model_copies())
    except Exception:  # it may know only in a worker
        return 1


def shares_across_processes(handler: AnyHandler) -> bool:
    """Whether the processes of one machine share the models of `handler`, as far as it knows."""
    try:
        return bool(handler.share_model_across_processes())
    except Exception:  # it may know only in a worker
        return False


def pickles_itself(handler: AnyHandler) -> bool:
    """Whether the handler's class has a say in how it is pickled."""
    plain = {"__reduce_ex__", "__reduce__", "__getstate__", "__setstate__"}
    return any(
        getattr(type(handler), name, None) is not getattr(object, name, None) for name in plain
    )


def pickled(handler: AnyHandler) -> AnyHandler:
    """The handler as it reaches a worker."""
    arrived: AnyHandler = pickler.loads(pickler.dumps(handler))
    return arrived
