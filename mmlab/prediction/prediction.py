"""`predict`: loads for every hint at once, without running anything; and its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmlab import lru
from mmlab._arguments import whole_number
from mmlab._text import plural
from mmlab.beam.handlers import keyed_handler
from mmlab.lru import MOST_RELOADS, Ints
from mmlab.prediction.advice import Advice, advise
from mmlab.prediction.keys import KeyNumbers, Source, numbered, read_keys, read_mapping
from mmlab.prediction.loads import PerManager, PredictedLoads
from mmlab.prediction.recorded import Measured, Recorded, read_trace
from mmlab.prediction.stepped import Access, Stepped
from mmlab.prediction.workload import (
    Asked,
    KeyCounts,
    Managers,
    Routing,
    Workload,
    loads_by_key,
    read_sizes,
)
from mmlab.trace import Trace

if TYPE_CHECKING:
    from mmlab.draw.picture import Picture
    from mmlab.page.build import ReplayPage


@dataclass(frozen=True, eq=False, repr=False)
class Prediction(PredictedLoads):
    """Predicted loads, evictions and bytes for every hint, with a picture, a page and advice.

    See `PredictedLoads` for the numbers of each hint.

    Attributes:
      stepped: the data of `replay`.
    """

    stepped: Stepped = field(kw_only=True)

    def plot(self, *, title: str | None = None) -> Picture:
        """Draw loads over hints with their cliff, the optimum, and memory: see `draw_hints`."""
        from mmlab.draw.hints import HintCurves, draw_hints

        counts = f"{plural(self.elements, 'element')}   ·   {plural(self.keys, 'key')}   ·   "
        counts += f"{plural(len(self.models), 'model')}   ·   {self.workload.words}"
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
        """Return a page that steps through the predicted loads and evictions, for every limit.

        For a long log the page shows the first 100,000 elements, or 100,000 accesses from `first`
        on, and says so. Its stack starts with the models of the earlier accesses. See
        `mmlab.page.build.ReplayPage`.

        Args:
          first: access of each model manager that the page shows first, from 1; managers with fewer
            accesses are left out. Keys are shown for the first 100,000 elements of the log.

        Raises:
          ValueError, TypeError: no manager has `first` accesses, `predict` kept only the first
            accesses (`optimum=False`), or the accesses up to there are of more than 2,000 models.
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
        """Find the smallest hint that does not thrash and fits: see `advice.advise`."""
        return advise(
            self,
            memory=memory,
            memory_limit=memory_limit,
            buffer=buffer,
            load_seconds=load_seconds,
            most_reloads=most_reloads,
        )


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
    """Predict what a keyed `RunInference` loads and evicts under every hint, without running it.

    The prediction follows Beam's rule: a model manager keeps the most recently used models, a batch
    accesses each of its models once, in the order of their first element, and the limit is the hint
    times the number of copies of the handler that share the manager.

    Args:
      keys: the key of every element, in order: a list or another iterable, a NumPy array, a pandas
        or Arrow column, a table with a column of keys, the path of a Parquet or CSV file, or a
        recorded `Trace`. A trace also gives mapping, batches, copies, sizes, seconds per load and
        buffer; a trace without further arguments is replayed as recorded, process by process.
      mapping_or_handler: a `KeyedModelHandler`, a list of `KeyModelMapping`, or a dict from model
        names to lists of keys, or from keys to model names. None if every key is a model.
      batch_size: elements per batch. None takes it from a handler whose `batch_elements_kwargs()`
        fixes it, otherwise 1, which gives the highest possible number of accesses.
      workers: number of machines.
      processes: SDK worker processes on each machine that hold models of their own. Processes that
        share one model manager, as with Beam's local `multi_processing`, count as `copies`.
      copies: copies of the handler that share one manager, mostly one per thread. None takes it
        from a trace (limit / hint), otherwise 1.
      routing: how elements reach processes. "spray" draws a process for each element at random.
        "by_key" and "by_model" send all elements of a key, or of a model, to one process, which a
        hash chooses.
      sizes: bytes of the models in memory, as a dict by model name, a list in the order of the
        models, or one number for each of them.
      optimum: whether to compute the fewest possible loads. This keeps all accesses in memory, 2
        to 4 bytes each. Without it, memory does not grow with the number of keys if all models
        have one size.
      column: name of the column with the keys, in a file or table; None for `key`, or the only
        column.
      step: label of the step, for a trace with several keyed steps.
      seed: seed of the random draws.

    Raises:
      ValueError, TypeError, FileNotFoundError: an argument is not valid; for a key, the message
        gives its position.
    """
    workload = Workload(batch_size, workers, processes, copies, routing, sizes, optimum, seed)
    return predictions(keys, mapping_or_handler, [workload], column=column, step=step)[0]


def predictions(
    keys: Any,
    mapping_or_handler: Any,
    workloads: Sequence[Workload],
    *,
    column: str | None,
    step: str | None,
) -> list[Prediction]:
    """One prediction for each workload, from one reading of the keys."""
    recorded = read_trace(keys, step) if isinstance(keys, Trace) else None
    if recorded is None and step is not None:
        raise ValueError(
            f"step must be None unless the keys are a Trace, got {step!r}: leave it out"
        )
    models = None if mapping_or_handler is None else read_mapping(mapping_or_handler)
    is_as_it_was = models is None and all(map(_leaves_the_rest, workloads)) and len(workloads) == 1
    measured = recorded.measured if recorded else None
    workloads = [_completed(each, mapping_or_handler, measured) for each in workloads]
    if recorded and is_as_it_was:
        return [_of_trace(recorded, workloads[0])]
    source = recorded.source(column) if recorded else read_keys(keys, column)
    known = models or (recorded.models if recorded else None)
    return _of_keys(
        source, _Log(KeyNumbers(known, source.as_text), KeyCounts(), measured), workloads
    )


