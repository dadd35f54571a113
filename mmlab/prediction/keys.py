"""Read keys from lists, columns and files, and number keys and models, piece by piece."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset
from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping, ModelHandler

from mmlab._arguments import expanded, short
from mmlab._text import listed
from mmlab.beam.cards import key_text, model_cards
from mmlab.beam.handlers import cohort_of_key, keyed_handler
from mmlab.lru import Ints

_PIECE = 1 << 20
"""Keys read at once; bounds the memory of reading."""


@dataclass(frozen=True)
class Models:
    """Models of a mapping and their keys.

    Attributes:
      names: names of the models, in the order of the mapping.
      of_key: key to the number of its model.
    """

    names: tuple[str, ...]
    of_key: dict[Any, int]


def read_mapping(mapping: Any) -> Models:
    """Read the models and their keys.

    Args:
      mapping: a `KeyedModelHandler` or a handler around one, a list of `KeyModelMapping`, or a
        dict from model name to its keys, or from key to model name.

    Raises:
      TypeError, ValueError: the mapping has another form, is empty, or has a key twice.
    """
    if isinstance(mapping, ModelHandler):
        return _of_handler(mapping)
    if isinstance(mapping, Mapping):
        return _of_dict(mapping)
    if isinstance(mapping, Iterable) and not isinstance(mapping, str | bytes):
        entries = list(mapping)
        if entries and all(isinstance(entry, KeyModelMapping) for entry in entries):
            return _of_handler(KeyedModelHandler(entries))
    raise TypeError(
        "mapping_or_handler must be a KeyedModelHandler, a list of KeyModelMapping, or a dict such "
        f"as {{'CONFIG_1': ['KEY_1', 'KEY_2']}}, got {short(mapping)}"
    )


def _of_handler(handler: ModelHandler[Any, Any, Any]) -> Models:
    keyed = keyed_handler(handler)
    if keyed is None:
        raise TypeError(
            f"{type(handler).__name__} has one model, which is loaded once: predict is for a "
            "KeyedModelHandler with several"
        )
    cards = model_cards(handler)
    number = {card.cohort: i for i, card in enumerate(cards)}
    cohorts = cohort_of_key(keyed)
    return Models(
        tuple(card.name for card in cards), {key: number[cohorts[key]] for key in cohorts}
    )


def _of_dict(mapping: Mapping[Any, Any]) -> Models:
    if not mapping:
        raise ValueError("the mapping must have at least one model and its keys, got an empty one")
    keys_of = mapping if all(map(_is_many, mapping.values())) else _by_model(mapping)
    of_key: dict[Any, int] = {}
    for number, (model, keys) in enumerate(keys_of.items()):
        for key in keys:
            if not _hashes(key):
                raise TypeError(f"model {model} has {short(key)}, {_UNHASHABLE}")
            if key in of_key:
                raise ValueError(
                    f"key {key!r} of model {model} is already in the mapping: every key must "
                    "map to exactly one model"
                )
            of_key[key] = number
    if not of_key:
        raise ValueError("the mapping must have at least one key, got none")
    return Models(tuple(key_text(model) for model in keys_of), of_key)


def _by_model(mapping: Mapping[Any, Any]) -> dict[Any, list[Any]]:
    """Invert a mapping from key to model."""
    keys_of: dict[Any, list[Any]] = {}
    for key, model in mapping.items():
        if _is_many(model) or model is None:
            raise TypeError(f"the mapping must map {key!r} to the name of a model, got {model!r}")
        keys_of.setdefault(model, []).append(key)
    return keys_of


def _is_many(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes)


class KeyNumbers:
    """Numbers of keys, and the model of each key.

    With a mapping, keys are numbered in the order of the mapping, and other keys have no number.
    Without one, each key is a model of its own, numbered in order of first occurrence.

    Args:
      models: of a mapping, or None.
      as_text: whether keys are looked up by their text, as for a CSV file.
    """

    def __init__(self, models: Models | None, as_text: bool = False):
        self._mapped = models is not None
        self._names: list[str] = list(models.names) if models else []
        self._number: dict[Any, int] = {}
        self._model: list[int] = []
        for key, model in (models.of_key if models else {}).items():
            self._number[key_text(key) if as_text else key] = len(self._number)
            self._model.append(model)

    def __len__(self) -> int:
        return len(self._number)

    @property
    def serves_none(self) -> bool:
        """Whether the mapping has the key None, which Beam treats as any other key."""
        return self._mapped and None in self._number

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models."""
        return tuple(self._names)

    @property
    def models(self) -> Ints:
        """Number of each key's model, int32, shape (keys,)."""
        return np.array(self._model, np.int32)

    @property
    def texts(self) -> list[str]:
        """The keys as text, by number."""
        return [key_text(key) for key in self._number]

    def of(self, key: Hashable) -> int:
        """The number of `key`, or -1 for a key that is not in the mapping."""
        number = self._number.get(key, -1)
        if number < 0 and not self._mapped:
            number = len(self._number)
            self._number[key] = number
            self._model.append(number)
            self._names.append(key_text(key))
        return number


