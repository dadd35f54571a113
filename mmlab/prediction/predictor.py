"""`predict`: loads for every hint at once, without running anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from mmlab._arguments import whole_number
from mmlab.beam import internals
from mmlab.prediction import replay
from mmlab.prediction.keys import KeyNumbers, Source, numbered, read_keys, read_mapping
from mmlab.prediction.loads import PerManager
from mmlab.prediction.prediction import Prediction
from mmlab.prediction.recorded import Measured, Recorded, read_trace
from mmlab.prediction.replay import KeyCounts, Manager, Plan, Replay
from mmlab.prediction.routing import ROUTINGS, Routing
from mmlab.prediction.sizes import read_sizes
from mmlab.prediction.stepped import Access, Stepped
from mmlab.trace import Trace

MOST_MANAGERS = 2**16


def predict(
    keys: Any,
    mapping_or_handler: Any = None,
    *,
    batch_size: int | None = None,
    workers: int = 1,
    processes: int = 1,
    copies: int | None = None,
    routing: Routing = "spray",
    sizes: Mapping[Any, Real] | Sequence[Real] | Real | None = None,
    optimum: bool = True,
    column: str | None = None,
    step: str | None = None,
    seed: int = 0,
) -> Prediction:
    """What a keyed `RunInference` would load and evict, for every hint, without running it.

    The rule is Beam's: a model manager keeps the models that were used last, a batch visits each of
    its models once, in the order first seen, and the limit is the hint times the copies of the
    handler that share the manager.

    Args:
      keys: the key of every element, in order: a list or another iterable, a NumPy array, a pandas
        or Arrow column, a table with a column of keys, the path of a Parquet or CSV file, or a
        recorded `Trace`. A trace brings its mapping, batches, copies, sizes, seconds per load and
        buffer with it, and on its own is replayed as it was recorded, process by process.
      mapping_or_handler: a `KeyedModelHandler`, a list of `KeyModelMapping`, or a dict: model name
        to its keys, or key to model name. None: every key is a model of its own.
      batch_size: elements in a batch. None takes it from a handler whose
        `batch_elements_kwargs()` fixes it, else 1, which is the most visits that there can be.
      workers: machines.
      processes: SDK worker processes on each machine that hold models of their own. Processes that
        share one model manager, as with Beam's local `multi_processing`, count as `copies`.
      copies: copies of the handler that share one manager: threads, mostly. None takes it from a
        trace (limit / hint), else 1.
      routing: how elements reach processes. "spray": a fair draw for each element. "by_key",
        "by_model": all elements of a key, or of a model, go to one process, chosen by a hash.
      sizes: bytes of models in memory: by model name, in the order of the models, or one number.
      optimum: whether to compute the fewest loads that are possible. It keeps all visits in memory,
        2 to 4 bytes each; without it, and with models of one size, memory does not grow with the
        number of keys.
      column: of a file or table; None for `key`, or the only one.
      step: of a trace with several keyed steps.
      seed: of the draws.

    Raises:
      ValueError, TypeError, FileNotFoundError: bad input, in a sentence that names its position.
    """
    return predictions(
        keys,
        mapping_or_handler,
        routings=(routing,),
        batch_size=batch_size,
        workers=workers,
        processes=processes,
        copies=copies,
        sizes=sizes,
        optimum=optimum,
        column=column,
        step=step,
        seed=seed,
    )[routing]


def predictions(
    keys: Any,
    mapping_or_handler: Any,
    *,
    routings: Sequence[Routing],
    batch_size: int | None,
    workers: int,
    processes: int,
    copies: int | None,
    sizes: Any,
    optimum: bool,
    column: str | None,
    step: str | None,
    seed: int,
) -> dict[Routing, Prediction]:
    """One prediction per routing, while the keys are read once."""
    for name, value in {"workers": workers, "processes": processes}.items():
        whole_number(name, value)
    for name, value in {"batch_size": batch_size, "copies": copies}.items():
        if value is not None:
            whole_number(name, value)
    whole_number("seed", seed, least=0)
    for routing in routings:
        if routing not in ROUTINGS:
            raise ValueError(f"routing is {routing!r}: it is one of {', '.join(ROUTINGS)}")
    if workers * processes > MOST_MANAGERS:
        raise ValueError(f"{workers * processes} processes are too many: up to {MOST_MANAGERS}")

    recorded = read_trace(keys, step) if isinstance(keys, Trace) else None
    if recorded is None and step is not None:
        raise ValueError(f"step is {step!r}, but the keys are no Trace: leave it out")
    models = None if mapping_or_handler is None else read_mapping(mapping_or_handler)
    plan = Plan(
        managers=workers * processes,
        batch_size=batch_size or _fixed_batch_size(mapping_or_handler) or 1,
        seed=seed,
        keeps_visits=optimum or _differ(sizes, recorded),
    )
    as_recorded = recorded is not None and (
        models is None
        and batch_size is None
        and plan.managers == 1
        and tuple(routings) == ("spray",)
    )
    frame = _Frame(
        workers=workers,
        processes=processes,
        copies=copies or (recorded.measured.copies if recorded else 1),
        sizes=sizes,
        measured=recorded.measured if recorded else None,
        optimum=optimum,
    )
    if as_recorded:
        return {"spray": _replayed(recorded, plan, frame)}
    source = _elements(recorded, column) if recorded else read_keys(keys, column)
    if recorded and models is None:
        models = recorded.models
    numbers = KeyNumbers(models, as_text=source.as_text)
    counts = KeyCounts()
    replays = {routing: Replay(plan, routing) for routing in routings}
    for piece in numbered(source, numbers):
        counts.feed(piece)
        for one in replays.values():
            one.feed(piece, numbers)
    return {
        routing: _prediction(
            one.managers, routing, numbers, counts, plan, plan.batch_size, frame, one.first.accesses
        )
        for routing, one in replays.items()
    }


@dataclass(frozen=True)
class _Frame:
    """What a prediction is told beside the visits."""

    workers: int
    processes: int
    copies: int
    sizes: Any
    measured: Measured | None
    optimum: bool


def _replayed(recorded: Recorded, plan: Plan, frame: _Frame) -> Prediction:
    """The visits of a trace, each process on its own."""
    numbers = KeyNumbers(recorded.models)
    counts = KeyCounts()
    order = [(numbers.of(key), n) for key, n in recorded.elements.items()]
    counts.feed(np.repeat(*np.array(order).T).astype(np.int32))
    managers = []
    for visits, elements in zip(recorded.visits, recorded.elements_of_process, strict=True):
        manager = Manager(1)
        manager.elements = elements
        manager.visit(visits, len(numbers.names), plan.keeps_visits)
        managers.append(manager)
    batch_size = 1 if recorded.batch_size == 1 else None
    frame = replace(frame, processes=len(managers))
    accesses = [[(model, {}) for model in each.tolist()] for each in recorded.visits]
    return _prediction(
        managers, "recorded", numbers, counts, plan, batch_size, frame, accesses.__getitem__
    )


def _elements(recorded: Recorded, column: str | None) -> Source:
    """The keys of a trace, one by one, for another mapping, batch size or number of workers."""
    if recorded.keys is None:
        raise ValueError(
            f"the trace has batches of up to {recorded.batch_size} elements, and their order "
            "within a batch was not recorded: predict from the trace alone, from a run with "
            "batches of one element, or from the keys themselves"
        )
    source = read_keys(recorded.keys, column)
    return Source(source.pieces, lambda i: f"element {i} of the trace", as_text=True)


def _prediction(
    managers: Sequence[Manager],
    routing: str,
    numbers: KeyNumbers,
    counts: KeyCounts,
    plan: Plan,
    batch_size: int | None,
    frame: _Frame,
    accesses: Callable[[int], Sequence[Access]],
) -> Prediction:
    count = len(numbers.names)
    loads = np.array([manager.loads(count) for manager in managers])
    seen = np.array([manager.seen for manager in managers])
    keys, _ = counts.groups()
    visited = np.bincount(numbers.models[keys], minlength=count) > 0
    held = np.minimum(np.arange(1, count + 1), seen[:, None])
    sizes = _sizes(numbers.names, visited, frame)
    return Prediction(
        models=numbers.names,
        elements=int(counts.groups()[1].sum()),
        keys=len(keys),
        visits=sum(manager.visits for manager in managers),
        batch_size=batch_size,
        workers=frame.workers,
        processes=frame.processes,
        copies=frame.copies,
        routing=routing,
        models_seen=int(visited.sum()),
        managers=PerManager(
            elements=np.array([m.elements for m in managers]),
            visits=np.array([m.visits for m in managers]),
            models_seen=seen,
            loads=loads,
            evictions=loads - held,
            bytes=None if sizes is None else _bytes(managers, sizes, visited),
        ),
        optimum_by_room=replay.optimum(managers, count) if frame.optimum else None,
        grouped_by_room=replay.grouped_by_key(counts, numbers, plan),
        measured=frame.measured,
        sizes=None if sizes is None else np.where(visited, sizes, 0),
        sizes_given=frame.sizes is not None,
        stepped=Stepped(
            accesses=accesses,
            visits=(lambda number: managers[number].kept()) if plan.keeps_visits else None,
            keys_and_models=lambda: (numbers.texts, numbers.models),
            sizes=sizes,
        ),
    )


def _sizes(names: Sequence[str], visited: np.ndarray, frame: _Frame) -> np.ndarray | None:
    """Bytes of each model; None where they are not known."""
    sizes, measured = frame.sizes, frame.measured
    if sizes is None:
        if measured is None or not _all_known(measured.sizes, names, visited):
            return None
        sizes = {name: measured.sizes[name] for name in names if name in measured.sizes}
    return read_sizes(sizes, names, visited)


def _bytes(managers: Sequence[Manager], sizes: np.ndarray, visited: np.ndarray) -> np.ndarray:
    if len(np.unique(sizes[visited])) == 1:
        held = np.minimum(
            np.arange(1, len(sizes) + 1), np.array([m.seen for m in managers])[:, None]
        )
        return held * int(sizes[visited][0])
    return replay.most_bytes(managers, sizes)


def _all_known(sizes: Mapping[str, int], names: Sequence[str], visited: np.ndarray) -> bool:
    return all(name in sizes for name, used in zip(names, visited, strict=True) if used)


def _differ(sizes: Any, recorded: Recorded | None) -> bool:
    """Whether models may differ in size, so that bytes follow from the very visits."""
    if sizes is None:
        return recorded is not None
    return not isinstance(sizes, Real)


def _fixed_batch_size(handler: Any) -> int | None:
    """The batch size that a handler fixes, if it does."""
    keyed = internals.keyed_handler(handler) if hasattr(handler, "load_model") else None
    if keyed is None:
        return None
    kwargs = keyed.batch_elements_kwargs()
    most = kwargs.get("max_batch_size")
    return most if most is not None and most == kwargs.get("min_batch_size") else None
