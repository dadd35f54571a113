"""The layers of the package, as design and tests read them."""

from __future__ import annotations

LAYERS = (
    ("_arguments", "_cache", "_extras", "_faults", "_files", "_quiet", "_text", "fonts"),
    ("course",),
    ("events",),
    ("log",),
    ("beam",),
    ("transforms",),
    ("worker",),
    ("state", "budget"),
    ("lru",),
    ("reports",),
    ("draw",),
    ("page",),
    ("trace",),
    ("prediction", "diagrams"),
    ("machine",),
    ("checks",),
    ("watching",),
    ("fresh",),
    ("compare",),
    ("fit",),
    ("explorer",),
    ("lessons",),
    ("commands", "magics"),
    ("__main__",),
    ("",),  # the package itself
)
"""Lowest first: a module imports from its own package and from lower layers, and nothing else."""
