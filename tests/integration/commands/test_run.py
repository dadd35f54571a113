"""Programs that nobody changed say the same under `mmlab run` as under Python."""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from apache_beam.examples.inference import __file__ as examples

from mmlab import Trace
from tests.console import mmlab, said

pytestmark = pytest.mark.runs

PROGRAMS = Path(__file__).with_name("programs")
FN_API = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def both_ways(folder, *words, options=()):
    """What a program says under Python and under `mmlab run`; both end and print alike."""
    plain = said([sys.executable, *words], folder)
    watched = mmlab(folder, "run", *options, *words)
    assert watched.stdout == plain.stdout, watched.stderr
    assert watched.returncode == plain.returncode, watched.stderr
    return plain, watched


@pytest.fixture
def programs(tmp_path):
    shutil.copytree(PROGRAMS, tmp_path / "programs")
    return tmp_path


def test_a_program_of_several_pipelines_with_options_and_an_exit_status(programs):
    words = ("programs/several.py", "--elements", "3", "--runner", FN_API)
    plain, watched = both_ways(programs, *words)
    assert plain.returncode == 7
    assert "['programs/several.py', '--elements', '3'" in plain.stdout
    *runs, advice = [line for line in watched.stderr.splitlines() if line.startswith("mmlab: ")]
    labels = [line.split(":")[1] for line in runs]
    assert labels == [" Outer", " the pipeline (2)", " Inner (3)", " In a thread (4)"]
    assert "mmlab: Outer: DONE, 1 load, 0 evictions, 3 elements, " in runs[0]
    assert runs[0].endswith(" -> several.trace.jsonl")
    assert advice == (
        "mmlab: see mmlab summary several.trace.jsonl, or mmlab replay several.trace.jsonl --open"
    )
    found = {
        path.name: Trace.load(path).summary().elements for path in programs.glob("*.trace*.jsonl")
    }
    assert found == {
        "several.trace.jsonl": 3,
        "several.trace-2.jsonl": 0,
        "several.trace-3.jsonl": 1,
        "several.trace-4.jsonl": 2,
    }


def test_a_program_that_fails_has_its_own_traceback(programs):
    plain, watched = both_ways(programs, "programs/fails.py", options=["-o", "t.jsonl"])
    assert plain.returncode == 1
    end = "LookupError: the program's own\n"
    assert plain.stderr.endswith(end)
    shown, _, ours = watched.stderr.partition(end)
    assert ours.startswith("mmlab: Score: FAILED, 1 load")
    last = shown.rpartition("direct cause of the following exception")[2]
    assert last == plain.stderr.removesuffix(end).rpartition("following exception")[2]
    assert "commands/" not in shown
    assert Trace.load(programs / "t.jsonl").state == "FAILED"


@pytest.mark.part("programs")
def test_a_program_with_processes(programs):
    words = ("programs/processes.py", "--direct_running_mode=multi_processing")
    _, watched = both_ways(programs, *words, "--direct_num_workers=2", f"--runner={FN_API}")
    trace = Trace.load(programs / "processes.trace.jsonl")
    assert trace.summary().elements == 20, watched.stderr
    assert len({event.pid for event in trace.events}) > 1


@pytest.mark.part("programs")
def test_beams_example_of_a_keyed_handler(tmp_path):
    """Run as a module, and its main session is pickled."""
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(0)
    pixels, labels = generator.integers(0, 2, (40, 16)), np.arange(40) % 3
    model = LogisticRegression(max_iter=500).fit(pixels, labels)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    rows = [",".join(map(str, [label, *row])) for label, row in zip(labels, pixels, strict=True)]
    (tmp_path / "in.csv").write_text("\n".join(rows) + "\n")
    words = [
        "-m",
        "apache_beam.examples.inference.sklearn_mnist_classification",
        "--input=in.csv",
        "--output=out.txt",
        "--model_path=model.pkl",
    ]
    predicted = []
    plain = said([sys.executable, *words], tmp_path)
    predicted.append((tmp_path / "out.txt").read_text())
    watched = mmlab(tmp_path, "run", *words)
    predicted.append((tmp_path / "out.txt").read_text())
    assert plain.returncode == watched.returncode == 0, watched.stderr
    assert plain.stdout == watched.stdout
    assert predicted[0] == predicted[1]
    assert predicted[0].count("\n") == 40
    trace = Trace.load(tmp_path / "sklearn_mnist_classification.trace.jsonl")
    assert trace.summary().elements == 40


