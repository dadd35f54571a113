"""Predict loads, evictions and memory for every hint, without running anything."""

from mmlab.prediction.advice import Advice, NoAdviceError
from mmlab.prediction.fleet import Fleet, compare_routings
from mmlab.prediction.prediction import Prediction, predict

__all__ = ["Advice", "Fleet", "NoAdviceError", "Prediction", "compare_routings", "predict"]
