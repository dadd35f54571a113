"""A model that fails in a worker; the error is given a cause on its way."""

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference


class Fails(ModelHandler):
    def load_model(self):
        return object.__new__(type("Model", (), {}))

    def run_inference(self, batch, model, inference_args=None):
        raise ArithmeticError("no answer")


def main():
    runner = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
    with beam.Pipeline(runner) as pipeline:
        _ = pipeline | beam.Create([1]) | "Score" >> RunInference(Fails())


print("begins")
try:
    main()
except Exception as error:
    print(type(error).__mro__[1].__name__)
    raise LookupError("the program's own") from error
