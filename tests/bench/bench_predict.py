"""What predicting costs: all hints at once, beside tools that answer for a single hint.

One process, one thread. Prints medians of rounds in which all take turns, and ratios to the floor
of the same round. Run it with `make bench`, or alone:

    python tests/bench/bench_predict.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import mmlab
from mmlab import lru
from mmlab.lru import _IS_FAST, _compiled

REQUESTS = 10_000_000
ROUNDS = 5
FENWICK_REQUESTS = 1_000_000
CACHETOOLS_REQUESTS = 200_000


# The floor, and peers


@_compiled
def floor(visits, last):
    """Only note when each model was used last."""
    for t in range(len(visits)):
        last[visits[t]] = t


@_compiled
def fenwick(visits, last, tree, counts):
    """Stack distances of LRU with a binary indexed tree over all of time: the textbook way."""
    end = len(tree)
    for t in range(len(visits)):
        before = last[visits[t]]
        if before >= 0:
            depth = 0
            i = t
            while i > 0:
                depth += tree[i]
                i -= i & -i
            i = before
            while i > 0:
                depth -= tree[i]
                i -= i & -i
            counts[depth] += 1
            i = before + 1
            while i < end:
                tree[i] -= 1
                i += i & -i
        i = t + 1
        while i < end:
            tree[i] += 1
            i += i & -i
        last[visits[t]] = t


def run_floor(visits: np.ndarray, models: int) -> None:
    floor(visits, np.zeros(models, np.int64))


def run_ours(visits: np.ndarray, models: int) -> lru.StackDistances:
    return lru.StackDistances().after(visits)


def run_fenwick(visits: np.ndarray, models: int) -> np.ndarray:
    counts = np.zeros(models + 1, np.int64)
    fenwick(visits, np.full(models, -1), np.zeros(len(visits) + 1, np.int32), counts)
    return len(visits) - np.cumsum(counts[1:])


def run_cachetools(visits: np.ndarray, room: int) -> int:
    from cachetools import LRUCache

    cache, loads = LRUCache(room), 0
    for model in visits.tolist():
        if model in cache:
            cache[model]
        else:
            cache[model] = True
            loads += 1
    return loads


def libcachesim_on(visits: np.ndarray, folder: str) -> Callable[[int, int], float] | None:
    """libCacheSim's LRU over a file in its own binary format, which it maps into memory."""
    try:
        import libcachesim
    except ImportError:
        return None
    row = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])
    rows = np.zeros(len(visits), row)
    rows["time"], rows["id"], rows["size"] = np.arange(len(visits)), visits + 1, 1
    rows["next"] = 1
    path = Path(folder, "visits.oracleGeneral")
    rows.tofile(path)
    reader = libcachesim.TraceReader(str(path), libcachesim.TraceType.ORACLE_GENERAL_TRACE)

    def run(room: int, models: int) -> float:
        reader.reset()
        hashpower = max(models.bit_length() + 1, 10)
        return libcachesim.LRU(room, hashpower=hashpower).process_trace(reader)[0]

    return run


# Requests


def zipf(models: int, rng: np.random.Generator) -> np.ndarray:
    weights = 1 / np.arange(1, models + 1)
    drawn = rng.choice(models, REQUESTS, p=weights / weights.sum())
    return rng.permutation(models).astype(np.int32)[drawn]


