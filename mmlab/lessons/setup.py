"""Names from Beam and PyTorch for the cells of every lesson, imported by the set-up cell."""

import apache_beam as beam
import torch
from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping, RunInference

__all__ = ["KeyModelMapping", "KeyedModelHandler", "RunInference", "beam", "torch"]
