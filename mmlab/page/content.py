"""Content of the replay page: accesses, loads and limit of each model manager."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmlab.events import UNKNOWN, Dropped, Limit, Process, Refreshes, Unknown, Unobserved
from mmlab.page.columns import column, differences
from mmlab.state import NS, UNSEEN, Batches, Ints, Residence, State

_FORMAT = 1
MOST_ACCESSES = 100_000
"""Maximum number of accesses in one page; of longer runs the page shows a window."""
_MOST_MODELS = 2_000
"""Maximum number of models in one page, including those accessed before its window."""
MOST_MANAGERS = 50
_TICKS = 2**22
"""Number of ticks in a window: the time resolution of the page."""
_MOST_TICKS = 2**28
"""Maximum number of ticks in the whole run, so that they fit into a column."""


_Model = tuple[str, str | None]
"""Identity of a model in its manager."""


@dataclass
class _Manager:
    """One model manager: a process that holds models, and the steps that share them.

    Attributes:
      steps: labels of the steps.
      process: process that holds the models.
      models: number of each model, by step and name, or by cohort.
      rows: indices of the manager's batches in `State.batches`, by time.
      loads: loads of the models.
    """

    steps: tuple[str, ...]
    process: Process
    models: dict[_Model, int] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    loads: list[Residence] = field(default_factory=list)

    def number(self, model: _Model) -> int:
        return self.models.setdefault(model, len(self.models))


@dataclass(frozen=True)
class Described:
    """Description of a model in the page."""

    name: str
    keys: tuple[str, ...]
    bytes: int | None


@dataclass(frozen=True)
class _Table:
    """Accesses of one manager, sorted by time, shape (n,) each; and its loads.

    Steps are counted from 1: 0 is none, and n + 1 is after the last access.

    Attributes:
      model: number of the model.
      begin_ns, end_ns: begin and end; the end is `UNSEEN` without one.
      elements: number of elements in the batch; 0 for a load without a batch.
      keys: keys of the batch.
      errors: text of the exception that ended the batch or load, by step.
      loads: loads sorted by step.
      load_model, load_step, evict_step: model, step and step of eviction of each load, shape
        (loads,).
      unseen: number of accesses whose load was not seen.
    """

    model: Ints
    begin_ns: Ints
    end_ns: Ints
    elements: Ints
    keys: Sequence[Sequence[str]]
    errors: Mapping[int, str]
    loads: Sequence[Residence]
    load_model: Ints
    load_step: Ints
    evict_step: Ints
    unseen: int

    def __len__(self) -> int:
        return len(self.model)


def run_content(state: State, first: int = 1, most: int = MOST_ACCESSES) -> dict[str, Any]:
    """Return the content of the page of a run, as data for JSON.

    Args:
      first: number of the first access in each manager's window; managers with fewer accesses are
        left out.
      most: maximum number of accesses of all managers.

    Raises:
      ValueError: no manager has `first` accesses, or too many models were accessed before.
    """
    found = _managers_of(state)
    tables = [(manager, _table_of(state, manager)) for manager in found]
    tables = [(manager, table) for manager, table in tables if len(table)]
    tables.sort(key=lambda pair: int(pair[1].begin_ns[0]))
    shown = [pair for pair in tables if len(pair[1]) >= first][:MOST_MANAGERS]
    check_first(first, [len(table) for _, table in tables])
    lengths = shares([len(table) - first + 1 for _, table in shown], most)
    return {
        "format": _FORMAT,
        "kind": "run",
        "state": state.state,
        "error": state.error,
        "managers_in_all": len(tables),
        "managers": [
            _manager_content(state, manager, table, window_of(table.model, first, length))
            for (manager, table), length in zip(shown, lengths, strict=True)
        ],
    }


def check_first(first: int, totals: Sequence[int]) -> None:
    """Check that some manager has at least `first` accesses.

    Raises:
      ValueError: no manager has.
    """
    most = max(totals, default=0)
    if first > max(most, 1):
        raise ValueError(
            f"first must be the number of an access, up to {most:,}, got {first:,}: no model "
            "manager has more"
        )


def window_of(model: Ints, first: int, most: int) -> slice:
    """Return the window of accesses that one page shows; `model` is the model of each access.

    >>> window_of(np.array([3, 1, 3, 2, 1]), 2, 3)
    slice(1, 4, None)

    Raises:
      ValueError: more than `_MOST_MODELS` models were accessed before.
    """
    _, places = np.unique(model, return_index=True)
    beyond: list[int] = np.sort(places)[_MOST_MODELS : _MOST_MODELS + 1].tolist()
    if beyond and first > beyond[0]:
        raise ValueError(
            f"first must be {beyond[0]:,} or less, got {first:,}: a page shows up to "
            f"{_MOST_MODELS:,} models, and from access {beyond[0] + 1:,} on the stack holds more"
        )
    return slice(first - 1, min(len(model), first - 1 + most, *beyond))


def _used_before(model: Ints, begin: int) -> tuple[Ints, Ints]:
    """Models accessed before a window, most recently used first, and the step of their last use.

    Steps of the window are counted from 1, so 0 is the access just before it.

    >>> _used_before(np.array([3, 1, 3, 2, 1]), 3)
    (array([3, 1]), array([ 0, -1]))
    """
    backwards = model[:begin][::-1]
    _, places = np.unique(backwards, return_index=True)
    places = np.sort(places)
    return backwards[places], -places


def renumbered(models: int, model: Ints) -> tuple[Ints, Ints]:
    """Return the models of a page (all, or those in the window), and the new numbers of all models.

    >>> renumbered(3, np.array([2, 1]))
    (array([0, 1, 2]), array([0, 1, 2]))
    """
    named = np.arange(models) if models <= _MOST_MODELS else np.unique(model)
    numbers = np.zeros(models, np.int64)
    numbers[named] = np.arange(len(named))
    return named, numbers


def shares(wanted: Sequence[int], most: int) -> list[int]:
    """Divide `most` fairly: the smaller of the wanted shares are met first.

    >>> shares([10, 1000, 500], 700)
    [10, 345, 345]
    """
    given = [0] * len(wanted)
    left = most
    for done, place in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        given[place] = min(wanted[place], left // (len(wanted) - done))
        left -= given[place]
    return given


@dataclass(frozen=True)
class Logged:
    """Accesses of one simulated model manager, from a log of keys.

    Attributes:
      name: name of the manager; empty if there is only one.
      models: all models.
      model: model of each access until the end of the window.
      begin: number of accesses before the window.
      elements, keys: elements and keys of each access in the window; 0 and empty if unknown.
      total: total number of accesses.
    """

    name: str
    models: Sequence[Described]
    model: Ints
    begin: int
    elements: Ints
    keys: Sequence[Sequence[str]]
    total: int


def log_content(logged: Sequence[Logged], managers: int) -> dict[str, Any]:
    """Return the content of the page of a log of keys.

    Args:
      managers: number of managers; `logged` may contain only the first of them.
    """
    return {
        "format": _FORMAT,
        "kind": "keys",
        "managers_in_all": managers,
        "managers": [
            _accesses_content(
                each.models, each.model, each.begin, each.elements, each.keys, each.total
            )
            | {"step": each.name, "process": ""}
            for each in logged
        ],
    }


# Managers


def _managers_of(state: State) -> list[_Manager]:
    """Return a manager for each process and group of steps that share models."""
    groups = {step: steps for steps in state.sharing for step in steps}
    found: dict[tuple[Process, tuple[str, ...]], _Manager] = {}

    def manager(process: Process, step: str) -> _Manager:
        steps = groups.get(step, (step,))
        return found.setdefault((process, steps), _Manager(steps, process))

    for residence in state.residences:
        manager(residence.process, residence.step).loads.append(residence)
    batches = state.batches
    for row, (place, process, asked) in enumerate(
        zip(
            batches.residence.tolist(), batches.process.tolist(), batches.asked.tolist(),
            strict=True,
        )
    ):  # fmt: skip
        if place >= 0:
            answering = state.residences[place]
            manager(answering.process, answering.step).rows.append(row)
        else:
            manager(batches.processes[process], batches.models[asked][0]).rows.append(row)
    return list(found.values())


def _identity(manager: _Manager, step: str, model: str, cohort: str | None) -> _Model:
    """Identity of a model: step and name, or the cohort if steps share the model."""
    return (step, model) if len(manager.steps) == 1 else (manager.steps[0], cohort)


def _table_of(state: State, manager: _Manager) -> _Table:
    """Return the accesses of a manager, and the steps of its loads and evictions."""
    for known in state.models:
        if known.step in manager.steps:
            manager.number(_identity(manager, known.step, known.model, known.cohort))
    batches = state.batches.take(np.array(manager.rows, np.int64))
    model = _models_of(manager, batches)
    unused = [load for load in manager.loads if not len(load.rows) and not load.already]
    begin = np.concatenate([batches.begin_ns, [load.load_begin_ns for load in unused]])
    order = np.argsort(begin.astype(np.int64), kind="stable")
    begin = begin.astype(np.int64)[order]
    step_of = np.empty(len(order), np.int64)
    step_of[order] = np.arange(1, len(order) + 1)
    errors = [*batches.errors.tolist(), *(load.error for load in unused)]
    keys = [tuple(batches.key_counts[place]) for place in batches.keys.tolist()]
    of_load = _models_loaded(manager, unused)
    loads, load_steps = _steps_of_loads(manager, unused, step_of)
    ends = [load.loading[1] for load in unused]
    everything = [*keys, *(() for _ in unused)]
    return _Table(
        model=np.array([*model, *of_load], np.int64)[order],
        begin_ns=begin,
        end_ns=np.concatenate([batches.end_ns, np.array(ends, np.int64)])[order],
        elements=np.concatenate([batches.n, np.zeros(len(unused), np.int64)])[order],
        keys=[everything[i] for i in order.tolist()],
        errors={i: errors[k] for i, k in enumerate(order.tolist(), 1) if errors[k] is not None},
        loads=loads,
        load_model=np.array(_models_loaded(manager, loads), np.int64),
        load_step=load_steps,
        evict_step=_steps_of_evictions(loads, load_steps, begin),
        unseen=int((batches.residence < 0).sum()),
    )


def _steps_of_loads(
    manager: _Manager, unused: Sequence[Residence], step_of: Ints
) -> tuple[list[Residence], Ints]:
    """Steps of loads: the first access that each load serves; 0 if it preceded the run."""
    place_of_row = {row: place for place, row in enumerate(manager.rows)}
    pairs = []
    for load in manager.loads:
        if load.already:
            pairs.append((0, load))
        elif len(load.rows):
            places = [place_of_row[row] for row in load.rows.tolist() if row in place_of_row]
            pairs.append((int(step_of[places].min()), load))
    pairs += [
        (int(step_of[len(manager.rows) + i]), load) for i, load in enumerate(unused)
    ]  # fmt: skip
    pairs.sort(key=lambda pair: (pair[0], pair[1].load_begin_ns))
    return [load for _, load in pairs], np.array([step for step, _ in pairs], np.int64)


def _steps_of_evictions(loads: Sequence[Residence], load_steps: Ints, begin: Ints) -> Ints:
    """Steps of evictions: the first access that begins after each eviction; 0 without eviction."""
    evicted = [UNSEEN if load.evict_ns is None else load.evict_ns for load in loads]
    times = np.array(evicted, np.int64)
    steps = np.searchsorted(begin, times, side="left").astype(np.int64) + 1
    return np.where(times == UNSEEN, 0, np.maximum(steps, load_steps))


# Whether the recorded run follows LRU


def _limit_of(state: State, manager: _Manager) -> int | Unknown | None:
    """Highest effective limit of a manager, in models; None without a limit."""
    values = _limits_of(state, manager)
    if known := [value for value in values if isinstance(value, int)]:
        return max(known)
    hidden = any(e.what == "limit" and e.step in manager.steps for e in state.facts(Unobserved))
    hinted = any(m.hint is not None for m in state.models if m.step in manager.steps)
    return UNKNOWN if hidden or UNKNOWN in values or (hinted and not values) else None


def _limits_of(state: State, manager: _Manager) -> list[int | Unknown | None]:
    events = [e for e in state.facts(Limit) if e.step is None or e.step in manager.steps]
    own = [event for event in events if event.process == manager.process]
    return [event.limit for event in own or events]


def _follows_lru(table: _Table, limit: int | Unknown | None) -> bool:
    """Whether loads and evictions are those of LRU, access by access."""
    if limit is UNKNOWN or any(x.load_end_ns is None or x.already for x in table.loads):
        return False
    most = len(table) + 1 if limit is None else int(limit)
    loads, evictions = _lru_steps(table.model.tolist(), max(most, 1))
    seen = list(zip(table.load_step.tolist(), table.load_model.tolist(), strict=True))
    gone = np.flatnonzero(table.evict_step)
    dropped = zip(table.evict_step[gone].tolist(), table.load_model[gone].tolist(), strict=True)
    return seen == loads and sorted(dropped) == evictions


def _lru_steps(
    models: Iterable[int], limit: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Loads and evictions of LRU, as (step, model)."""
    memory: OrderedDict[int, None] = OrderedDict()
    loads, evictions = [], []
    for step, model in enumerate(models, 1):
        if model in memory:
            memory.move_to_end(model)
            continue
        if len(memory) == limit:
            evictions.append((step, memory.popitem(last=False)[0]))
        memory[model] = None
        loads.append((step, model))
    return loads, evictions


