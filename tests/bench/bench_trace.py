"""What a long trace costs: a million events loaded, summarised and exported.

Each figure is of a process of its own: seconds, and the highest resident set size beyond what the
imports take. The floor is pandas, which reads the same JSON lines into a table and checks nothing.
Run it with `make bench`.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from mmlab.trace import Trace

EVENTS = 1_000_000
ROUNDS = 3
MODELS = 8
BATCHES_PER_LOAD = 50


def write_log(path: Path, events: int) -> None:
    """A run of a keyed handler that thrashes: loads, evictions, batches, samples of memory."""
    head = '{"v":1,"run":"bench","host":"node-1","pid":4242,"tid":4243,"t_ns":%d,"event":"%s"'
    t_ns, written, loads = 1_000_000_000, 0, 0
    with path.open("w", encoding="ascii") as file:

        def write(event: str, fields: str = "") -> None:
            nonlocal t_ns, written
            t_ns += 20_000
            written += 1
            file.write(head % (t_ns, event) + fields + "}\n")

        write("process", ',"wall_ns":1800000000000000000')
        write("run", ',"info":{"models":[{"step":"Classify","model":"CONFIG_0","hint":2}]}')
        while written < events - 1:
            model, generation = loads % MODELS, loads // MODELS + 1
            of = f',"step":"Classify","model":"CONFIG_{model}","cohort":"KEY_{model}"'
            of += f',"generation":{generation}'
            write("load_begin", f'{of},"rss":{500_000_000 + loads}')
            write("load_end", f'{of},"bytes":64000000,"rss":{560_000_000 + loads}')
            for _ in range(BATCHES_PER_LOAD):
                write("use_begin", f'{of},"n":2,"keys":{{"KEY_{model}":2}}')
                write("use_end", of)
            write("evict", f'{of},"rss":560000000')
            write("free", of)
            loads += 1
        write("end", ',"info":{"state":"DONE"}')


def load(path: Path) -> object:
    return Trace.load(path)


def summarise(path: Path) -> object:
    return (trace := Trace.load(path)).summary(), trace


def save(path: Path) -> object:
    return Trace.load(path).save(path.with_suffix(".saved"))


def perfetto(path: Path) -> object:
    return Trace.load(path).to_perfetto(path.with_suffix(".perfetto"))


def frame(path: Path) -> object:
    return Trace.load(path).to_frame()


def pandas(path: Path) -> object:
    return pd.read_json(path, lines=True)


def standard_library(path: Path) -> object:
    with path.open("rb") as file:
        return [json.loads(line) for line in file]


TASKS: dict[str, Callable[[Path], object]] = {
    "pandas.read_json(lines=True)": pandas,
    "json.loads of each line": standard_library,
    "Trace.load": load,
    "… and summary": summarise,
    "… and to_frame": frame,
    "… and save": save,
    "… and to_perfetto": perfetto,
}


def highest_rss() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def in_this_process(task: str, path: Path) -> None:
    before = highest_rss()
    began = time.process_time()
    kept = TASKS[task](path)
    print(json.dumps([time.process_time() - began, highest_rss() - before]))
    del kept


def measured(task: str, path: Path) -> tuple[float, float]:
    """CPU seconds and bytes, medians of fresh processes."""
    command = [sys.executable, __file__, task, str(path)]
    rows = [json.loads(subprocess.check_output(command)) for _ in range(ROUNDS)]
    seconds, size = zip(*rows, strict=True)
    return statistics.median(seconds), statistics.median(size)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log.jsonl")
        write_log(path, EVENTS)
        print(f"{EVENTS:,} events, {path.stat().st_size / 1e6:,.0f} MB, median of {ROUNDS}")
        floor = None
        for task in TASKS:
            seconds, size = measured(task, path)
            floor = floor or seconds
            print(f"  {task:<30}{seconds:7.1f} s of CPU  × {seconds / floor:.2f}"
                  f"{size / 1e6:9,.0f} MB")  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) == 3:
        in_this_process(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
