"""A run in which everything that has a name has a bad one."""

from __future__ import annotations

import json

from mmlab import Trace
from mmlab.log.clock import Clocks
from mmlab.log.reader import parse

BASE = {"run": "r", "t_ns": 1, "host": "h", "pid": 1, "tid": 1, "event": "limit"}


def read(text: str | bytes):
    [event] = parse(text.encode() if isinstance(text, str) else text, Clocks())
    return event


HOSTILE = [
    "<script>window.pwned=1</script>",
    "</text></svg><img src=x onerror=window.pwned=1>",
    "]]> --> <!-- -->",
    r"$\frac{$ \n \G",
    "line\nbreak\ttab\x00\x1b[2J\x1b]0;title\x07",
    "half a pair \ud800",
    "right-to-left \u202eevil\u202c",
    "../../../etc/passwd",
    "=cmd|' /C calc'!A0",
    "",
    "x" * 5_000,
]


def hostile_trace() -> Trace:
    """A run in which everything that has a name has a bad one."""
    cards = [{"step": n, "model": n, "keys": [n], "weights": n, "handler": n} for n in HOSTILE]
    rows = [{**BASE, "run": HOSTILE[0], "event": "run", "info": {"models": cards}}]
    kinds = ["load_begin", "load_end", "use_begin", "use_end", "evict", "unknown_key", "unobserved"]
    of_kind = {"unknown_key": "error", "unobserved": "what"}
    for i, name in enumerate(HOSTILE):
        of = {"run": HOSTILE[0], "host": name, "step": name, "model": name, "generation": 1}
        for j, kind in enumerate(kinds):
            fields = {"n": 1, "keys": {name: 1}} if kind == "use_begin" else {"rss": 10**8}
            if kind in of_kind:
                fields[of_kind[kind]] = name
            rows.append({**BASE, **of, **fields, "t_ns": 10**8 * (10 * i + j + 1), "event": kind})
    error = "ValueError\x1b: " + " ".join(HOSTILE)
    end = {"event": "end", "t_ns": 10**11, "error": error, "info": {"state": "FAILED"}}
    rows.append({**BASE, "run": HOSTILE[0], **end})
    return Trace([read(json.dumps(row)) for row in rows])
