"""A run is shown while it goes on: a picture that stays in a notebook, a line in a terminal."""

from __future__ import annotations

import base64
import io
import logging
import sys
import threading
import time

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

from mmlab import WatchRunner
from mmlab.watching import screens
from tests.handlers import NamedModels, keyed, run_keyed
from tests.waiting import HUNG_SECONDS

pytestmark = [pytest.mark.runs, pytest.mark.usefixtures("without_torch")]

PATIENCE = {"timeout": HUNG_SECONDS, "startup_timeout": HUNG_SECONDS}
CELL = """
import mmlab
from tests.drawn import Drawn
from tests.handlers import Failing, NamedModels, Slow, keyed, run_keyed
runner = mmlab.WatchRunner({options})
pipeline = run_keyed(runner, keyed([["a"], ["b"]], 1, handler={handler}), ["a", "b"] * {times})
"""


RUNS = {
    "drawn": {"options": "", "handler": "Drawn", "times": 4},
    "failing": {"options": "", "handler": "Failing", "times": 4},
    "not live": {"options": "live=False", "handler": "NamedModels", "times": 1},
}


@pytest.fixture(scope="module")
def executed():
    """For each of `RUNS`, cells of one notebook: its outputs, and the frames that were sent."""
    cells = [nbformat.v4.new_code_cell(CELL.format(**words)) for words in RUNS.values()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(notebook, kernel_name="python3", allow_errors=True, **PATIENCE)
    frames = [[] for _ in cells]

    original = client.process_message

    def process(message, cell, index):
        data = message["content"].get("data", {})
        if "display_data" in message["msg_type"] and "image/png" in data:
            frames[index].append(data)
        return original(message, cell, index)

    client.process_message = process
    client.execute()
    return dict(
        zip(RUNS, ((c.outputs, f) for c, f in zip(cells, frames, strict=True)), strict=True)
    )


def pictures(outputs):
    shown = [out for out in outputs if out.output_type == "display_data"]
    return [out for out in shown if "image/png" in out.data]


def width(output):
    return Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).width


def test_a_notebook_keeps_one_picture_the_last_in_full_quality(executed):
    outputs, frames = executed["drawn"]
    (picture,) = pictures(outputs)
    assert width(picture) == 1900
    assert picture.metadata["image/png"]["width"] == 950
    assert picture.data["text/plain"] == "Timeline of Score, drawn while it ran"
    assert len({frame["image/png"] for frame in frames}) >= 4
    assert len({frame["text/plain"] for frame in frames}) == 1


def test_a_run_that_fails_leaves_its_last_picture(executed):
    outputs, _ = executed["failing"]
    assert width(pictures(outputs)[0]) == 1900
    assert [out.ename for out in outputs if out.output_type == "error"] == ["ValueError"]


def test_live_false_shows_nothing(executed):
    outputs, _ = executed["not live"]
    assert pictures(outputs) == []


def test_nothing_is_shown_where_output_is_captured(capsys):
    run_keyed(WatchRunner(), keyed([["a"]]), ["a"])
    assert capsys.readouterr() == ("", "")


def test_live_true_says_one_line(capsys):
    run_keyed(WatchRunner(live=True), keyed([["a"]]), ["a"])
    assert capsys.readouterr().err.startswith("Trace(DONE: 1 loads, 0 evictions, 1 elements")


def test_a_terminal_gets_one_line_that_is_written_over(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    run_keyed(WatchRunner(), keyed([["a"]]), ["a"])
    lines = terminal.getvalue().split("\r\x1b[K")
    assert lines[-1].startswith("Trace(DONE")
    assert lines[-1].endswith("\n")
    assert not any("\n" in line for line in lines[:-1])


class Screen(io.StringIO):
    """A terminal that knows what stands on it."""

    def isatty(self):
        return True

    def lines(self):
        """What a reader sees: a line is what was written since it was last cleared."""
        return [line.split("\r\x1b[K")[-1] for line in self.getvalue().split("\n")]


class Talks(NamedModels):
    """Prints and logs while its runner shows a line."""

    def run_inference(self, batch, model, inference_args=None):
        logging.getLogger("talk").warning("logged %s", batch)
        print("printed", batch, file=sys.stderr)
        time.sleep(0.02)
        return super().run_inference(batch, model, inference_args)


def test_no_record_is_glued_to_the_line_of_a_terminal(monkeypatch):
    terminal = Screen()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(screens, "FRAME_SECONDS", 0.0)
    handler = logging.StreamHandler(terminal)
    logging.getLogger("talk").addHandler(handler)
    try:
        run_keyed(WatchRunner(), keyed([["a"]], handler=Talks), ["a"] * 20)
    finally:
        logging.getLogger("talk").removeHandler(handler)
    assert "resident" in terminal.getvalue()
    lines = terminal.lines()
    assert [line for line in lines if "logged" in line] == [f"logged [{i}]" for i in range(20)]
    assert [line for line in lines if "printed" in line] == [f"printed [{i}]" for i in range(20)]
    assert lines[-2].startswith("Trace(DONE")
    assert sys.stderr is handler.stream is terminal
    assert "RSS 0 MB" not in terminal.getvalue()


def test_a_view_that_breaks_does_not_touch_the_run(monkeypatch):
    monkeypatch.setattr(screens.LivePicture, "add", lambda self, events: 1 / 0)
    monkeypatch.setattr(screens, "FRAME_SECONDS", 0.01)
    runner = WatchRunner(live=True)
    run_keyed(runner, keyed([["a"], ["b"]], 1, handler=NamedModels), ["a", "b"] * 20)
    assert runner.trace.state == "DONE"
    assert not [t for t in threading.enumerate() if t.name == "mmlab-live"]


@pytest.mark.parametrize("part", ["image", "line"])
def test_a_view_whose_first_frame_breaks_does_not_touch_the_run(part, monkeypatch):
    monkeypatch.setattr(screens.LivePicture, part, lambda self: 1 / 0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    runner = WatchRunner(live=True)
    run_keyed(runner, keyed([["a"]]), ["a"])
    assert runner.trace.state == "DONE"


def test_an_interrupted_cell_keeps_its_last_picture():
    """Interrupted twice, as people do who do not wait."""
    source = CELL.format(options="", handler="Slow", times=100)
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(f"{INTERRUPTS}{source}"),
               nbformat.v4.new_code_cell("interrupter.join(); print(runner.trace.state)")]
    )  # fmt: skip
    NotebookClient(
        notebook, timeout=600, startup_timeout=600, kernel_name="python3", allow_errors=True
    ).execute()
    cell, after = notebook.cells
    (picture,) = pictures(cell.outputs)
    assert width(picture) == 1900
    assert any(output.output_type == "error" for output in cell.outputs)
    assert after.outputs[0].text == "CANCELLED\n"


INTERRUPTS = """
import os, signal, threading
from tests.drawn import FRAMES
from tests.waiting import wait_for
seen, raises = [], signal.getsignal(signal.SIGINT)
def handler(*arguments):
    seen.append(1)
    raises(*arguments)
signal.signal(signal.SIGINT, handler)
def interrupt_twice():
    wait_for(lambda: len(FRAMES) > 3)
    os.kill(os.getpid(), signal.SIGINT)
    wait_for(lambda: seen)
    os.kill(os.getpid(), signal.SIGINT)
interrupter = threading.Thread(target=interrupt_twice)
interrupter.start()
"""


@pytest.mark.parametrize("value", ["yes", None, 2])
def test_live_takes_three_values(value):
    with pytest.raises(ValueError, match='must be True, False or "auto"'):
        WatchRunner(live=value)
