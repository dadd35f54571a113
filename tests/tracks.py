"""Events of loads and uses in several processes, with names that a format must escape."""

from __future__ import annotations

from tests.events import Event

SECOND = 10**9


HOSTILE = 'm"\\</script>\x1b[2J\ud800\u2028é模💥,'


def event(kind, seconds, *, host="h", pid=1, tid=1, model="a", step="s", **fields):
    return Event("run", int(seconds * SECOND), host, pid, tid, kind, step, model, **fields)


def load(model, begin, end, *, evict=None, free=None, generation=1, **at):
    of = {"model": model, "generation": generation, **at}
    yield event("load_begin", begin, **of, rss=100)
    yield event("load_end", end, **of, bytes=64)
    if evict is not None:
        yield event("evict", evict, **of)
    if free is not None:
        yield event("free", free, **of)


def use(model, begin, end, *, generation=1, **at):
    of = {"model": model, "generation": generation, **at}
    yield event("use_begin", begin, **of, n=2, keys={"K": 2})
    if end is not None:
        yield event("use_end", end, **of)