@dataclass(frozen=True)
class Source:
    """Keys, in pieces.

    Attributes:
      pieces: Arrow or NumPy arrays or pandas objects, each of at most `_PIECE` keys.
      place: words for the key at a position, counted from 0, for error messages.
      as_text: whether all keys were read as text.
    """

    pieces: Iterator[Any]
    place: Callable[[int], str]
    as_text: bool = False


def numbered(source: Source, numbers: KeyNumbers) -> Iterator[Ints]:
    """Numbers of the keys of `source`, one int32 array per piece.

    Raises:
      ValueError: a key is missing or not in the mapping (the message gives its position), or there
        are no keys.
      TypeError: a key is not hashable.
    """
    position = 0
    for piece in source.pieces:
        codes, keys = _factorized(piece, position, source.place)
        missing = codes < 0
        for i, key in enumerate(keys):
            gone = _is_missing(key)
            if gone is None:
                at = source.place(position + int((codes == i).argmax()))
                raise TypeError(f"{at} is {short(key)}, {_UNHASHABLE}")
            if gone:
                missing |= codes == i
        none = numbers.of(None) if numbers.serves_none and missing.any() else -1
        is_none = missing & _nones(piece) if none >= 0 else None
        if is_none is not None:
            missing &= ~is_none
        if missing.any():
            at = source.place(position + int(missing.argmax()))
            raise ValueError(
                f"{at} is missing (None or NaN): drop such elements, or give them a key, before "
                "they reach RunInference"
            )
        table = np.array([*(numbers.of(key) for key in keys), none], np.int32)
        found = table[codes]
        if is_none is not None:
            found[is_none] = none
        if table.min() < 0 and (found < 0).any():
            i = int((found < 0).argmax())
            raise ValueError(_unnamed(source.place(position + i), keys[codes[i]], numbers))
        position += len(found)
        yield found
    if position == 0:
        raise ValueError("keys must have at least one key, got none")


def _nones(piece: Any) -> Ints:
    """Which keys are None, not NaN. pandas' extension arrays have one missing value: None."""
    if isinstance(piece, pa.Array):
        return np.array([key is None for key in piece.to_pylist()])
    if isinstance(piece.dtype, pd.api.extensions.ExtensionDtype):
        return np.asarray(pd.isna(piece))
    return np.array([key is None for key in piece])


def _unnamed(place: str, key: Any, numbers: KeyNumbers) -> str:
    if isinstance(key, tuple) and len(key) == 2:
        with suppress(TypeError):
            if numbers.of(key[0]) >= 0:
                return f"{place} is a pair that begins with {key[0]!r}: give the keys alone"
    return (
        f"{place} is {short(key)}, which no mapping names: add it to a KeyModelMapping, or drop "
        f"such elements. The mapping has {listed(numbers.texts)}"
    )


def _factorized(piece: Any, position: int, place: Callable[[int], str]) -> tuple[Ints, list[Any]]:
    """For each key its index in the list of distinct keys, -1 if missing; and that list."""
    if isinstance(piece, pa.Array):
        encoded = piece if pa.types.is_dictionary(piece.type) else piece.dictionary_encode()
        codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        return codes.astype(np.int64, copy=False), encoded.dictionary.to_pylist()
    try:
        codes, keys = pd.factorize(piece)
    except TypeError:
        for i, key in enumerate(piece):
            if not isinstance(key, Hashable) or not _hashes(key):
                raise TypeError(f"{place(position + i)} is {short(key)}, {_UNHASHABLE}") from None
        raise
    return codes, keys.tolist()


_UNHASHABLE = (
    "which cannot be a key: Beam looks keys up in a dict, so they must be hashable, such as text, "
    "numbers or tuples"
)


def _is_missing(key: Any) -> bool | None:
    """Whether `key` is None or NaN; None if it cannot be compared, such as an array or tensor."""
    try:
        return key is None or bool(key != key)
    except (TypeError, ValueError, RuntimeError):
        return None


def _hashes(key: Any) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


