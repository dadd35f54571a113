"""How long a diagram takes, beside `dot` alone and Beam's renderer, in one warm process.

    python tests/bench/bench_diagrams.py [rounds]

The three take turns, so that a busy machine is unfair to none of them. Figures are medians.
Beam's renderer draws every primitive transform; on the same pipeline it has more boxes to place.
Both peers need `dot`; where it is not installed, only our own figures are shown.
"""

from __future__ import annotations

import logging
import math
import shutil
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
    if not shutil.which("dot"):
        print("dot is not installed (Debian: apt install graphviz): its columns and Beam's are –")
    print("".join(f"{head:>11}" for head in heads))
    with tempfile.TemporaryDirectory() as folder:
        for steps in STEPS:
            print(_line(steps, _medians(_contestants(steps, folder), rounds)))


def _contestants(steps: int, folder: str) -> dict[str, Callable[[], object]]:
    pipeline = long_chain(steps)
    dot = mmlab.diagram(pipeline).dot.encode()
    options = PipelineOptions([f"--render_output={folder}/beam.svg"])
    peers = {
        "dot": lambda: subprocess.run(["dot", "-Tsvg"], input=dot, capture_output=True, check=True),
        "beam": lambda: RenderRunner().run_pipeline(pipeline, options),
    }
    return {
        **(peers if shutil.which("dot") else {}),
        "graph": lambda: mmlab.diagram(pipeline),
        "svg": lambda: mmlab.diagram(pipeline).svg,
        "notebook": lambda: mmlab.diagram(pipeline)._repr_mimebundle_(),
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
    dot, beam = ms.get("dot", math.nan), ms.get("beam", math.nan)
    figures = [ms["graph"], ms["svg"], ms["notebook"], dot, beam]
    ratios = [ms["svg"] / dot, beam / ms["svg"]]
    shown = ("–" if math.isnan(f) else f"{f:.1f}" for f in figures + ratios)
    return f"{steps:>11}" + "".join(f"{figure:>11}" for figure in shown)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