@pytest.mark.part("programs")
def test_beams_example_of_table_rows(tmp_path):
    """Run as a file, on the runner that an option names."""
    from sklearn.linear_model import LinearRegression

    generator = np.random.default_rng(0)
    features = generator.normal(size=(40, 2))
    model = LinearRegression().fit(features, features.sum(axis=1))
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    rows = [f'{{"id": "{i}", "a": {a}, "b": {b}}}\n' for i, (a, b) in enumerate(features)]
    (tmp_path / "in.jsonl").write_text("".join(rows))
    words = [
        Path(examples).with_name("table_row_inference.py"),
        "--mode=batch",
        "--input_file=in.jsonl",
        "--model_path=model.pkl",
        "--feature_columns=a,b",
        "--output_file=out",
        "--runner=DirectRunner",
    ]
    both_ways(tmp_path, *words)
    trace = Trace.load(tmp_path / "table_row_inference.trace.jsonl")
    assert trace.summary().elements == 40


def test_a_program_without_a_pipeline_imports_nothing_of_beam(tmp_path):
    (tmp_path / "plain.py").write_text(
        "import sys\n"
        "print([name for name in ('apache_beam', 'numpy', 'matplotlib') if name in sys.modules])\n"
        "print(__file__, sys.argv, input())\n"
    )
    words = ["plain.py", "-o", "--", "--no-live"]
    done = mmlab(tmp_path, "run", *words)
    assert done.stdout.splitlines()[0] == "[]"
    assert "EOFError" in done.stderr  # it reads the standard input that it was given
    assert done.returncode == 1
    assert done.stderr.endswith("mmlab: no pipeline was run, so there is no trace\n")
    assert list(tmp_path.glob("*.jsonl")) == []


def test_an_error_above_a_module_is_the_programs_own(tmp_path):
    (tmp_path / "above").mkdir()
    (tmp_path / "above" / "__init__.py").write_text("import is_not_there")
    (tmp_path / "above" / "below.py").touch()
    plain, watched = both_ways(tmp_path, "-m", "above.below")
    assert plain.returncode == 1
    own = plain.stderr.splitlines()[-3:]
    assert own[-1] == "ModuleNotFoundError: No module named 'is_not_there'"
    *shown, _ = watched.stderr.splitlines()
    assert shown[-3:] == own
    assert "watching/main.py" not in watched.stderr


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that root cannot write to")
@pytest.mark.parametrize("options", [["-o", "/proc/t.jsonl"], []])
def test_a_trace_that_could_not_be_saved_is_refused_before_the_run(options, tmp_path):
    (tmp_path / "plain.py").write_text("print('it is not run')")
    folder = tmp_path if options else "/proc"
    done = mmlab(folder, "run", *options, tmp_path / "plain.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mmlab run: /proc/t.jsonl" if options else "mmlab run: plain.tr")
    assert done.stderr.endswith("give a file in another folder\n")
    assert done.stderr.count("\n") == 1


def test_a_file_that_is_no_trace_is_never_overwritten(tmp_path):
    (tmp_path / "data.jsonl").write_text('{"mine": 1}\n')
    (tmp_path / "plain.py").write_text("print('it is not run')")
    done = mmlab(tmp_path, "run", "-o", "data.jsonl", "plain.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"mmlab run: {tmp_path / 'data.jsonl'} is there and is no trace: give another file "
        "with -o\n"
    )
    assert (tmp_path / "data.jsonl").read_text() == '{"mine": 1}\n'