def read_keys(keys: Any, column: str | None) -> Source:
    """Read the keys of a list, an array, a column or a file.

    Args:
      keys: see `mmlab.predict`.
      column: column of a file or a table; None for `key`, or the only column.

    Raises:
      FileNotFoundError, ValueError, TypeError: the keys cannot be read; the message says why.
    """
    if isinstance(keys, str | os.PathLike):
        if "://" in str(keys):
            raise ValueError(
                f"{keys} is not on this machine: copy the file here first, or give its column"
            )
        return _file(expanded(keys), column)
    if isinstance(keys, pd.DataFrame | pa.Table | pa.RecordBatch):
        names = list(keys.columns) if isinstance(keys, pd.DataFrame) else keys.schema.names
        keys = keys[_column(column, [str(name) for name in names], "the table")]
    elif column is not None:
        raise ValueError(
            f"column must be None for keys without columns, got {column!r}: leave it out"
        )
    return Source(_pieces(keys), lambda i: f"keys[{i}]")


def _pieces(keys: Any) -> Iterator[Any]:
    if isinstance(keys, np.ndarray | pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        if keys.ndim != 1:
            raise ValueError(
                f"keys must have one dimension, got shape {keys.shape}: "
                "give one, such as keys[:, 0]"
            )
        rows = keys.iloc if isinstance(keys, pd.Series) else keys
        return (rows[i : i + _PIECE] for i in range(0, len(keys), _PIECE))
    if not isinstance(keys, pa.Array | pa.ChunkedArray) and hasattr(keys, "__arrow_c_stream__"):
        keys = pa.chunked_array(keys)
    if isinstance(keys, pa.Array | pa.ChunkedArray):
        chunks = keys.chunks if isinstance(keys, pa.ChunkedArray) else [keys]
        return (chunk[i : i + _PIECE] for chunk in chunks for i in range(0, len(chunk), _PIECE))
    unordered = (set, frozenset, Mapping, bytes)
    if isinstance(keys, unordered) or not isinstance(keys, Iterable):
        raise TypeError(
            "keys must be a list, an array, a column, a file or a Trace, in the order of the "
            f"elements, got {short(keys)}"
        )
    return _lists(iter(keys))


def _lists(keys: Iterator[Any]) -> Iterator[Ints]:
    while piece := list(itertools.islice(keys, _PIECE)):
        yield np.fromiter(piece, dtype=object, count=len(piece))


def _file(path: Path, column: str | None) -> Source:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}: give a Parquet or CSV file with keys")
    kinds = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".gz": "csv"}
    kind = "parquet" if path.is_dir() else kinds.get(path.suffix.lower())
    if kind is None:
        trace = "; a trace is read with mmlab.Trace.load" if path.suffix == ".jsonl" else ""
        raise ValueError(
            f"{path} ends in {path.suffix or 'nothing'}: give .parquet, .csv or .csv.gz{trace}"
        )
    try:
        if kind == "csv":
            with pyarrow.csv.open_csv(path) as reader:
                column = _column(column, reader.schema.names, path)
            pieces = _csv_pieces(path, column)
        else:
            dataset = pyarrow.dataset.dataset(path, format="parquet")
            column = _column(column, dataset.schema.names, path)
            pieces = _parquet_pieces(dataset, column)
    except pa.ArrowInvalid as problem:
        raise ValueError(f"{path} cannot be read as {kind}: {problem}") from None
    return Source(pieces, lambda i: f"{path}, row {i} of column {column!r}", as_text=kind == "csv")


def _column(column: str | None, names: list[str], where: Any) -> str:
    if not names:
        raise ValueError(f"{where} holds no table with columns")
    if column is None:
        column = "key" if "key" in names else names[0] if len(names) == 1 else None
        if column is None:
            raise ValueError(f"say which column of {where} has the keys: {listed(names)}")
    if column not in names:
        raise ValueError(f"{where} has no column {column!r}: it has {listed(names)}")
    return column


def _parquet_pieces(dataset: Any, column: str) -> Iterator[pa.Array]:
    for batch in dataset.to_batches(columns=[column], batch_size=_PIECE, batch_readahead=1):
        if len(batch):
            yield batch.column(0)


def _csv_pieces(path: Path, column: str) -> Iterator[pa.Array]:
    """Keys as text: `007` stays `007`; an empty field is a missing key."""
    options = pyarrow.csv.ConvertOptions(
        include_columns=[column],
        column_types={column: pa.string()},
        strings_can_be_null=True,
        null_values=[""],
    )
    with pyarrow.csv.open_csv(path, convert_options=options) as reader:
        for batch in reader:
            if len(batch):
                yield batch.column(0)
