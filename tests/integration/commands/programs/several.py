"""Three pipelines and a helper of its own; no guard."""

import argparse
import sys
import threading

import apache_beam as beam
import helper
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

parser = argparse.ArgumentParser()
parser.add_argument("--elements", type=int)
known, others = parser.parse_known_args()


class Doubles(ModelHandler):
    def load_model(self):
        return helper.Model()

    def run_inference(self, batch, model, inference_args=None):
        return [model.double(element) for element in batch]


def work(label, elements):
    with beam.Pipeline(options=PipelineOptions(others)) as pipeline:
        done = pipeline | beam.Create(range(elements)) | label >> RunInference(Doubles())
        _ = done | beam.Map(print)


class RunsAnother(beam.DoFn):
    def process(self, element):
        work("Inner", 1)
        yield element


print(sys.argv, __name__, __spec__, __package__, sys.path[0])
work("Outer", known.elements)
with beam.Pipeline(options=PipelineOptions(others)) as pipeline:
    _ = pipeline | beam.Create([1]) | beam.ParDo(RunsAnother())
thread = threading.Thread(target=work, args=("In a thread", 2))
thread.start()
thread.join()
sys.exit(7)
