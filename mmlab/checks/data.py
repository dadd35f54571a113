"""Find keys in the data that no model serves."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mmlab._arguments import short
from mmlab.beam.cards import key_text
from mmlab.checks.problem import Problem
from mmlab.prediction.keys import read_keys

_MOST_ELEMENTS = 1_000_000
"""Elements of the data that are checked."""
_MOST_KEYS = 5
"""Unknown keys that are reported one by one."""


def data_problems(data: Any, keyed: Sequence[tuple[str, Sequence[Any]]]) -> Iterator[Problem]:
    """Report keys of `data` that a step does not map to a model.

    Args:
      data: see `mmlab.preflight`.
      keyed: label and keys of each keyed step.

    Raises:
      TypeError, ValueError, FileNotFoundError: `data` cannot be read.
    """
    seen = _keys_of(data, {key for _, keys in keyed for key in keys})
    for step, keys in keyed:
        yield from _unknown_keys(step, keys, seen)


@dataclass
class _Seen:
    """Keys of the data, each with its number of elements and its first position."""

    times: dict[Any, int]
    first: dict[Any, int]
    elements: int
    as_text: bool


def _keys_of(data: Any, known: Collection[Any]) -> _Seen:
    source = read_keys(data, None)
    seen = _Seen({}, {}, 0, source.as_text)
    elements = itertools.chain.from_iterable(map(_listed, source.pieces))
    for place, element in enumerate(itertools.islice(elements, _MOST_ELEMENTS)):
        try:
            key = _key_of(element, known)
            if key not in seen.first:
                key = None if _is_missing(key) else key
                seen.first.setdefault(key, place)
            seen.times[key] = seen.times.get(key, 0) + 1
        except TypeError:
            raise TypeError(
                f"{source.place(place)} is {short(element)}, which is neither a key nor a (key, "
                "example) pair: Beam looks keys up in a dict, so they must be hashable, such as "
                "text or numbers"
            ) from None
    seen.elements = sum(seen.times.values())
    return seen


def _listed(piece: Any) -> list[Any]:
    return list(piece.to_pylist() if hasattr(piece, "to_pylist") else piece.tolist())


def _key_of(element: Any, known: Collection[Any]) -> Any:
    """The key of an element: a `(key, example)` pair, or the key itself."""
    if isinstance(element, tuple) and len(element) == 2:
        try:
            return element if element in known else element[0]
        except TypeError:
            return element[0]  # the example is not hashable
    return element


def _is_missing(key: Any) -> bool:
    """Whether `key` is None, NaN or pandas' NA."""
    try:
        return key is None or key is pd.NA or bool(key != key)
    except (TypeError, ValueError, RuntimeError):
        return False  # an array or a tensor is not missing; Beam accepts it as a key


def _unknown_keys(step: str, keys: Sequence[Any], seen: _Seen) -> Iterator[Problem]:
    known = {key_text(key) if seen.as_text else key for key in keys}
    unknown = [key for key in seen.times if key not in known]
    for key in unknown[:_MOST_KEYS]:
        yield _unknown_key(step, key, keys, _often(seen, key))
    if len(unknown) > _MOST_KEYS:
        yield Problem(
            f"the data has {len(unknown) - _MOST_KEYS} more keys that no KeyModelMapping names.",
            step,
            "Add them to a mapping, or filter them out before RunInference.",
            fatal=True,
        )


def _unknown_key(step: str, key: Any, keys: Collection[Any], often: str) -> Problem:
    if key is None:
        return Problem(
            f"the data has elements without a key (None or NaN: {often}).",
            step,
            "Drop them, or give them a key, before they reach RunInference.",
            fatal=True,
        )
    return Problem(
        f"the data has the key {key!r} ({often}), which no KeyModelMapping names.",
        step,
        _fix(key, keys),
        fatal=True,
    )


def _often(seen: _Seen, key: Any) -> str:
    times, elements = seen.times[key], seen.elements
    return f"{times:,} of {elements:,} elements, first at position {seen.first[key]:,}"


def _fix(key: Any, keys: Collection[Any]) -> str:
    """
    >>> _fix("key_1 ", ["KEY_1", "KEY_2"]), _fix(1, ["1"])[:43], _fix("KEY_9", ["KEY_1", "KEY_2"])
    ("Is it 'KEY_1'? Else add it to a mapping, or filter it out before RunInference.", \
"The mapping has '1', which is another type:", \
'Add it to a mapping, or filter it out before RunInference.')
    """
    add = "dd it to a mapping, or filter it out before RunInference."
    for other in keys:
        if str(other) == str(key):
            kinds = f"{type(other).__name__}, not {type(key).__name__}"
            return f"The mapping has {other!r}, which is another type: make the key a {kinds}."
    texts = {str(other).casefold().strip(): other for other in keys}
    wanted = str(key).casefold().strip()
    close = [wanted] if wanted in texts else difflib.get_close_matches(wanted, texts, 2, 0.8)
    return f"Is it {texts[close[0]]!r}? Else a{add}" if len(close) == 1 else f"A{add}"
