"""Small runs as lists of events: what a trace, a picture or a table is made of."""

from __future__ import annotations

from tests.events import Event

SECOND = 1_000_000_000


def event(kind, seconds, *, pid=1, model="m", step="s", **fields):
    return Event("run", int(seconds * SECOND), "host", pid, pid, kind, step, model, **fields)


def story(*, free=True, hint=1):
    """Model a is loaded, used and evicted for b, then loaded again."""
    models = [{"step": "s", "model": name, "hint": hint, "keys": [name.upper()]} for name in "abc"]
    events = [
        Event("run", 0, "host", 1, 1, "run", info={"models": models}),
        event("limit", 0.5, model=None, limit=1),
        event("load_begin", 1, model="a", generation=1, rss=100),
        event("load_end", 2, model="a", generation=1, bytes=64, rss=200),
        event("use_begin", 2, model="a", generation=1, n=3, keys={"A": 3}),
        event("use_end", 3, model="a", generation=1),
        event("evict", 4, model="a", generation=1),
        event("free", 4.5, model="a", generation=1) if free else None,
        event("load_begin", 5, model="b", generation=1),
        event("load_end", 6, model="b", generation=1, bytes=64, rss=300),
        event("use_begin", 6, model="b", generation=1, n=1, keys={"B": 1}),
        event("use_end", 7, model="b", generation=1, error="ValueError: no"),
        event("evict", 7, model="b", generation=1),
        event("free", 7, model="b", generation=1),
        event("load_begin", 7, model="a", generation=2),
        event("load_end", 8, model="a", generation=2, bytes=64),
        event("memory", 9, model=None, rss=250, peak_rss=300),
        Event("run", 10 * SECOND, "host", 1, 1, "end", info={"state": "DONE"}),
    ]
    return [e for e in events if e is not None]


UNFIT = (
    "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 64000000 bytes"
)
