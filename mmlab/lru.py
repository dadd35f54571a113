"""Loads of a least-recently-used cache for every size at once, in one pass.

LRU is a stack algorithm (Mattson and others, "Evaluation techniques for storage hierarchies",
1970): what a cache of n models holds is always the top n of one stack, the models by last visit. A
visit to a model at depth d loads it in every cache smaller than d, and in no other. So counting
depths answers for all sizes.
"""

from __future__ import annotations

import numpy as np

from mmlab._compiled import IS_FAST, compiled

if IS_FAST:
    from mmlab._compiled import (
        lanes_of,
        lose_one_after,
        popcount,
        store_lanes,
        younger_lose_one,
    )

SLOTS_PER_MODEL = 4
WORDS = 64
"""Words of 64 slots, one lane each, that a line of one level has."""
FEW = 64 * WORDS // SLOTS_PER_MODEL
CHUNK = 1 << 15
FAN_OUT = 16
TESTED = 256
"""Visits of a line that tell whether many repeat the visit before."""


class Depths:
    """Counts at which depth of the LRU stack each visit finds its model.

    Attributes:
      models: how many models there can be; `feed` grows it.
      first: visits to a model that had not been visited before.
      counts: int64, shape (models + 1,); `counts[d]` visits found their model at depth d, 1 is the
        model of the visit before. `counts[0]` is not used.
    """

    def __init__(self, models: int = 0):
        self.models = 0
        self.first = 0
        self.counts = np.zeros(1, np.int64)
        self.grow(models)

    @property
    def visits(self) -> int:
        return self.first + int(self.counts.sum())

    def grow(self, models: int) -> None:
        """Make room for models 0 to `models` - 1."""
        if models > self.models:
            self.models = models
            self.counts = np.concatenate(
                [self.counts, np.zeros(models + 1 - len(self.counts), int)]
            )

    def feed(self, visits: np.ndarray) -> None:
        """Go on with `visits`, int32, shape (n,): numbers of models, in order."""
        raise NotImplementedError

    def loads(self, most: int) -> np.ndarray:
        """Loads with room for 1, 2, … `most` models; int64, shape (most,)."""
        found = np.zeros(most + 1, np.int64)
        reach = min(most, self.models)
        found[: reach + 1] = np.cumsum(self.counts[: reach + 1])
        found[reach + 1 :] = found[reach]
        return self.visits - found[1:]


def depths(models: int = 0) -> Depths:
    """The fastest `Depths` that this machine has."""
    return BitDepths(models) if IS_FAST else SortedDepths(models)


class BitDepths(Depths):
    """One bit per visit on a short line of time that is used again and again.

    Every visit takes the next slot of the line and sets its bit; the bit of the model's visit
    before is cleared. The depth is the number of bits from that slot on. Bits are counted by a
    popcount in their word of 64 slots and, above that, by how many bits the elder words hold. When
    the line is full, the bits that are left move to its begin.

    For up to `FEW` models the line has 64 words, and what is elder than each is one vector that
    stays in registers. For more it is a tree of fan-out 16 that knows for every node how many bits
    its elder siblings hold: a visit changes 16 neighbours per level.
    """

    def grow(self, models: int) -> None:
        if models <= self.models:
            return
        ranks = self._ranks() if self.models else np.zeros(0, np.int64)
        super().grow(models)
        self._slot = np.full(models, -1, np.int32)
        self._slot[: len(ranks)] = ranks
        self._next = self.first
        if models <= FEW:
            self._bits = np.zeros(WORDS, np.uint64)
            self._elder = _on_a_line(WORDS)
            _open_line(self._bits, self._elder)
            return
        levels = 1
        while 64 * FAN_OUT**levels < SLOTS_PER_MODEL * models:
            levels += 1
        self._bits = np.zeros(FAN_OUT**levels, np.uint64)
        self._elder = np.zeros((levels, FAN_OUT**levels), np.int32)
        _lay_out(self.first, self._bits, self._elder)

    def feed(self, visits: np.ndarray) -> None:
        if not len(visits):
            return
        feed = _feed_few if self.models <= FEW else _feed
        self._next, self.first = map(
            int,
            feed(
                np.ascontiguousarray(visits, np.int32),
                self._next, self.first, self._slot, self._bits, self._elder, self.counts,
            ),
        )  # fmt: skip

    def _ranks(self) -> np.ndarray:
        """Place of every model by last visit, 0 for the longest ago; -1 without a visit."""
        ranks = np.full(self.models, -1)
        seen = np.flatnonzero(self._slot >= 0)
        ranks[seen[np.argsort(self._slot[seen])]] = np.arange(len(seen))
        return ranks


