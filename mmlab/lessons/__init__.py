"""Data, models, pictures, tables and exercises that the notebooks share."""

from mmlab.lessons.counters import counters
from mmlab.lessons.digits import MAPPING, SCANNERS, scan, scans_file, true_digit
from mmlab.lessons.errors import print_wrapped, real_error
from mmlab.lessons.exercises import check, hint
from mmlab.lessons.leftovers import leftovers_per_load, print_leftovers
from mmlab.lessons.memory import show_memory, show_release
from mmlab.lessons.models import DigitClassifier, handler, mapping, predicted_digit, weights_file
from mmlab.lessons.pictures import show_right, show_scans
from mmlab.lessons.recorded import recorded_run
from mmlab.lessons.start import start
from mmlab.lessons.tables import compare, per_model
from mmlab.transforms import FixedBatches

__all__ = [
    "MAPPING",
    "SCANNERS",
    "DigitClassifier",
    "FixedBatches",
    "check",
    "compare",
    "counters",
    "handler",
    "hint",
    "leftovers_per_load",
    "mapping",
    "per_model",
    "predicted_digit",
    "print_leftovers",
    "print_wrapped",
    "real_error",
    "recorded_run",
    "scan",
    "scans_file",
    "show_memory",
    "show_release",
    "show_right",
    "show_scans",
    "start",
    "true_digit",
    "weights_file",
]
