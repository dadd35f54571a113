"""The lesson on the sequence pattern: noisy scans and a model that restores them."""

from mmlab.lessons.sequence.models import Restorer, prepare, restorer, sureness, weights_file
from mmlab.lessons.sequence.pictures import show, show_lamp
from mmlab.lessons.sequence.scans import BLANK, TORN, damaged_file, label_of, scans_file
from mmlab.lessons.sequence.tables import beside, outcomes, read_right

__all__ = [
    "BLANK",
    "TORN",
    "Restorer",
    "beside",
    "damaged_file",
    "label_of",
    "outcomes",
    "prepare",
    "read_right",
    "restorer",
    "scans_file",
    "show",
    "show_lamp",
    "sureness",
    "weights_file",
]
