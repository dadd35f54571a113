"""Workers in processes of their own, and a spawned process of the program's."""

import multiprocessing
import sys
import tempfile
from pathlib import Path

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions


class Model:
    def double(self, element):
        return 2 * element


class Doubles(ModelHandler):
    def load_model(self):
        return Model()

    def run_inference(self, batch, model, inference_args=None):
        return [model.double(element) for element in batch]

    def share_model_across_processes(self):
        return True


def other(queue):
    queue.put((__name__, Model().double(4)))


def main():
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.SimpleQueue()
    process = spawn.Process(target=other, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
    with tempfile.TemporaryDirectory() as folder:
        with beam.Pipeline(options=PipelineOptions(sys.argv[1:])) as pipeline:
            done = pipeline | beam.Create(range(20)) | beam.Reshuffle() | RunInference(Doubles())
            _ = done | beam.io.WriteToText(f"{folder}/out")
        lines = [line for path in Path(folder).iterdir() for line in path.read_text().split()]
    print(sorted(map(int, lines)))


if __name__ == "__main__":
    main()