def _of_keys(source: Source, log: _Log, workloads: Sequence[Workload]) -> list[Prediction]:
    asked = [Managers(each, _keeps_accesses(each, log.measured)) for each in workloads]
    for piece in numbered(source, log.numbers):
        log.counts.feed(piece)
        for managers in asked:
            managers.feed(piece, log.numbers)
    return [
        _prediction(log, workload, managers.end(), managers.first_accesses)
        for workload, managers in zip(workloads, asked, strict=True)
    ]


@dataclass(frozen=True)
class _Log:
    """The keys of a log, independent of workers and processes."""

    numbers: KeyNumbers
    counts: KeyCounts
    measured: Measured | None


def _leaves_the_rest(workload: Workload) -> bool:
    """Whether a trace's batches and processes are used as recorded."""
    asks_for_none = workload.batch_size is None and workload.managers == 1
    return asks_for_none and workload.routing == "spray"


def _completed(workload: Workload, handler: Any, measured: Measured | None) -> Workload:
    """The workload, with missing values taken from the handler and the trace."""
    return replace(
        workload,
        batch_size=workload.batch_size or _fixed_batch_size(handler) or 1,
        copies=workload.copies or (measured.copies if measured else 1),
    )


def _fixed_batch_size(handler: Any) -> int | None:
    """The batch size of a handler that fixes one; otherwise None."""
    keyed = keyed_handler(handler) if hasattr(handler, "load_model") else None
    if keyed is None:
        return None
    kwargs: Mapping[str, Any] = keyed.batch_elements_kwargs()
    most = kwargs.get("max_batch_size")
    return most if most is not None and most == kwargs.get("min_batch_size") else None


def _keeps_accesses(workload: Workload, measured: Measured | None) -> bool:
    """Whether all accesses are kept: the optimum and models of different sizes need them."""
    if workload.sizes is None:
        return workload.optimum or measured is not None
    return workload.optimum or not isinstance(workload.sizes, Real)


def _of_trace(recorded: Recorded, workload: Workload) -> Prediction:
    """A prediction from the recorded accesses of each process."""
    numbers, counts = KeyNumbers(recorded.models), KeyCounts()
    order = [(numbers.of(key), n) for key, n in recorded.elements.items()]
    counts.feed(np.repeat(*np.array(order).T).astype(np.int32))
    asked = [
        Asked(elements).after_accesses(accesses, keep=True)
        for accesses, elements in zip(recorded.accesses, recorded.elements_of_process, strict=True)
    ]
    workload = replace(
        workload,
        batch_size=1 if recorded.batch_size == 1 else None,
        processes=len(asked),
        routing="recorded",
    )
    steps: list[list[Access]] = [[(m, {}) for m in each.tolist()] for each in recorded.accesses]
    return _prediction(_Log(numbers, counts, recorded.measured), workload, asked, steps.__getitem__)


def _prediction(
    log: _Log,
    workload: Workload,
    asked: Sequence[Asked],
    first_accesses: Callable[[int], Sequence[Access]],
) -> Prediction:
    names, counts = log.numbers.names, log.counts
    keys, elements = counts.groups()
    used = np.bincount(log.numbers.models[keys], minlength=len(names)) > 0
    sizes = _sizes(names, used, workload, log.measured)
    optimum = None
    if workload.optimum:
        each = [lru.fewest_loads(manager.accesses, len(names)) for manager in asked]
        optimum = np.sum(each, axis=0)
    is_kept = _keeps_accesses(workload, log.measured)
    return Prediction(
        models=names,
        models_seen=int(used.sum()),
        elements=int(elements.sum()),
        keys=len(keys),
        visits=sum(manager.distances.accesses for manager in asked),
        workload=workload,
        managers=_per_manager(asked, len(names), used, sizes),
        optimum_by_capacity=optimum,
        grouped_by_capacity=loads_by_key(counts, log.numbers, workload),
        measured=log.measured,
        sizes=None if sizes is None else np.where(used, sizes, 0),
        stepped=Stepped(
            accesses=first_accesses,
            models=(lambda number: asked[number].accesses) if is_kept else None,
            keys_and_models=lambda: (log.numbers.texts, log.numbers.models),
            sizes=sizes,
        ),
    )


def _per_manager(
    asked: Sequence[Asked], models: int, used: npt.NDArray[np.bool_], sizes: Ints | None
) -> PerManager:
    loads = np.array([manager.distances.loads(models) for manager in asked])
    seen = np.array([manager.distances.models for manager in asked])
    held = np.minimum(np.arange(1, models + 1), seen[:, None])
    most = None
    if sizes is not None:
        if len(np.unique(sizes[used])) == 1:
            most = held * int(sizes[used][0])
        else:
            most = np.array([lru.most_bytes(manager.accesses, sizes) for manager in asked])
    return PerManager(
        elements=np.array([manager.elements for manager in asked]),
        visits=np.array([manager.distances.accesses for manager in asked]),
        models_seen=seen,
        loads=loads,
        evictions=loads - held,
        bytes=most,
    )


def _sizes(
    names: Sequence[str],
    used: npt.NDArray[np.bool_],
    workload: Workload,
    measured: Measured | None,
) -> Ints | None:
    """Bytes of each model; None if the size of a used model is not known."""
    sizes: Any = workload.sizes
    if sizes is None:
        known = {} if measured is None else measured.sizes
        if not all(name in known for name, is_used in zip(names, used, strict=True) if is_used):
            return None
        sizes = {name: known[name] for name in names if name in known}
    return read_sizes(sizes, names, used)
