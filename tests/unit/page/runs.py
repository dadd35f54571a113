"""Runs that tests of the page step through: accesses, and a manager that keeps some models."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from collections.abc import Sequence

from mmlab import Trace
from tests.events import Event

STEP = "RunInference[classify]"
MS = 1_000_000


def lru_run(
    accesses: Sequence[str],
    limit: int | None,
    *,
    keys: Sequence[Sequence[str]] | None = None,
    step: str = STEP,
    pid: int = 1,
    size: int = 64_000_000,
    names: Sequence[str] | None = None,
    errors: dict[int, str] | None = None,
    free_after_ms: int = 0,
    begin_ns: int = 1_000 * MS,
    described: bool = True,
) -> Trace:
    """A run in which a manager keeps the models that were used last.

    Args:
      keys: of each access; each model has one key, K and its name, if not given.
      names: of all models, in the author's order.
      errors: place of an access to the error that ends its batch.
      free_after_ms: from an eviction until the memory is released.
    """
    names = list(dict.fromkeys(accesses)) if names is None else names
    found, memory, loads, t_ns = [], OrderedDict(), Counter(), begin_ns
    of_model = {name: [f"K{name}"] for name in names}
    for name, some in zip(accesses, keys or (), strict=False):
        of_model[name] = list(dict.fromkeys([*of_model[name], *some]))

    def happens(kind, **fields):
        nonlocal t_ns
        found.append(Event("r", t_ns, "host-1", pid, 1, kind, step=step, **fields))
        t_ns += MS

    if described:
        models = [
            {"step": step, "model": name, "cohort": of_model[name][0], "keys": of_model[name]}
            | ({} if limit is None else {"hint": limit})
            for name in names
        ]
        found.append(Event("r", t_ns, "host-1", pid, 1, "run", info={"models": models}))
    if limit is not None:
        happens("limit", limit=limit)
    for place, name in enumerate(accesses):
        if name not in memory:
            if limit is not None and len(memory) >= limit:
                out, _ = memory.popitem(last=False)
                happens("evict", model=out, generation=loads[out])
                found.append(
                    Event("r", t_ns + free_after_ms * MS, "host-1", pid, 1, "free", step=step,
                          model=out, generation=loads[out])
                )  # fmt: skip
            loads[name] += 1
            happens("load_begin", model=name, generation=loads[name])
            t_ns += 20 * MS
            happens("load_end", model=name, generation=loads[name], bytes=size)
        memory[name] = True
        memory.move_to_end(name)
        used = keys[place] if keys else of_model[name][:1]
        counts = {"n": len(used), "keys": dict.fromkeys(used, 1)}
        happens("use_begin", model=name, generation=loads[name], **counts)
        t_ns += 5 * MS
        happens("use_end", model=name, generation=loads[name], error=(errors or {}).get(place))
    found.append(Event("r", t_ns, "host-1", pid, 1, "end", info={"state": "DONE"}))
    return Trace(found)


def random_accesses(draw: random.Random, models: int, length: int) -> list[str]:
    """Some models more often than others, and now and then the same one again."""
    names = [f"CONFIG_{i + 1}" for i in range(models)]
    weights = [draw.random() ** 2 + 0.05 for _ in names]
    accesses = []
    while len(accesses) < length:
        accesses += draw.choices(names, weights) * draw.randint(1, 2)
    return accesses[:length]
