"""Checks of one model handler: its hint, keys, weights and batching."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping, ModelHandler

from mmlab.beam.cards import ModelCard, count_or_none, key_text, model_cards
from mmlab.beam.handlers import (
    cohort_handlers,
    cohort_of_key,
    handler_chain,
    holds_many_models,
    keeps_metrics_from,
    keyed_handler,
    model_copies,
    model_hint,
)
from mmlab.beam.weights import is_unbuilt_engine
from mmlab.checks.problem import Problem, where_is
from mmlab.checks.weights import weights_problems


def handler_problems(
    handler: ModelHandler[Any, Any, Any], step: str, *, files_are_here: bool = True
) -> Iterator[Problem]:
    """Find problems of `handler` that call for a warning.

    Args:
      handler: handler of the step, with the handlers around it.
      step: name of the step in messages.
      files_are_here: whether the workers see this machine's files.
    """
    cards = model_cards(handler, step)
    leaves = leaves_of(handler)
    keyed = keyed_handler(handler)
    if keyed is not None:
        yield from _of_mapping(keyed, step)
        yield from _of_wrappers(handler, step)
        yield from _of_mapped_handlers(cards, leaves)
    yield from _unbuilt_engines(cards, leaves)
    if files_are_here:
        for card, leaf in zip(cards, leaves, strict=True):
            yield from weights_problems(card, leaf)
    if keyed is not None:
        yield from _ignored_batching(keyed, cards, leaves)


def leaves_of(handler: ModelHandler[Any, Any, Any]) -> list[ModelHandler[Any, Any, Any]]:
    """The base handlers, which load one model each, in the order of `model_cards`."""
    keyed = keyed_handler(handler)
    if keyed is None:
        return handler_chain(handler)[-1:]
    return list(cohort_handlers(keyed).values())


def _of_mapping(keyed: KeyedModelHandler[Any, Any, Any, Any], step: str) -> Iterator[Problem]:
    if not cohort_handlers(keyed):
        yield Problem(
            "the keyed handler has no models, so every element fails.",
            step,
            "Give KeyedModelHandler at least one KeyModelMapping.",
        )
    problem = hint_problem(model_hint(keyed), step)
    if problem is not None:
        yield problem


_INSTEAD = {
    "_PreProcessingModelHandler": "Instead of with_preprocess_fn, put a beam.Map before "
    "RunInference that takes (key, example) pairs.",
    "_PostProcessingModelHandler": "Instead of with_postprocess_fn, put a beam.Map after "
    "RunInference that takes (key, result) pairs.",
    "_PrebatchedModelHandler": "Instead of with_no_batching, let a subclass of KeyedModelHandler "
    "return True from should_skip_batching().",
    "MaybeKeyedModelHandler": "Give RunInference the KeyedModelHandler itself: all elements are "
    "(key, example) pairs.",
}


def _of_wrappers(handler: ModelHandler[Any, Any, Any], step: str) -> Iterator[Problem]:
    for link in handler_chain(handler):
        if holds_many_models(link):
            return
        if keeps_metrics_from(link):
            name = type(link).__name__
            yield Problem(
                f"{name} is around a keyed handler with several models, which Beam cannot run: "
                "every batch fails in a worker.",
                step,
                _INSTEAD.get(
                    name,
                    f"Let {name}.override_metrics(metrics_namespace) return what the handler "
                    "inside it returns.",
                ),
                fatal=True,
            )


def _of_mapped_handlers(
    cards: Sequence[ModelCard], leaves: Sequence[ModelHandler[Any, Any, Any]]
) -> Iterator[Problem]:
    for card, leaf in zip(cards, leaves, strict=True):
        if keyed_handler(leaf) is not None:
            yield Problem(
                "the handler of a KeyModelMapping is itself a keyed handler with several models, "
                "which Beam cannot run: every batch of it fails in a worker.",
                where_is(card),
                "Put its mappings into the list of the outer KeyedModelHandler.",
                fatal=True,
            )
        elif (copies := model_copies(leaf)) != 1:
            yield Problem(
                f"its handler has model_copies={copies}, which Beam refuses in a worker where a "
                "keyed handler has several models.",
                where_is(card),
                "Leave model_copies out, or give this model a RunInference step of its own.",
                fatal=True,
            )


def _unbuilt_engines(
    cards: Sequence[ModelCard], leaves: Sequence[ModelHandler[Any, Any, Any]]
) -> Iterator[Problem]:
    for card, leaf in zip(cards, leaves, strict=True):
        if is_unbuilt_engine(leaf):
            yield Problem(
                "it has no engine_path, and Beam's TensorRT handler loads engines only: it does "
                "not build one of an ONNX file when it loads.",
                where_is(card),
                "Build the engine once, with load_onnx() and build_engine(), write it to a file, "
                "and give that as engine_path=.",
                fatal=True,
            )


def hint_problem(hint: Any, step: str) -> Problem | None:
    """A problem if `max_models_per_worker_hint` is neither None nor a positive integer.

    It is fatal if Beam fails in a worker with this hint. Beam accepts other values, such as 2.5,
    with a meaning that the author may not expect.
    """
    if hint is None or _counts_models(hint):
        return None
    taken = _beam_takes(hint)
    count = count_or_none(hint)
    meant = f"{count}" if count is not None else "no limit"
    return Problem(
        f"max_models_per_worker_hint is {hint!r}, but it counts models"
        + (f": Beam takes it for {meant}." if taken else "."),
        step,
        "Give an integer of at least 1, or None for no limit.",
        fatal=not taken,
    )


def _counts_models(hint: Any) -> bool:
    try:
        return not isinstance(hint, bool) and operator.index(hint) > 0
    except TypeError:
        return False


def _beam_takes(hint: Any) -> bool:
    """Whether Beam can add the hint to its limit and then allow one model or more."""
    try:
        return not 0 + hint < 1
    except Exception:  # not a number
        return False


def harmless_problems(handler: ModelHandler[Any, Any, Any], step: str) -> Iterator[Problem]:
    """Find remarks on a handler that call for no warning."""
    keyed = keyed_handler(handler)
    if keyed is not None:
        yield from _large_hint(keyed, step)
        yield from _odd_keys(keyed, step)


def _large_hint(keyed: KeyedModelHandler[Any, Any, Any, Any], step: str) -> Iterator[Problem]:
    """A hint larger than the number of models."""
    hint, models = model_hint(keyed), len(cohort_handlers(keyed))
    count = count_or_none(hint)
    if count is None or isinstance(hint, bool) or count <= models:
        return
    yield Problem(
        f"max_models_per_worker_hint is {count}, but there are {models} models: it limits nothing.",
        step,
        f"Give less than {models} to limit memory, or leave it out.",
    )


def _ignored_batching(
    keyed: KeyedModelHandler[Any, Any, Any, Any],
    cards: Sequence[ModelCard],
    leaves: Sequence[ModelHandler[Any, Any, Any]],
) -> Iterator[Problem]:
    if keyed.batch_elements_kwargs():
        return  # the author has set the batching of the keyed handler
    asking = [
        (card, given)
        for card, leaf in zip(cards, leaves, strict=True)
        if (given := leaf.batch_elements_kwargs())
    ]
    if asking:
        card, given = asking[0]
        others = f" and {len(asking) - 1} more" if len(asking) > 1 else ""
        wanted = ", ".join(f"{name}={value!r}" for name, value in given.items())
        yield Problem(
            f"the handler of model {card.name}{others} asks for batches with {wanted}, which Beam "
            "ignores where a keyed handler has several models.",
            card.step,
            "Override batch_elements_kwargs() in a subclass of KeyedModelHandler.",
        )


def _odd_keys(keyed: KeyedModelHandler[Any, Any, Any, Any], step: str) -> Iterator[Problem]:
    """Keys that Beam accepts but that are probably mistakes."""
    for key in cohort_of_key(keyed):
        if isinstance(key, str) and not key.strip():
            yield Problem(
                f"the mapping has the empty key {key!r}.",
                step,
                "Name it, or drop elements without a key before they reach RunInference.",
            )
        elif key is None or key != key:
            yield Problem(
                f"the mapping has the key {key!r}, which means that a key is missing.",
                step,
                "Drop elements without a key before they reach RunInference, and this key.",
            )


def mapping_problems(
    mappings: Sequence[KeyModelMapping[Any, Any, Any, Any]], step: str
) -> list[Problem]:
    """Find what `KeyedModelHandler(mappings)` would refuse or misread."""
    found: list[Problem] = []
    first_of: dict[Any, int] = {}
    for number, mapping in enumerate(mappings):
        where = f"{step}, mapping {number + 1} ({type(mapping.mh).__name__})"
        bad = _bad_keys(mapping.keys, where)
        if bad is not None:
            found.append(bad)
        if isinstance(mapping.keys, str | bytes):
            continue  # Beam would take each letter as a key
        for key in mapping.keys:
            if key in first_of:
                found.append(_duplicate(key, first_of[key], number, where))
            first_of.setdefault(key, number)
    if not found:
        try:
            KeyedModelHandler(list(mappings))
        except Exception as refusal:
            found.append(
                Problem(
                    f"Beam refuses it: {refusal}",
                    step,
                    "Change the mapping as it says.",
                    fatal=True,
                )
            )
    return found


def _bad_keys(keys: Any, where: str) -> Problem | None:
    if isinstance(keys, str | bytes):
        return Problem(
            f"its keys are the text {keys!r}, of which every letter is a key.",
            where,
            f"Give a list: KeyModelMapping([{keys!r}], …).",
            fatal=True,
        )
    if len(keys) == 0:
        return Problem(
            "it has no keys.",
            where,
            "Give it at least one key, or leave the mapping out.",
            fatal=True,
        )
    return None


def _duplicate(key: Any, first: int, number: int, where: str) -> Problem:
    place = "twice in it" if first == number else f"in mapping {first + 1} already"
    return Problem(
        f"key {key_text(key)} stands {place}, and every key must have exactly one model.",
        where,
        "Take it out in one of the two places.",
        fatal=True,
    )
