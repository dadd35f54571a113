"""What the notebooks share: real data, real models, and little else."""

from mmlab.lessons.counters import counters
from mmlab.lessons.digits import MAPPING, SCANNERS, scan, scans_file, true_digit
from mmlab.lessons.errors import real_error
from mmlab.lessons.exercises import check, hint
from mmlab.lessons.models import (
    DigitClassifier,
    FixedBatches,
    handler,
    mapping,
    predicted_digit,
    weights_file,
)
from mmlab.lessons.pictures import show_right, show_scans
from mmlab.lessons.start import start
from mmlab.lessons.tables import compare, per_model

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
    "mapping",
    "per_model",
    "predicted_digit",
    "real_error",
    "scan",
    "scans_file",
    "show_right",
    "show_scans",
    "start",
    "true_digit",
    "weights_file",
]