def _on_a_line(count: int) -> np.ndarray:
    """uint16, shape (count,), from a multiple of 64 bytes on: no vector crosses a cache line.

    A visit stores all of it and reads one number of it; across lines it takes half as long again.
    """
    room = np.zeros(count + 32, np.uint16)
    begin = -room.ctypes.data % 64 // 2
    return room[begin : begin + count]


@compiled
def _feed_few(visits, here, first, slot, bits, elder, counts):
    """Walk through `visits` on a line of one level; returns the next slot and the first visits."""
    end = len(bits) << 6
    kept = np.empty(end, np.int32)
    begin = 0
    while begin < len(visits):
        stop = min(len(visits), begin + end - here)
        new = _without_repeats(visits, begin, stop, kept)
        if new:
            counts[1] += stop - begin - new
            first = _walk(kept, 0, new, here, first, slot, bits, elder, counts)
            here += new
        else:
            first = _walk(visits, begin, stop, here, first, slot, bits, elder, counts)
            here += stop - begin
        begin = stop
        if here == end:
            _close_up(slot, bits, elder)
            here = first
    return here, first


@compiled
def _without_repeats(visits, begin, stop, kept):
    """Copy to `kept` what differs from the visit before; 0 where few visits repeat it.

    A visit to the model of the visit before has depth 1, and changes nothing. To test each visit
    for it costs more than it saves where a branch cannot foresee it, so the first ones tell.
    """
    tested = min(stop - begin, TESTED)
    repeats = 0
    for i in range(np.uint64(begin), np.uint64(begin + tested - 1)):
        repeats += visits[i] == visits[i + np.uint64(1)]
    if 8 * repeats < tested:
        return 0
    new = np.uint64(0)
    for i in range(np.uint64(begin), np.uint64(stop - 1)):
        kept[new] = visits[i]
        new += np.uint64(visits[i] != visits[i + np.uint64(1)])
    kept[new] = visits[stop - 1]
    return np.int64(new) + 1


@compiled
def _walk(visits, begin, stop, here, first, slot, bits, elder, counts):
    """Give each of `visits[begin:stop]` a slot from `here` on; returns the first visits so far.

    The bits of all slots to come are set from the start, and counted in `elder`: a depth only asks
    for slots that were taken before, and so a visit has one bit to clear and none to set. Indices
    are unsigned, as signed ones are tested for counting from the end. `elder` is changed in
    registers, which waits for nothing, and stored so that one number of it can be read.
    """
    one = np.uint64(1)
    lanes = lanes_of(elder)
    ahead = here - begin
    for i in range(np.uint64(begin), np.uint64(stop)):
        model = np.uint32(visits[i])
        before = slot[model]
        slot[model] = i + ahead
        if before >= 0:
            place = np.uint64(before)
            word = place >> np.uint64(6)
            bit = one << (place & np.uint64(63))
            store_lanes(elder, lanes)
            line = bits[word]
            bits[word] = line & ~bit
            under = popcount(line & (bit - one)) + np.uint64(elder[word])
            lanes = lose_one_after(lanes, word)
            counts[np.uint64(first) - under] += 1
        else:
            first += 1
    store_lanes(elder, lanes)
    return first


@compiled
def _close_up(slot, bits, elder):
    """Move the visits that are still the latest of their model to the begin of the line."""
    one = np.uint64(1)
    for model in range(len(slot)):
        if slot[model] >= 0:
            place = np.uint64(slot[model])
            word = place >> np.uint64(6)
            line = bits[word] & ((one << (place & np.uint64(63))) - one)
            slot[model] = np.uint64(elder[word]) + popcount(line)
    _open_line(bits, elder)


@compiled
def _open_line(bits, elder):
    """Set the bits of all slots, taken or to come."""
    for word in range(len(bits)):
        bits[word] = ~np.uint64(0)
        elder[word] = word << 6


