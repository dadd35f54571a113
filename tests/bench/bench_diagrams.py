"""How long a diagram takes, beside `dot` alone and Beam's renderer, in one warm process.

    python tests/bench/bench_diagrams.py [rounds]

The three take turns, so that a busy machine is unfair to none of them. Figures are medians.
Beam's renderer draws every primitive transform; on the same pipeline it has more boxes to place.
"""

from __future__ import annotations

import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402
from apache_beam.runners.render import RenderRunner  # noqa: E402
from diagrams.pipelines import long_chain  # noqa: E402

import mmlab  # noqa: E402

STEPS = (5, 12, 50, 200)


def main(rounds: int) -> None:
    logging.disable(logging.CRITICAL)
    print(f"median of {rounds}, milliseconds")
    heads = ("steps", "graph+DOT", "to SVG", "notebook", "dot alone", "Beam", "SVG/dot", "Beam/SVG")
    print("".join(f"{head:>11}" for head in heads))
    with tempfile.TemporaryDirectory() as folder:
        for steps in STEPS:
            print(_line(steps, _medians(_contestants(steps, folder), rounds)))


def _contestants(steps: int, folder: str) -> dict[str, Callable[[], object]]:
    pipeline = long_chain(steps)
    dot = mmlab.diagram(pipeline).dot.encode()
    options = PipelineOptions([f"--render_output={folder}/beam.svg"])
    return {
        "dot": lambda: subprocess.run(["dot", "-Tsvg"], input=dot, capture_output=True, check=True),
        "graph": lambda: mmlab.diagram(pipeline),
        "svg": lambda: mmlab.diagram(pipeline).svg,
        "notebook": lambda: mmlab.diagram(pipeline)._repr_mimebundle_(),
        "beam": lambda: RenderRunner().run_pipeline(pipeline, options),
    }


def _medians(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            begin = time.perf_counter()
            run()
            if number:  # the first round warms up
                times[name].append((time.perf_counter() - begin) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def _line(steps: int, ms: dict[str, float]) -> str:
    figures = [ms["graph"], ms["svg"], ms["notebook"], ms["dot"], ms["beam"]]
    ratios = [ms["svg"] / ms["dot"], ms["beam"] / ms["svg"]]
    return f"{steps:>11}" + "".join(f"{f:>11.1f}" for f in figures + ratios)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
