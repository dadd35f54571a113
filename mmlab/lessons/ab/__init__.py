"""The lesson on A/B patterns: grainy digits, two models, and statistics that compare them."""

from mmlab.lessons.ab.comparison import (
    Difference,
    mcnemar_p_value,
    paired_difference,
    split_difference,
)
from mmlab.lessons.ab.digits import digits_file
from mmlab.lessons.ab.models import LogisticRegression, SmallConvNet, handler, prepare, weights_file
from mmlab.lessons.ab.pictures import show_differences, show_digits, show_disagreements
from mmlab.lessons.ab.tables import agreement, score, work

__all__ = [
    "Difference",
    "LogisticRegression",
    "SmallConvNet",
    "agreement",
    "digits_file",
    "handler",
    "mcnemar_p_value",
    "paired_difference",
    "prepare",
    "score",
    "show_differences",
    "show_digits",
    "show_disagreements",
    "split_difference",
    "weights_file",
    "work",
]
