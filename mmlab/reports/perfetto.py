"""Traces in the Chrome/Perfetto format: a lane for each model in its process, and counters.

Perfetto (https://ui.perfetto.dev) draws asynchronous events in one lane if they have the same
process and name. So every load is an event with its own id, and its outermost slice has the name
of the model. Times are microseconds since the first event of the trace.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, count
from operator import itemgetter
from typing import Any, TextIO

import numpy as np

from mmlab.events import UNKNOWN, Limit, Process, Refreshes, printable
from mmlab.state import UNSEEN, Batches, Ints, Residence, State, held_over_time

_MOST_PID = 2**31 - 1
_encode = json.JSONEncoder(separators=(",", ":")).encode


_Line = tuple[int, str]
"""Time in nanoseconds since the first event, and the event as JSON."""


def write_perfetto(state: State, file: TextIO) -> None:
    """Write a run to `file` as one JSON object, in ASCII."""
    zero_ns = min((of.first_ns for of in state.processes.values()), default=0)
    lines = sorted(_slices_and_counters(state, zero_ns), key=itemgetter(0))
    file.write('{"displayTimeUnit":"ms","otherData":')
    file.write(_encode({"run": _readable(state.run or ""), "began_unix_ns": zero_ns}))
    file.write(',"traceEvents":[\n')
    separator = ""
    for text in chain(map(_encode, _names(state)), map(itemgetter(1), lines)):
        file.write(separator)
        file.write(text)
        separator = ",\n"
    file.write("\n]}\n")


def _slices_and_counters(state: State, zero_ns: int) -> Iterator[_Line]:
    pids = _pids(state)
    ids: dict[Process, Iterator[int]] = defaultdict(lambda: count(1))
    several_steps = len({model.step for model in state.models}) > 1
    words = _Words(state.batches)
    for r in state.residences:
        name = " · ".join((r.step, r.model) if several_steps else (r.model,))
        lane = _Lane(_readable(name), pids[r.process], zero_ns, ids[r.process], words)
        yield from lane.of(r)
    for process, (step, model), rows in _unanswered(state):
        name = " · ".join((step, model) if several_steps else (model,))
        lane = _Lane(_readable(name), pids[process], zero_ns, ids[process], words)
        yield from lane.of_unseen_load(state.batches.take(rows), state.end_ns)
    yield from _counters(state, pids, zero_ns)
    for event in state.facts(Refreshes):
        yield _refresh(event, pids[event.process], zero_ns)


def _unanswered(state: State) -> Iterator[tuple[Process, tuple[str, str], Ints]]:
    """Batches whose load was not seen: the process and model asked for, and rows of batches."""
    batches = state.batches
    unseen = batches.residence < 0
    for place, (step, model, _) in enumerate(batches.models):
        rows = np.flatnonzero(unseen & (batches.asked == place))
        if len(rows):
            yield batches.processes[batches.process[rows[0]]], (step, model), rows


def _refresh(event: Refreshes, pid: int, zero_ns: int) -> _Line:
    """Mark a refresh, in which a side input replaces models, across the whole process."""
    after = event.t_ns - zero_ns
    common = {"ph": "i", "s": "p", "name": "refresh", "pid": pid, "tid": pid, "ts": after / 1000}
    return after, _encode({**common, "args": {"step": _readable(event.step or "")}})


def _names(state: State) -> Iterator[dict[str, Any]]:
    for index, (process, pid) in enumerate(_pids(state).items()):
        common = {"ph": "M", "pid": pid, "tid": pid}
        yield {**common, "name": "process_name", "args": {"name": _readable(str(process))}}
        yield {**common, "name": "process_sort_index", "args": {"sort_index": index}}


def _pids(state: State) -> dict[Process, int]:
    """Number each process: by its pid, unless a process of another machine has the same pid."""
    processes = state.processes_by_time
    pids: dict[Process, int] = {}
    taken = {process.pid for process in processes}
    spare = (pid for pid in count(1) if pid not in taken)
    given = set()
    for process in processes:
        own = 0 < process.pid <= _MOST_PID and process.pid not in given
        pids[process] = process.pid if own else next(spare)
        given.add(pids[process])
    return pids


class _Lane:
    """Converts the loads of a model to events: nested slices."""

    def __init__(self, name: str, pid: int, zero_ns: int, ids: Iterator[int], words: _Words):
        self._words = words
        self._name = _encode(name)
        self._fields = f',"cat":"model","pid":{pid},"tid":{pid},"id2":{{"local":"'
        self._zero_ns = zero_ns
        self._ids = ids

    def of(self, r: Residence) -> Iterator[_Line]:
        begin, end = r.load_begin_ns, max(r.last_ns, r.load_begin_ns)
        loaded = _within(r.load_end_ns if r.load_end_ns is not None else end, begin, end)
        rows = _rows(r.batches, self._words, loaded, end)
        identity = self._new_id()
        yield self._event("b", self._name, begin, identity, _of_load(r))
        if r.already:
            yield self._event("n", '"already in memory"', begin, identity)
        else:
            yield from self._slice('"loading"', begin, loaded, identity)
        yield from self._uses(rows[0] if rows else [], identity)
        for name, t_ns in (('"evicted"', r.evict_ns), ('"freed"', r.free_ns)):
            if t_ns is not None:
                yield self._event("n", name, _within(t_ns, begin, end), identity)
        yield self._event("e", self._name, end, identity)
        yield from self._more_lines(rows[1:])

    def of_unseen_load(self, batches: Batches, end_ns: int) -> Iterator[_Line]:
        """Convert batches whose load was not seen."""
        yield from self._more_lines(_rows(batches, self._words, int(batches.begin_ns[0]), end_ns))

    def _more_lines(self, rows: Iterable[list[_Slice]]) -> Iterator[_Line]:
        """Convert overlapping batches: each row becomes a further line of the lane."""
        for row in rows:
            identity = self._new_id()
            yield self._event("b", self._name, row[0][0], identity)
            yield from self._uses(row, identity)
            yield self._event("e", self._name, row[-1][1], identity)

    def _uses(self, row: list[_Slice], identity: str) -> Iterator[_Line]:
        for begin, end, args in row:
            yield from self._slice('"in use"', begin, end, identity, args)

    def _slice(
        self, name: str, begin: int, end: int, identity: str, args: str = ""
    ) -> Iterator[_Line]:
        yield self._event("b", name, begin, identity, args)
        yield self._event("e", name, end, identity)

    def _new_id(self) -> str:
        return f'{self._fields}{hex(next(self._ids))}"}}'

    def _event(self, phase: str, name: str, t_ns: int, identity: str, args: str = "") -> _Line:
        # Formatted by hand for speed: a long run has millions of events.
        after = t_ns - self._zero_ns
        return after, f'{{"ph":"{phase}","name":{name},"ts":{after / 1000:.3f}{identity}{args}}}'


_Slice = tuple[int, int, str]
"""Begin and end in nanoseconds, and the arguments as JSON."""


class _Words:
    """Arguments of batches as JSON, cached because many batches have the same."""

    def __init__(self, batches: Batches):
        self._batches = batches
        self._known: dict[tuple[int, int, int, str | None], str] = {}

    def of(self, n: int, keys: int, process: int, error: str | None) -> str:
        """The arguments of a batch, from its columns in `Batches`."""
        words = self._known.get((n, keys, process, error))
        if words is None:
            counts = self._batches.key_counts[keys]
            facts = {
                "elements": n,
                "keys": {_readable(key): n for key, n in counts.items()} or None,
                "asked_by": str(self._batches.processes[process]),
                "error": error,
            }
            words = self._known[n, keys, process, error] = _args(facts)
        return words


def _rows(batches: Batches, words: _Words, least: int, most: int) -> list[list[_Slice]]:
    """Distribute batches over as few rows as possible, without overlaps in a row."""
    rows: list[list[_Slice]] = []
    columns = (batches.begin_ns, batches.end_ns, batches.n, batches.keys, batches.process)
    for begin, end, n, keys, process, error in zip(
        *(column.tolist() for column in (*columns, batches.errors)), strict=True
    ):
        begin = _within(begin, least, most)
        end = _within(most if end == UNSEEN else end, begin, most)
        free = next((row for row in rows if row[-1][1] <= begin), None)
        if free is None:
            rows.append(free := [])
        free.append((begin, end, words.of(n, keys, process, error)))
    return rows


def _of_load(r: Residence) -> str:
    facts = {"step": r.step, "model": r.model, "generation": r.generation, "bytes": r.bytes}
    if r.sized_by != "tensors":
        facts["bytes found by"] = printable(r.sized_by)
    return _args({**facts, "version": r.version, "error": r.error})


def _args(facts: dict[str, Any]) -> str:
    known = {
        name: _readable(value) if isinstance(value, str) else value
        for name, value in facts.items()
        if value is not None and value is not UNKNOWN
    }
    return f',"args":{_encode(known)}'


def _counters(state: State, pids: dict[Process, int], zero_ns: int) -> Iterator[_Line]:
    def counter(process: Process, name: str, unit: str, t_ns: int, value: int) -> _Line:
        after = max(t_ns - zero_ns, 0)
        text = _encode({"ph": "C", "name": name, "pid": pids[process], "args": {unit: value}})
        return after, f'{text[:-1]},"ts":{after / 1000:.3f}}}'

    for process, of in state.processes.items():
        for name, curve in (("RSS", of.rss), ("GPU memory", of.device_bytes)):
            for t_ns, value in zip(curve.t_ns, curve.values, strict=True):
                yield counter(process, name, "bytes", t_ns, value)
    for event in state.facts(Limit):
        if isinstance(event.limit, int):
            name = "limit" if event.step is None else f"limit of {event.step}:"
            yield counter(event.process, _readable(name), "models", event.t_ns, event.limit)
    for process, group in state.residences_by_process.items():
        for t_ns, models in zip(*(each.tolist() for each in held_over_time(group)), strict=True):
            yield counter(process, "models", "resident", t_ns, models)


def _readable(text: str) -> str:
    """Replace characters beyond 16 bits.

    Perfetto rejects a whole trace if a string contains a surrogate pair, their escape in ASCII.

    >>> _readable("café 💥")
    'café U+1F4A5'
    """
    text = printable(text)
    if text.isascii():
        return text
    return "".join(c if ord(c) < 0x10000 else f"U+{ord(c):X}" for c in text)


def _within(t_ns: int, least: int, most: int) -> int:
    return min(max(t_ns, least), most)
