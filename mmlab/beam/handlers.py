"""Model handlers: wrapped handlers, keys and models of keyed handlers, pickling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from apache_beam.internal import pickler
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler

from mmlab.beam.guards import BeamChangedError, private

AnyHandler = ModelHandler[Any, Any, Any]
AnyKeyed = KeyedModelHandler[Any, Any, Any, Any]
"""A keyed handler with any types of examples, predictions and models."""


def handler_chain(handler: AnyHandler) -> list[AnyHandler]:
    """Return the handler and those that it wraps (pre/post-processing, keys), outermost first."""
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
    """Replace the handler that `handler` wraps by `inner`."""
    for name in ("_base", "_unkeyed"):
        if isinstance(getattr(handler, name, None), ModelHandler):
            setattr(handler, name, inner)
            return
    raise BeamChangedError(f"{type(handler).__name__}._base", "watch a wrapped handler")


def holds_many_models(
    handler: AnyHandler,
) -> TypeGuard[AnyKeyed]:
    """Whether this handler itself, not one that it wraps, maps keys to several models."""
    return isinstance(handler, KeyedModelHandler) and _wrapped(handler) is None


def keyed_handler(
    handler: AnyHandler,
) -> AnyKeyed | None:
    """Return the `KeyedModelHandler` with several models in `handler`, or None."""
    return next((h for h in handler_chain(handler) if holds_many_models(h)), None)


def cohort_handlers(
    keyed: AnyKeyed,
) -> dict[Any, AnyHandler]:
    """Return the model handler of each cohort (first key of a `KeyModelMapping`), in order."""
    return dict(private(keyed, "_id_to_mh_map", "read the key mapping"))


def cohort_of_key(keyed: AnyKeyed) -> Mapping[Any, Any]:
    """Return the cohort of each key, in mapping order: Beam's own mapping, do not modify it."""
    cohorts: Mapping[Any, Any] = private(keyed, "_key_to_id_map", "read the key mapping")
    return cohorts


def replace_cohort_handlers(
    keyed: AnyKeyed,
    handlers: Mapping[Any, AnyHandler],
) -> None:
    """Replace the handlers of the cohorts of `keyed`."""
    private(keyed, "_id_to_mh_map", "watch the models of a keyed handler")
    keyed._id_to_mh_map = dict(handlers)
    keyed._key_to_id_map = dict(keyed._key_to_id_map)


def model_hint(keyed: AnyKeyed) -> Any:
    """Return `max_models_per_worker_hint` as given; None also if it cannot be read."""
    return getattr(keyed, _HINT, None)


def hides_hint(handler: AnyHandler) -> bool:
    """Whether the hint of a keyed handler cannot be read in this version of Beam."""
    keyed = keyed_handler(handler)
    return keyed is not None and not hasattr(keyed, _HINT)


_HINT = "_max_models_per_worker_hint"


def keeps_metrics_from(handler: AnyHandler) -> bool:
    """Whether a wrapper of a keyed handler does not forward `override_metrics`.

    Beam's wrappers do not. A keyed handler with several models then has no counters and fails with
    `KeyError` when it counts.
    """
    return type(handler).override_metrics is ModelHandler.override_metrics


def model_copies(handler: AnyHandler) -> int:
    """Return how many copies of its model a machine loads; 1 if only a worker can tell."""
    try:
        return int(handler.model_copies())
    except Exception:  # it may know only in a worker
        return 1


def shares_across_processes(handler: AnyHandler) -> bool:
    """Whether the processes of a machine share the models of `handler`; False if it cannot tell."""
    try:
        return bool(handler.share_model_across_processes())
    except Exception:  # it may know only in a worker
        return False


def pickles_itself(handler: AnyHandler) -> bool:
    """Whether the handler's class defines its own pickling."""
    plain = {"__reduce_ex__", "__reduce__", "__getstate__", "__setstate__"}
    return any(
        getattr(type(handler), name, None) is not getattr(object, name, None) for name in plain
    )


def pickled(handler: AnyHandler) -> AnyHandler:
    """Return the handler as a worker gets it: pickled and unpickled."""
    arrived: AnyHandler = pickler.loads(pickler.dumps(handler))
    return arrived
