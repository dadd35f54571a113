"""What the cells of every lesson use; their set-up cell takes it from here."""

import apache_beam as beam
import torch
from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping, RunInference

__all__ = ["KeyModelMapping", "KeyedModelHandler", "RunInference", "beam", "torch"]