@compiled
def _lay_out(live, bits, elder):
    """Set the first `live` bits and no others; returns the next slot."""
    for word in range(len(bits)):
        held = min(max(live - (word << 6), 0), 64)
        bits[word] = (
            ~np.uint64(0) if held == 64 else (np.uint64(1) << np.uint64(held)) - np.uint64(1)
        )
    span = 64
    for level in range(len(elder)):
        for node in range(len(bits) // (span >> 6)):
            family = node // FAN_OUT * FAN_OUT
            elder[level, node] = min(live, node * span) - min(live, family * span)
        span *= FAN_OUT
    return live


@compiled
def _feed(visits, here, first, slot, bits, elder, counts):
    """Walk through `visits` with a tree; returns the next slot and the first visits so far."""
    levels = len(elder)
    end = len(bits) << 6
    one = np.uint64(1)
    latest = -1
    for visited in visits:
        if visited == latest:
            counts[1] += 1
            continue
        latest = visited
        before = slot[visited]
        if before >= 0:
            word = before >> 6
            bit = one << np.uint64(before & 63)
            line = bits[word]
            depth = first - np.int64(popcount(line & (bit - one)))
            node = word
            for level in range(levels):
                depth -= elder[level, node]
                younger_lose_one(elder[level], node & ~15, node & 15)
                node >>= 4
            counts[depth] += 1
            bits[word] = line & ~bit
        else:
            first += 1
        bits[here >> 6] |= one << np.uint64(here & 63)
        slot[visited] = here
        here += 1
        if here & 63 == 0:
            if here == end:
                for model in range(len(slot)):
                    old = slot[model]
                    if old >= 0:
                        node = old >> 6
                        line = bits[node] & ((one << np.uint64(old & 63)) - one)
                        rank = np.int64(popcount(line))
                        for level in range(levels):
                            rank += elder[level, node]
                            node >>= 4
                        slot[model] = rank
                here = _lay_out(first, bits, elder)
            else:
                left = first
                for level in range(levels - 1, -1, -1):
                    node = here >> (6 + 4 * level)
                    if here & ((64 << (4 * level)) - 1) == 0:
                        elder[level, node] = left
                    left -= elder[level, node]
    return here, first


class SortedDepths(Depths):
    """The same counts by sorting, for machines without numba.

    The depth of a visit is one more than the number of models visited since the model's visit
    before. With `before[i]` the place of that visit, these are the first visits of a model within
    the window: all j < i with `before[j]` < `before[i]`, less the places up to `before[i]`, which
    fulfil it too. That is counted for a whole chunk at once, which begins with the stack as it is.
    """

    def __init__(self, models: int = 0):
        self._stack = np.zeros(0, np.int32)
        super().__init__(models)

    def feed(self, visits: np.ndarray) -> None:
        step = max(CHUNK, 2 * self.models)
        for start in range(0, len(visits), step):
            self._feed(np.asarray(visits[start : start + step], np.int32))

    def _feed(self, visits: np.ndarray) -> None:
        walk = np.concatenate([self._stack, visits])
        by_model = np.argsort(walk, kind="stable")
        same = walk[by_model[1:]] == walk[by_model[:-1]]
        before = np.full(len(walk), -1)
        before[by_model[1:][same]] = by_model[:-1][same]
        again = before[len(self._stack) :]
        known = again >= 0
        smaller = _smaller_before(before)[len(self._stack) :]
        self.counts += np.bincount((smaller - again)[known], minlength=len(self.counts))
        self.first += int(len(again) - known.sum())
        last = by_model[np.append(~same, True)]
        self._stack = walk[np.sort(last)]


def _smaller_before(values: np.ndarray) -> np.ndarray:
    """For each of `values` ≥ 0, shape (n,), how many values before it are smaller.

    Places are sorted by value, then parted by their bits, the highest first: within a part, places
    with the bit set come after those without it, and are counted against them.

    >>> _smaller_before(np.array([5, 0, 3, 9])).tolist()
    [0, 0, 1, 3]
    """
    size = 1 << (len(values) - 1).bit_length()
    places = np.concatenate([np.argsort(values, kind="stable"), np.arange(len(values), size)])
    counts = np.zeros(size, np.int64)
    half = size // 2
    while half:
        parts = places.reshape(-1, 2 * half)
        upper = (parts & half) != 0
        at = np.flatnonzero(upper).reshape(-1, half)
        begin = np.arange(len(at))[:, None] * 2 * half
        counts[places[at]] += at - begin - np.arange(half)
        lower = parts[~upper].reshape(-1, half)
        places = np.concatenate([lower, places[at]], axis=1).ravel()
        half //= 2
    return counts[: len(values)]