def _models_of(manager: _Manager, batches: Batches) -> list[int]:
    """Number of the model of each batch."""
    named = [_identity(manager, *asked) for asked in batches.models]
    numbers: dict[int, int] = {}
    for asked in batches.asked.tolist():
        if asked not in numbers:
            numbers[asked] = manager.number(named[asked])
    return [numbers[asked] for asked in batches.asked.tolist()]


def _models_loaded(manager: _Manager, loads: Sequence[Residence]) -> list[int]:
    return [manager.number(_identity(manager, x.step, x.model, x.cohort)) for x in loads]


def _reasons(
    state: State, manager: _Manager, table: _Table, limit: int | Unknown | None
) -> list[list[Any]]:
    """Reasons why a run was not plain LRU: names and numbers for the page's table of texts."""
    found: list[list[Any]] = []
    if limit is UNKNOWN:
        found.append(["limit_unknown"])
    values = [value for value in _limits_of(state, manager) if isinstance(value, int)]
    if len(set(values)) > 1:
        found.append(["limit_changed", values[0], values[-1]])
    refreshes = sum(
        event.process == manager.process and event.step in manager.steps
        for event in state.facts(Refreshes)
    )
    counted = {
        "loads_failed": sum(load.load_end_ns is None for load in table.loads),
        "already_there": sum(load.already for load in table.loads),
        "in_memory_before": table.unseen,
        "refreshed": refreshes,
    }
    found += [[why, count] for why, count in counted.items() if count]
    known = table.end_ns[:-1] != UNSEEN
    if bool((table.begin_ns[1:] < table.end_ns[:-1])[known].any()):
        found.append(["overlap"])
    if state.facts(Dropped):
        found.append(["dropped"])
    return found or [["other"]]


