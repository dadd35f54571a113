"""`%%watch` above cells that nobody changed, in the kernel of a notebook."""

from __future__ import annotations

import re

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.runs

LOAD = "%load_ext mmlab"
IMPORTS = """
import apache_beam as beam
from apache_beam.ml.inference.base import RunInference
from tests.handlers import Failing, NamedModels, keyed
from tests.handlers import run_keyed as run
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
own = beam.Pipeline.run, beam.Pipeline.__init__
"""
ONE = """%%watch trace
with beam.Pipeline() as pipeline:
    elements = pipeline | beam.Create([("a", 1), ("b", 2)], reshuffle=False)
    _ = elements | "Score" >> RunInference(keyed([["a"], ["b"]], 1))
4 + 4
"""
SEVERAL = """%%watch traces
for label in ("First", "Second"):
    run(FnApiRunner(), keyed([["a"]]), ["a", "a", "a"], label)
"""
ASK = "(trace.summary().loads, [t.summary().elements for t in traces])"
FAILS = """%%watch failed
with beam.Pipeline() as pipeline:
    _ = pipeline | beam.Create([1, 2]) | "Score" >> RunInference(Failing())
"""
ASK_FAILED = "failed.state"
WRONG = """%%watch a b
never()
"""
KEYWORD = """%%watch class
never()
"""
AWAITS = """%%watch
await never()
"""
BROKEN = """%%watch
1 +* 2
"""
MADE = """%%watch later
pipeline = beam.Pipeline(FnApiRunner())
_ = pipeline | beam.Create([1, 2]) | "Score" >> RunInference(NamedModels())
"""
RUN = "pipeline.run().trace.summary().elements"
LEFT = "(beam.Pipeline.run, beam.Pipeline.__init__) == own"


def test_cells_are_watched_drawn_and_otherwise_as_they_were():
    before = (LOAD, IMPORTS, ONE, SEVERAL, ASK, FAILS, ASK_FAILED)
    sources = (*before, WRONG, KEYWORD, AWAITS, BROKEN, MADE, RUN, LEFT)
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        notebook, timeout=600, startup_timeout=600, kernel_name="python3", allow_errors=True
    )
    client.execute()
    outputs = dict(zip(sources, (cell.outputs for cell in cells), strict=True))
    assert outputs[LOAD] == outputs[IMPORTS] == []
    assert [kind for kind, _ in shown(outputs[ONE])] == ["display_data", "execute_result"]
    assert shown(outputs[ONE])[1][1] == "8"
    assert [text for _, text in shown(outputs[SEVERAL])] == [
        "Timeline of First, drawn while it ran",
        "Timeline of Second (2), drawn while it ran",
    ]
    assert sum("image/png" in output.get("data", {}) for output in outputs[SEVERAL]) == 2
    assert shown(outputs[ASK]) == [("execute_result", "(2, [3, 3])")]
    assert any("image/png" in output.get("data", {}) for output in outputs[FAILS])
    [error] = [output for output in outputs[FAILS] if output.output_type == "error"]
    assert (error.ename, error.evalue.startswith("2 is too many")) == ("ValueError", True)
    frames = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback))
    assert "with beam.Pipeline() as pipeline" in frames
    assert "magics" not in frames
    assert "run_cell_magic" not in frames
    assert shown(outputs[ASK_FAILED]) == [("execute_result", "'FAILED'")]
    assert "%%watch takes one name for the trace" in str(outputs[WRONG])
    assert "takes one name for the trace, or nothing, got 'class'" in str(outputs[KEYWORD])
    assert "remove %%watch and put the cell's lines under" in str(outputs[AWAITS])
    assert [output.ename for output in outputs[BROKEN]] == ["SyntaxError"]
    assert outputs[MADE][0].text == (
        "No pipeline was run in this cell, so later is an empty list.\n"
    )
    assert ("execute_result", "2") in shown(outputs[RUN])
    assert any("image/png" in output.get("data", {}) for output in outputs[RUN])
    assert shown(outputs[LEFT]) == [("execute_result", "True")]


def shown(outputs):
    """What has words: Beam also loads a script for pictures of its own."""
    return [
        (output.output_type, output.data["text/plain"])
        for output in outputs
        if "text/plain" in output.get("data", {})
    ]
