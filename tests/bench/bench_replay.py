"""How large the replay page is, and how quickly it opens and steps, beside an empty page."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

from playwright.sync_api import sync_playwright

from mmlab.page.build import ReplayPage
from mmlab.page.content import run_content
from tests.unit.page.runs import lru_run, random_accesses

ACCESSES = 100_000
SIZES = {12: 5, 1_000: 50}
"""Models, and the limit of the recorded run."""
ROUNDS = 60
EMPTY = "<!doctype html><title>Empty</title>"

MEASURE = """async (rounds) => {
  const timed = (action) => {
    const began = performance.now();
    action();
    document.body.getBoundingClientRect();
    return performance.now() - began;
  };
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const took = { step: [], jump: [], limit: [], frame: [] };
  const steps = window.replay.steps;
  for (let i = 0; i < rounds; i++) {
    const anywhere = Math.floor(((i * 7919) % rounds) / rounds * steps);
    took.jump.push(timed(() => window.replay.goto(anywhere)));
    await frame();
    took.step.push(timed(() => window.replay.goto(anywhere + 1)));
    const began = performance.now();
    await frame();
    await frame();
    took.frame.push((performance.now() - began) / 2);
  }
  for (const hint of [1, 2, 3, 7, 9]) took.limit.push(timed(() => window.replay.setHint(hint)));
  return took;
}"""


def opened(browser, file: Path) -> tuple[float, object]:
    """Seconds until a page of its own has been loaded, and the page."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    began = time.perf_counter()
    page.goto(file.as_uri())
    page.evaluate("() => new Promise((done) => requestAnimationFrame(done))")
    return time.perf_counter() - began, page


def report(browser, folder: Path, models: int, limit: int) -> None:
    trace = lru_run(random_accesses(random.Random(models), models, ACCESSES), limit)
    began = time.perf_counter()
    content = run_content(trace)
    built = time.perf_counter() - began
    size = len(json.dumps(content, separators=(",", ":")))
    file = ReplayPage(content).save(folder / "page.html")
    empty = folder / "empty.html"
    empty.write_text(EMPTY, encoding="utf-8")
    bare = median(opened(browser, empty)[0] for _ in range(3))
    took = [opened(browser, file) for _ in range(3)]
    figures = took[-1][1].evaluate(MEASURE, ROUNDS)
    step, jump, limit_ms, frame = (
        median(figures[name]) for name in ("step", "jump", "limit", "frame")
    )
    print(
        f"{ACCESSES:,} accesses of {models:,} models: data {size / 1e6:.2f} MB, built in "
        f"{built:.1f} s; opens in {median(t for t, _ in took) * 1e3:.0f} ms (empty page "
        f"{bare * 1e3:.0f} ms); step {step:.1f} ms, jump {jump:.1f} ms, another limit "
        f"{limit_ms:.0f} ms (one frame {frame:.1f} ms), medians"
    )


if __name__ == "__main__":
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for models, limit in SIZES.items():
            report(browser, Path(folder), models, limit)
        browser.close()
