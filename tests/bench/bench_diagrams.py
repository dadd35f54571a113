"""How long a diagram takes, beside the program `dot` and Beam's renderer, in one warm process.

    python tests/bench/bench_diagrams.py [rounds]

They take turns, so that a busy machine is unfair to none of them. Figures are medians. The program
and Beam's renderer, which runs it, are left out where there is no Graphviz on PATH.
Beam's renderer draws every primitive transform; on the same pipeline it has more boxes to place.
"""

from __future__ import annotations

import logging
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.render import RenderRunner

import mmlab
from tests.unit.diagrams.pipelines import long_chain

STEPS = (5, 12, 50, 200)
HEADS = ("graph+DOT", "to SVG", "notebook", "dot", "Beam")


def main(rounds: int) -> None:
    logging.disable(logging.CRITICAL)
    print(f"median of {rounds}, milliseconds")
    begin = time.perf_counter()
    _ = mmlab.diagram(long_chain(5)).svg
    print(f"the first diagram of this process: {(time.perf_counter() - begin) * 1e3:.0f}")
    print("".join(f"{head:>11}" for head in ("steps", *HEADS, "SVG/dot", "Beam/SVG")))
    with tempfile.TemporaryDirectory() as folder:
        for steps in STEPS:
            print(_line(steps, _medians(_contestants(steps, folder), rounds)))


def _contestants(steps: int, folder: str) -> dict[str, Callable[[], object]]:
    pipeline = long_chain(steps)
    dot = mmlab.diagram(pipeline).dot.encode()
    options = PipelineOptions([f"--render_output={folder}/beam.svg"])
    ours = {
        "graph+DOT": lambda: mmlab.diagram(pipeline),
        "to SVG": lambda: mmlab.diagram(pipeline).svg,
        "notebook": lambda: mmlab.diagram(pipeline)._repr_mimebundle_(),
    }
    if shutil.which("dot") is None:
        return ours
    return ours | {
        "dot": lambda: subprocess.run(["dot", "-Tsvg"], input=dot, capture_output=True, check=True),
        "Beam": lambda: RenderRunner().run_pipeline(pipeline, options),
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
    cells = [f"{ms[head]:>11.1f}" if head in ms else f"{'-':>11}" for head in HEADS]
    if "dot" in ms:
        cells += [f"{ms['to SVG'] / ms['dot']:>11.1f}", f"{ms['Beam'] / ms['to SVG']:>11.1f}"]
    return f"{steps:>11}" + "".join(cells)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
