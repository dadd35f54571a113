"""What is right: an ordered dict per hint, and every way to evict for the optimum."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache


def visits_of(models, batch_size):
    """A batch visits each of its models once, in the order first seen."""
    batches = (models[i : i + batch_size] for i in range(0, len(models), batch_size))
    return [model for batch in batches for model in dict.fromkeys(batch)]


def lru(visits, room, sizes=None):
    """Loads, evictions and most bytes held, by doing what Beam's model manager does."""
    resident, loads, evictions, most = OrderedDict(), 0, 0, 0
    for model in visits:
        if model in resident:
            resident.move_to_end(model)
            continue
        resident[model] = True
        if len(resident) > room:
            resident.popitem(last=False)
            evictions += 1
        loads += 1
        if sizes is not None:
            most = max(most, sum(sizes[held] for held in resident))
    return loads, evictions, most


def fewest_loads(visits, room):
    """Belady by brute force: every model that could be evicted is tried."""
    visits = tuple(visits)

    @cache
    def least(i, resident):
        if i == len(visits):
            return 0
        if visits[i] in resident:
            return least(i + 1, resident)
        if len(resident) < room:
            return 1 + least(i + 1, resident | {visits[i]})
        return 1 + min(least(i + 1, resident - {out} | {visits[i]}) for out in resident)

    return least(0, frozenset())
