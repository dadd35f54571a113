"""A pipeline whose worker is killed in mid-run: `python -m tests.behaviour.killed_worker LOG`."""

from __future__ import annotations

import os
import signal
import sys

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from mmlab import WatchRunner
from tests.handlers import NamedModels, keyed


class Deadly(NamedModels):
    """Its worker is killed, as the system's out-of-memory killer would, at element 20."""

    def run_inference(self, batch, model, inference_args=None):
        if 20 in batch:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run_inference(batch, model, inference_args)


def main(log: str) -> None:
    options = PipelineOptions(["--direct_running_mode=multi_processing", "--direct_num_workers=1"])
    with beam.Pipeline(WatchRunner(log=log), options=options) as pipeline:
        _ = (
            pipeline
            | beam.Create([(f"K{i % 2}", i) for i in range(40)], reshuffle=False)
            | RunInference(keyed([["K0"], ["K1"]], handler=Deadly))
        )


if __name__ == "__main__":
    main(sys.argv[1])