# As data


def _manager_content(
    state: State, manager: _Manager, table: _Table, window: slice
) -> dict[str, Any]:
    limit = _limit_of(state, manager)
    plain = _follows_lru(table, limit)
    described = _describe(state, manager)
    named, numbers = renumbered(len(described), table.model[: window.stop])
    models = [described[i] for i in named.tolist()]
    begin_ns, end_ns = table.begin_ns[window], table.end_ns[window]
    span = _span(state, table, window)
    last = max(int(table.end_ns.max()), int(table.begin_ns[-1]), state.end_ns)
    whole = last - min(state.start_ns, int(table.begin_ns[0]))
    tick = max(1, (span[1] - span[0]) // _TICKS, whole // _MOST_TICKS)

    def ticks(moment_ns: int) -> int:
        return (moment_ns - state.start_ns) // tick

    content = _accesses_content(
        models,
        numbers[table.model[: window.stop]],
        window.start,
        table.elements[window],
        table.keys[window],
        len(table),
    )
    begin = (begin_ns - state.start_ns) // tick
    content |= {
        "step": ", ".join(manager.steps),
        "process": str(manager.process),
        "limit": "unknown" if limit is UNKNOWN else limit,
        "recorded": plain,
        "why": [] if plain else _reasons(state, manager, table, limit),
        "errors": {
            str(step - window.start): text
            for step, text in table.errors.items()
            if window.start < step <= window.stop
        },
        "tick": tick * NS,
        "start": ticks(span[0]),
        "end": ticks(span[1]),
        "begin": differences(begin),
        # 0 means that the end was not seen.
        "lasted": column(
            np.where(end_ns == UNSEEN, 0, (end_ns - state.start_ns) // tick - begin + 1)
        ),
        "loads": _loads_content(table, window, plain, numbers, ticks),
    }
    return content


def _span(state: State, table: _Table, window: slice) -> tuple[int, int]:
    """Begin and end of a window's timeline: it begins with the end of the previous access."""
    begin_ns = int(table.begin_ns[window.start])
    if not window.start:
        start_ns = min(state.start_ns, begin_ns)
    else:
        ends = (int(table.begin_ns[window.start - 1]), int(table.end_ns[window.start - 1]))
        start_ns = min(begin_ns, max(ends))
    if window.stop < len(table):
        return start_ns, int(table.begin_ns[window.stop])
    return start_ns, max(state.end_ns, int(table.begin_ns[-1]))


def _loads_of_window(table: _Table, window: slice, plain: bool) -> Ints:
    """Indices of the loads that a window shows, including models in memory when it begins.

    If the run follows LRU, the models in memory come first, most recently used first, in the order
    of the script. If not, the last eviction of each model before the window is kept too: it shows
    that the model is not in memory, and that its next load is a reload.
    """
    step, evict_step = table.load_step, table.evict_step
    shown = (step <= window.stop) & ((evict_step == 0) | (evict_step > window.start))
    if plain:
        models, _ = _used_before(table.model, window.start)
        order = {model: place for place, model in enumerate(models.tolist())}
        places = np.flatnonzero(shown & (step <= window.start)).tolist()
        places.sort(key=lambda place: order[int(table.load_model[place])])
        later = np.flatnonzero(shown & (step > window.start))
        return np.concatenate([np.array(places, np.int64), later])
    gone = np.flatnonzero((evict_step > 0) & (evict_step <= window.start))
    last = {int(table.load_model[place]): int(place) for place in gone}
    shown[list(last.values())] = True
    return np.flatnonzero(shown)


def _loads_content(
    table: _Table, window: slice, plain: bool, numbers: Ints, ticks: Callable[[int], int]
) -> dict[str, Any]:
    """Content of the loads; if they follow LRU, the script computes models and steps itself.

    A load before the window has step 0, and an eviction before it has step -1.
    """
    kept = _loads_of_window(table, window, plain)
    steps = np.maximum(table.load_step[kept] - window.start, 0)
    evict_steps = table.evict_step[kept]
    there = (evict_steps > 0) & (evict_steps <= window.stop)
    evict_steps = np.where(there, np.maximum(evict_steps - window.start, -1), 0)
    evict_steps = np.where(there & (evict_steps == 0), -1, evict_steps)
    loads = [table.loads[i] for i in kept.tolist()]
    begin = np.array([ticks(load.load_begin_ns) for load in loads], np.int64)
    places = window.start + np.maximum(steps, 1) - 1
    access = np.array([ticks(t) for t in table.begin_ns[places].tolist()], np.int64)

    def after(moments: Sequence[int | None], base: Ints) -> Ints:
        """Encode moments relative to `base`: 0 for None, 1 for the same moment."""
        there = np.array([moment is not None for moment in moments], bool)
        at = np.array([0 if m is None else ticks(m) for m in moments], np.int64)
        late = at - base
        return np.where(there, late + (late >= 0), 0)

    content: dict[str, Any] = {
        "count": len(loads),
        "begin": column(access - begin),
        "loaded": column(after([load.load_end_ns for load in loads], begin)),
        "evicted": column(after([load.evict_ns for load in loads], begin)),
        "freed": column(after([load.free_ns for load in loads], begin)),
        "already": [i for i, load in enumerate(loads) if load.already],
        "failed": {str(i): load.error for i, load in enumerate(loads) if load.error is not None},
    }
    if not plain:
        content["model"] = column(numbers[table.load_model[kept]])
        content["step"] = differences(steps)
        content["evict_step"] = column(evict_steps)
    return content


def _accesses_content(
    models: Sequence[Described],
    model: Ints,
    begin: int,
    elements: Ints,
    keys: Sequence[Sequence[str]],
    total: int,
) -> dict[str, Any]:
    """Content of the models and accesses of one manager.

    Args:
      model: model of each access until the end of the window.
      begin: number of accesses before the window.
      elements, keys: elements and keys of each access in the window.
      total: total number of accesses.
    """
    from mmlab.draw.theme import model_palette  # imports matplotlib

    colours = model_palette.colours(each.name for each in models)
    sets: dict[tuple[str, ...], int] = {}
    for each in models:
        if len(each.keys) == 1:
            sets.setdefault(each.keys, len(sets))
    places = [sets.setdefault(tuple(each), len(sets)) for each in keys]
    used, last = _used_before(model, begin)
    model = model[begin:]
    # Most models have one key; their key set has the number of the model, and is written as 0.
    return {
        "models": [
            {
                "name": each.name,
                "keys": list(each.keys),
                "bytes": each.bytes,
                "colour": colours[each.name],
            }
            for each in models
        ],
        "total": total,
        "first": begin + 1,
        "length": len(model),
        "before": {"model": column(used), "last": column(last)},
        "model": column(model),
        "elements": column(elements),
        "sets": [list(each) for each in sets],
        "set": column(np.array(places, np.int64) - model),
    }


def _describe(state: State, manager: _Manager) -> list[Described]:
    """Models of a manager; the models named by the run come first, in its order."""
    named: dict[_Model, Described] = {}
    sizes: dict[_Model, int] = {}
    for load in manager.loads:
        if isinstance(load.bytes, int):
            which = _identity(manager, load.step, load.model, load.cohort)
            sizes[which] = max(load.bytes, sizes.get(which, 0))
    for model in state.models:
        if model.step in manager.steps:
            which = _identity(manager, model.step, model.model, model.cohort)
            named.setdefault(which, Described(model.model, model.keys, sizes.get(which)))
    names = {
        _identity(manager, step, name, cohort): name
        for step, name, cohort in state.batches.models
        if step in manager.steps
    }
    for load in manager.loads:
        names.setdefault(_identity(manager, load.step, load.model, load.cohort), load.model)
    return [
        named.get(which) or Described(names.get(which, str(which[1])), (), sizes.get(which))
        for which in manager.models
    ]
