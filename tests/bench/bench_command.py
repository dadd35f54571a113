"""What the command costs: `mmlab --help` beside `memray --help`, and a program under `mmlab run`.

Prints medians of processes that take turns. Run it with `make bench`.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.console import ROOT, command

TURNS = 15
PROGRAM_TURNS = 5
FN_API = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
PROGRAM = ROOT / "tests/integration/commands/programs/several.py"


def seconds(words: list[str], folder: str) -> float:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True)
    assert done.returncode in (0, 7), done.stderr  # 7 is the program's own
    return time.perf_counter() - began


def medians(commands: dict[str, list[str]], turns: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        for words in commands.values():
            seconds(words, folder)  # compiles what it imports
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(turns):
            for name, words in commands.items():
                taken[name].append(seconds(words, folder))
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    memray = shutil.which("memray", path=os.environ.get("MEMRAY", str(Path(sys.executable).parent)))
    if memray is None:
        print("memray is not installed: pip install memray")
    else:
        found = medians({"mmlab": [*command(), "--help"], "memray": [memray, "--help"]}, TURNS)
        ratio = found["mmlab"] / found["memray"]
        print(
            f"--help: mmlab {found['mmlab'] * 1e3:.0f} ms, memray {found['memray'] * 1e3:.0f} ms, "
            f"ratio {ratio:.2f} (at most 1.5)"
        )
    program = [str(PROGRAM), "--elements", "3", "--runner", FN_API]
    ways = {"python": [sys.executable, *program], "mmlab run": [*command(), "run", *program]}
    found = medians(ways, PROGRAM_TURNS)
    more = found["mmlab run"] - found["python"]
    print(
        f"a program of four pipelines: python {found['python']:.2f} s, mmlab run "
        f"{found['mmlab run']:.2f} s, {more:.2f} s more (at most 5% or 1 s)"
    )


if __name__ == "__main__":
    main()
