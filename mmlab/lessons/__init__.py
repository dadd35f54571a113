"""What the notebooks share: real data, real models, and little else."""

from mmlab.lessons.digits import MAPPING, SCANNERS, scans_file
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
    "mapping",
    "predicted_digit",
    "real_error",
    "scans_file",
    "show_scans",
    "start",
    "weights_file",
]
