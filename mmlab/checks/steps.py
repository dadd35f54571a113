"""Problems of a whole pipeline, and of the libraries around it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from mmlab.beam.internals import InferenceStep, author_label
from mmlab.checks.problem import Problem

UNLABELLED = re.compile(r"RunInference(_[0-9a-f]{6})?")
"""Beam's own label; the suffix is what `--auto_unique_labels` appends."""


def label_problems(steps: Sequence[InferenceStep]) -> Iterator[Problem]:
    """`RunInference` without a label of its own, more than once in the same composite.

    Where Beam takes that at all: in a notebook, as it puts the number of the cell before, and with
    `--auto_unique_labels`.
    """
    scopes = [step.full_label.rpartition("/") for step in steps]
    unlabelled = Counter(
        scope for scope, _, own in scopes if UNLABELLED.fullmatch(author_label(own))
    )
    for scope, times in unlabelled.items():
        if times > 1:
            yield Problem(
                f"{times} RunInference steps have no label of their own: traces and pictures can "
                "hardly tell them apart.",
                scope or "the pipeline",
                "Give each a label: 'Model A' >> RunInference(…).",
            )


def missing_library_problems() -> Iterator[Problem]:
    """Libraries without which Beam goes on, and says less."""
    if find_spec("scipy") is None:
        yield Problem(
            "scipy is not installed, and without it Beam reports the size of every model as 0 "
            "bytes.",
            "this machine",
            "Run `pip install scipy`, on the workers too.",
        )
