"""What watching costs with two worker processes: watched against unwatched, side by side.

One process holds the models and the other asks it through Beam's proxies, so a batch costs far more
than in one process, and the watcher's share of it is small. Prints medians and ratios. Run it with
`make bench`.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

logging.disable(logging.WARNING)

import apache_beam as beam  # noqa: E402
import torch  # noqa: E402
from apache_beam.ml.inference.base import KeyModelMapping, RunInference  # noqa: E402
from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor  # noqa: E402
from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402
from apache_beam.runners.portability.fn_api_runner import FnApiRunner  # noqa: E402
from apache_beam.runners.runner import PipelineRunner  # noqa: E402

from mmlab import WatchRunner  # noqa: E402
from mmlab.transforms import FixedBatches  # noqa: E402

BATCHES = 100
ROUNDS = 4
WORKERS = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


class Small(torch.nn.Linear):
    """A model so small that everything around it shows."""

    def __init__(self) -> None:
        super().__init__(8, 2)


class Stamp(beam.DoFn):
    """Writes down when the first and the last answer of each bundle came."""

    def __init__(self, file: str):
        self._file = file

    def start_bundle(self) -> None:
        self._times: list[float] = []

    def process(self, answer: Any) -> Iterator[Any]:
        self._times.append(time.monotonic())
        yield answer

    def finish_bundle(self) -> None:
        if self._times:
            with Path(self._file).open("a") as file:
                file.write(f"{self._times[0]}\n{self._times[-1]}\n")


@contextmanager
def silent_workers() -> Iterator[None]:
    """Workers tell each batch's way on standard error, which they inherit."""
    said = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    try:
        yield
    finally:
        os.dup2(said, 2)
        os.close(said)
        os.close(silence)


def seconds(runner: PipelineRunner, folder: str) -> tuple[float, float]:
    """Of one run: from its submission to its end, and from the first answer to the last."""
    handlers = [
        KeyModelMapping([f"KEY_{i}"], PytorchModelHandlerTensor(f"{folder}/small.pt", Small))
        for i in range(4)
    ]
    elements = [(f"KEY_{i % 4}", torch.zeros(8)) for i in range(BATCHES)]
    stamps = Path(folder, "stamps")
    stamps.unlink(missing_ok=True)
    began = time.perf_counter()
    with silent_workers(), beam.Pipeline(runner, options=PipelineOptions(WORKERS)) as pipeline:
        _ = (
            pipeline
            | beam.Create(elements)
            | RunInference(FixedBatches(handlers, batch_size=1))
            | beam.ParDo(Stamp(str(stamps)))
        )
    whole = time.perf_counter() - began
    times = [float(line) for line in stamps.read_text().split()]
    return whole, max(times) - min(times)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        torch.save(Small().state_dict(), f"{folder}/small.pt")
        ways = {"unwatched": FnApiRunner, "watched": lambda: WatchRunner("FnApiRunner", live=False)}
        seconds(FnApiRunner(), folder)
        rounds: list[dict[str, tuple[float, float]]] = []
        for number in range(ROUNDS):
            print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
            # Each comes first in turn: order matters.
            order = list(ways) if number % 2 == 0 else list(reversed(ways))
            rounds.append({name: seconds(ways[name](), folder) for name in order})
    print(f"2 worker processes, {BATCHES} batches of 1 element, 4 models, {ROUNDS} rounds")
    for part, what in enumerate(("whole run, workers' start included", "first answer to last")):
        print(f"  {what}")
        for name in ways:
            median = statistics.median(times[name][part] for times in rounds)
            ratios = [times[name][part] / times["unwatched"][part] for times in rounds]
            print(
                f"    {name:<10} {median:6.2f} s   × {statistics.median(ratios):.3f} of the "
                f"unwatched run of its round, × {min(ratios):.2f} to × {max(ratios):.2f}"
            )


if __name__ == "__main__":
    main()
