"""Join the batches of all processes and find the load that answered each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from mmlab.events import Process
from mmlab.state.intervals import Ints
from mmlab.state.process import BATCH_COLUMNS, UNSEEN, Asked, ProcessState
from mmlab.state.records import NO_BATCHES, Batches, Residence

_Model = tuple[str, str | None]
"""A model, whichever step asks for it."""


def join_batches(
    states: Sequence[ProcessState], places: Mapping[Process, Ints], holders: Holders, end_ns: int
) -> Batches:
    """Return the batches of all processes that began before the run ended, sorted by time.

    Args:
      places: for each process, the index of its loads in the run's list of loads; -1 for loads
        after the run.
      holders: built from the run's loads.
    """
    parts = []
    models: list[Asked] = []
    key_counts: list[Mapping[str, int]] = []
    for number, state in enumerate(states):
        part = _columns(state, end_ns)
        part["residence"] = _answering(state, part, places[state.process], holders)
        del part["load"]
        part["process"] = np.full(len(part["n"]), number, np.int64)
        part["asked"] += len(models)
        part["keys"] += len(key_counts)
        models += state.asked
        key_counts += state.key_counts
        parts.append(part)
    if not parts:
        return NO_BATCHES
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(joined["begin_ns"], kind="stable")
    columns = {name: column[order] for name, column in joined.items()}
    processes = [state.process for state in states]
    return Batches(**columns, processes=processes, models=models, key_counts=key_counts)


def _answering(
    state: ProcessState, part: dict[str, np.ndarray], places: Ints, holders: Holders
) -> Ints:
    """Index of the load that answered each batch, in the run's list; -1 where none was seen."""
    load, asked = part["load"], part["asked"]
    answering = np.full(len(load), -1, np.int64)
    known = load >= 0
    answering[known] = places[load[known]]
    unknown = np.flatnonzero(~known)
    order = unknown[np.lexsort((load[unknown], asked[unknown]))]
    new = (np.diff(asked[order]) != 0) | (np.diff(load[order]) != 0)
    for rows in np.split(order, np.flatnonzero(new) + 1) if len(order) else ():
        which, kind = int(asked[rows[0]]), int(load[rows[0]])
        generation = None if kind == -1 else -1 - kind
        answering[rows] = holders.at(
            state.process, state.asked[which], generation, part["begin_ns"][rows]
        )
    return answering


class Holders:
    """Finds the load that held a model at a given time, for batches that do not name their load.

    Args:
      residences: sorted by the time at which they began.
      shared_model: maps step, name and cohort to a key that is the same for all steps that share
        the model.
    """

    def __init__(
        self,
        residences: Sequence[Residence],
        shared_model: Callable[[str, str, str | None], _Model],
    ):
        self.residences = residences
        self._shared_model = shared_model

    @cached_property
    def _by_model(self) -> dict[tuple[str, _Model], list[int]]:
        groups: dict[tuple[str, _Model], list[int]] = {}
        for place, r in enumerate(self.residences):
            model = self._shared_model(r.step, r.model, r.cohort)
            groups.setdefault((r.process.host, model), []).append(place)
        return groups

    def at(self, process: Process, asked: Asked, generation: int | None, t_ns: Ints) -> Ints:
        """Index of the latest load before each time; -1 where there is none.

        Loads of `process` come first, then those of its machine.

        Args:
          asked: the model that the process asked for.
          generation: of the load, if known; then only loads of `process` are considered.
        """
        loads = self.residences
        there = self._by_model.get((process.host, self._shared_model(*asked)), [])
        own = [i for i in there if loads[i].process == process]
        if generation is not None:
            return self._latest([i for i in own if loads[i].generation == generation], t_ns)
        found = self._latest(own, t_ns)
        return np.where(found >= 0, found, self._latest(there, t_ns))

    def _latest(self, places: list[int], t_ns: Ints) -> Ints:
        if not places:
            return np.full(len(t_ns), -1, np.int64)
        begins = np.array([self.residences[i].load_begin_ns for i in places], np.int64)
        before = np.searchsorted(begins, t_ns, side="right") - 1
        return np.where(before >= 0, np.array(places, np.int64)[before], -1)


def _columns(state: ProcessState, end_ns: int) -> dict[str, np.ndarray]:
    """Batches of a process that began before the run ended, in the order of their ends."""
    still = [(*row, UNSEEN) for row in state.open_batches()]
    rows = np.concatenate([state.batches.since(0), np.array(still, np.int64).reshape(-1, 6)])
    columns: dict[str, np.ndarray] = dict(zip(BATCH_COLUMNS, rows.T.copy(), strict=True))
    columns["errors"] = np.full(len(columns["n"]), None, object)
    columns["given_up_ns"] = np.full(len(columns["n"]), UNSEEN, np.int64)
    for row, error in state.errors.items():
        columns["errors"][row] = error
    for row, t_ns in state.given_up.items():
        columns["given_up_ns"][row] = t_ns
    late = columns["end_ns"] > end_ns
    columns["end_ns"][late], columns["errors"][late] = UNSEEN, None
    begun = columns["begin_ns"] <= end_ns
    return columns if begun.all() else {name: column[begun] for name, column in columns.items()}
