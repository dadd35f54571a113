"""What each layer of the install must be able to do, and what it must say of the next one.

python tests/layers.py notebook      # in an environment with mmlab[notebook], anywhere
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import apache_beam as beam
from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping, ModelHandler
from apache_beam.ml.inference.base import RunInference as Inference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import mmlab

PROGRAM = """
import apache_beam as beam
from layers import keyed, Inference, FnApiRunner
with beam.Pipeline(FnApiRunner()) as pipeline:
    _ = pipeline | beam.Create([("a", 1), ("b", 2)]) | "Score" >> Inference(keyed())
print("program ends")
"""


class Model:
    pass


class Models(ModelHandler):
    def load_model(self):
        return Model()

    def run_inference(self, batch, model, inference_args=None):
        return batch


def keyed():
    return KeyedModelHandler([KeyModelMapping([key], Models()) for key in "ab"], 1)


def refused(call, *fragments):
    try:
        call()
    except ImportError as missing:
        assert all(fragment in str(missing) for fragment in fragments), missing
    else:
        raise AssertionError(f"nothing was said of {fragments}")


def watched():
    pipeline = beam.Pipeline(mmlab.WatchRunner(FnApiRunner()))
    with pipeline:
        _ = pipeline | beam.Create([("a", 1), ("b", 2)]) | "Score" >> Inference(keyed())
    return pipeline.result.trace


def command(folder, *words):
    done = subprocess.run(
        [str(Path(sys.executable).with_name("mmlab")), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parent), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def core(folder):
    trace = watched()
    assert trace.summary().loads == 2
    (folder / "program.py").write_text(PROGRAM)
    assert command(folder, "run", "program.py") == "program ends\n"
    assert "loads               2" in command(folder, "summary", "program.trace.jsonl")
    assert "7 notebooks copied" in command(folder, "lessons", "course")
    if find_spec("matplotlib") is None:
        extra = ('needs the extra "notebook"', "pip install 'mmlab[notebook]'")
        refused(lambda: mmlab.diagram(keyed()), "mmlab.diagram ", *extra)
        refused(lambda: mmlab.predict([*"ab"]), "mmlab.predict ", *extra)
        refused(trace.replay, "Trace.replay ", *extra)
        refused(trace.timeline, "Trace.timeline ", *extra)
        refused(trace.to_frame, "Trace.to_frame ", *extra)


def notebook(folder):
    assert "svg" in mmlab.diagram(keyed())._repr_mimebundle_()[0]["image/svg+xml"]
    trace = watched()
    assert trace.timeline().save(folder / "run.png").is_file()
    assert trace.replay().save(folder / "run.html").stat().st_size > 100_000
    assert len(mmlab.predict([*"abab"], keyed()).table()) == 2
    if find_spec("torch") is None:
        refused(lambda: mmlab.lessons, "mmlab.lessons ", 'needs the extra "lessons"')


def lessons(folder):
    assert callable(mmlab.lessons.start)


def lab(folder):
    assert find_spec("jupyterlab")
    command(folder, "doctor")


LAYERS = {"core": core, "notebook": notebook, "lessons": lessons, "lab": lab}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        for name, check in LAYERS.items():
            check(Path(place))
            print(name, "is whole")
            if name == sys.argv[1]:
                break