def workloads() -> dict[str, tuple[np.ndarray, int]]:
    rng = np.random.default_rng(2026)
    bursts = np.repeat(rng.integers(0, 1000, REQUESTS // 16, dtype=np.int32), 16)
    return {
        "uniform, 4 models": (rng.integers(0, 4, REQUESTS, dtype=np.int32), 4),
        "uniform, 32 models": (rng.integers(0, 32, REQUESTS, dtype=np.int32), 32),
        "Zipf 1.0, 100 models": (zipf(100, rng), 100),
        "Zipf 1.0, 1,000 models": (zipf(1000, rng), 1000),
        "Zipf 1.0, 10,000 models": (zipf(10_000, rng), 10_000),
        "uniform, 1,000 models": (rng.integers(0, 1000, REQUESTS, dtype=np.int32), 1000),
        "cyclic, 1,000 models": ((np.arange(REQUESTS) % 1000).astype(np.int32), 1000),
        "bursts of 16, 1,000 models": (bursts, 1000),
    }


def seconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def compare(visits: np.ndarray, models: int, folder: str) -> None:
    room = max(models // 10, 1)
    peer = libcachesim_on(visits, folder)
    fewer, few = visits[:FENWICK_REQUESTS], visits[:CACHETOOLS_REQUESTS]
    scale, larger = REQUESTS / FENWICK_REQUESTS, REQUESTS / CACHETOOLS_REQUESTS
    ways: dict[str, Callable[[], float]] = {
        "floor": lambda: seconds(lambda: run_floor(visits, models)),
        "mmlab, every hint": lambda: seconds(lambda: run_ours(visits, models)),
        "Fenwick, every hint ¹": lambda: scale * seconds(lambda: run_fenwick(fewer, models)),
        "cachetools, one hint ²": lambda: larger * seconds(lambda: run_cachetools(few, room)),
    }
    if peer is not None:
        ways["libCacheSim, one hint"] = lambda: seconds(lambda: peer(room, models))
        agreed = round(peer(room, models) * REQUESTS)
        assert abs(agreed - run_ours(visits, models).loads(models)[room - 1]) <= 1, agreed
    assert (run_fenwick(fewer, models) == run_ours(fewer, models).loads(models)).all()
    assert run_cachetools(few, room) == run_ours(few, models).loads(models)[room - 1]
    run_floor(visits, models)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            times[name].append(way())
    ours, bottom = times["mmlab, every hint"], times["floor"]
    for name, each in times.items():
        median = statistics.median(each)
        beside = statistics.median(a / b for a, b in zip(each, ours, strict=True))
        of_floor = statistics.median(b / a for a, b in zip(each, bottom, strict=True))
        print(
            f"  {name:<24}{median * 1e3:>10,.0f} ms {REQUESTS / median / 1e6:>9,.1f} M/s"
            f"   × {beside:<9.2f} {of_floor:.3f} of the floor"
        )


def whole() -> None:
    """`mmlab.predict` from keys to table."""
    print(f"mmlab.predict, {REQUESTS:,} keys, Zipf 1.0 over 1,000 models")
    numbers = zipf(1000, np.random.default_rng(1))
    text = np.array([f"customer-{i}" for i in range(1000)], object)[numbers]
    visits = numbers[:1000]
    lru.fewest_loads(visits, 1000)
    for name, do in {
        "int32 keys, without the optimum": lambda: mmlab.predict(numbers, optimum=False),
        "int32 keys, with the optimum": lambda: mmlab.predict(numbers),
        "text keys, without the optimum": lambda: mmlab.predict(text, optimum=False),
        "int32 keys, 20 machines": lambda: mmlab.predict(numbers, optimum=False, workers=20),
    }.items():
        print(f"  {name:<34}{statistics.median(seconds(do) for _ in range(3)):6.2f} s")


def first_call() -> None:
    """In processes of their own: with an empty cache of machine code, and with a full one."""
    code = (
        "import time, numpy as np; from mmlab import lru; t = time.perf_counter();"
        "lru.StackDistances().after(np.arange(1000, dtype=np.int32));"
        "print(time.perf_counter() - t)"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in ("compiling", "from the cache"):
            done = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "NUMBA_CACHE_DIR": folder},
                capture_output=True,
                text=True,
                check=True,
            )
            print(f"  first call, {name:<22}{float(done.stdout):6.2f} s")


def main() -> None:
    if not _IS_FAST:
        print("numba is not installed: everything below runs without machine code")
    try:
        import libcachesim  # noqa: F401
    except ImportError as problem:
        print(f"libCacheSim is not here ({problem}): its lines are missing")
    print(
        f"{REQUESTS:,} int32 requests, one thread, medians of {ROUNDS} rounds; × is the time "
        "beside ours.\nThe single hint is a tenth of the models.\n"
        f"¹ {FENWICK_REQUESTS:,} and ² {CACHETOOLS_REQUESTS:,} requests, scaled up"
    )
    for name, (visits, models) in workloads().items():
        print(name)
        with tempfile.TemporaryDirectory() as folder:
            compare(visits, models, folder)
    whole()
    first_call()


if __name__ == "__main__":
    main()
