"""What the notebooks share: real data, real models, and little else."""

from mmlab.lessons.digits import MAPPING, SCANNERS, scans_file
from mmlab.lessons.exercises import check, hint
from mmlab.lessons.leftovers import leftovers_per_load, print_leftovers
from mmlab.lessons.memory import show_memory, show_release
from mmlab.lessons.models import (
    DigitClassifier,
    FixedBatches,
    handler,
    mapping,
    predicted_digit,
    weights_file,
)
from mmlab.lessons.pictures import show_scans
from mmlab.lessons.start import start
from mmlab.lessons.tables import compare

__all__ = [
    "MAPPING",
    "SCANNERS",
    "DigitClassifier",
    "FixedBatches",
    "check",
    "compare",
    "handler",
    "hint",
    "leftovers_per_load",
    "mapping",
    "predicted_digit",
    "print_leftovers",
    "scans_file",
    "show_memory",
    "show_release",
    "show_scans",
    "start",
    "weights_file",
]
