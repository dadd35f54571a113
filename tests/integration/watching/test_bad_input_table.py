"""Bad input to every public function: each case with the sentence that it gives.

A sentence says what was given and what to give instead. What is wrong with keys, files of keys and
sizes of `predict` stands in tests/unit/prediction/test_input.py.
"""

from __future__ import annotations

import io
import threading
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
import pytest
import torch
from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping, RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import mmlab
from mmlab import (
    GroupByModel,
    Trace,
    WatchRunner,
    compare_hints,
    compare_traces,
    diagram,
    explore,
    fit_hint,
    follow,
    lessons,
    predict,
    preflight,
    watch,
    watched_pipelines,
)
from mmlab.commands import _BAD_INPUT, main
from mmlab.events import VERSION, NewerTraceError
from mmlab.fresh.process import run_fresh
from mmlab.prediction import NoAdviceError, compare_routings
from tests.handlers import NamedModels, keyed, run_keyed

AB = keyed([["a"], ["b"]])
MAPPINGS = [KeyModelMapping(["a"], NamedModels())]
LOCK = threading.Lock()
HEAD = '"run":"r","t_ns":1,"host":"h","pid":1,"tid":1,"event":"run"}\n'
LINE = f'{{"v":{VERSION},{HEAD}'
NEWER = f'{{"v":{VERSION + 1},{HEAD}'


def unwatched():
    pipeline = beam.Pipeline(FnApiRunner())
    _ = pipeline | beam.Create([1])
    return pipeline.run()


def never(pipeline):
    raise AssertionError("no process is to be started")


def takes_nothing():
    return None


def watched_into(log):
    run_keyed(WatchRunner(log=log, live=False), AB, ["a"])


def written(text, name="trace.jsonl", folder=False, **options):
    """Loads a file, or a log folder with that file in it."""

    def load():
        path = Path("here") / name
        path.parent.mkdir()
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        Trace.load(path.parent if folder else path, **options)

    return load


class CommandError(Exception):
    """What a command said on standard error before it ended with status 2."""


def command(*words):
    """The command `mmlab` with these words, in this process; a trace lies in trace.jsonl."""

    def call():
        Path("trace.jsonl").write_text(LINE)
        said = io.StringIO()
        with redirect_stderr(said):
            try:
                status = main(words)
            except SystemExit as end:
                status = end.code
        assert status == _BAD_INPUT
        [sentence] = said.getvalue().splitlines()
        raise CommandError(sentence)

    return call


@dataclass(frozen=True)
class Case:
    """What is called, and what it must say."""

    call: Any
    error: type[BaseException]
    says: tuple[str, ...]


def case(call, error, *says):
    return Case(call, error, says)


empty = Trace([])
abab = [*"abab"]

CASES = {
    "WatchRunner": [
        case(lambda: WatchRunner("Prisma"), ValueError, "pipeline runner: Prisma", "FnApiRunner"),
        case(lambda: WatchRunner(FnApiRunner), TypeError, "give FnApiRunner() or "),
        case(lambda: WatchRunner(log=3), TypeError, "log must be a folder", "got 3"),
        case(lambda: WatchRunner(log=""), ValueError, "log must be a folder", "got an empty path"),
        case(lambda: WatchRunner(live="yes"), ValueError, "live must be", "got 'yes'", '"auto"'),
        case(lambda: WatchRunner(live=None), ValueError, "live must be", "got None"),
        case(
            lambda: WatchRunner(check="no"), ValueError, "check must be True or False", "got 'no'"
        ),
        case(
            lambda: WatchRunner(sample_seconds=0),
            ValueError,
            "sample_seconds must be",
            "got 0",
            "positive",
        ),
        case(
            lambda: WatchRunner(sample_seconds="1"), TypeError, "sample_seconds must be", "got '1'"
        ),
        case(
            lambda: WatchRunner(sample_seconds=None),
            TypeError,
            "sample_seconds must be",
            "got None",
        ),
        case(
            lambda: WatchRunner(sample_seconds=float("inf")),
            ValueError,
            "sample_seconds must be",
            "got inf",
        ),
        case(lambda: watched_into("a\0b"), ValueError, "a\\x00b' cannot be", "NUL", "give another"),
        case(lambda: watched_into("a\ud800"), ValueError, "utf-8 has no bytes for '\\ud800'"),
        case(lambda: watched_into("gs://b/\0"), ValueError, "gs://b/", "holds a NUL"),
        case(lambda: WatchRunner().trace, RuntimeError, "has not run a pipeline"),
    ],
    "watch": [
        case(
            lambda: watch("model.pt", "log"), TypeError, "must be a Beam ModelHandler", "model.pt"
        ),
        case(lambda: watch(NamedModels, "log"), TypeError, "must be a Beam ModelHandler"),
        case(lambda: watch(MAPPINGS, "log"), TypeError, "must be a Beam ModelHandler"),
        case(lambda: watch(AB, None), TypeError, "log must be a folder", "got None"),
        case(lambda: watch(AB, "a\0b"), ValueError, "the path 'a\\x00b' cannot be one of a file"),
        case(
            lambda: watch(AB, "a\ud800"), ValueError, "the path 'a\\ud800' cannot be one of a file"
        ),
        case(lambda: watch(AB, "log", step=""), ValueError, "step must be", "got ''", "label"),
        case(lambda: watch(AB, "log", step=3), ValueError, "step must be", "got 3", "label"),
        case(
            lambda: watch(AB, "log", sample_seconds=-1),
            ValueError,
            "sample_seconds must be",
            "got -1",
        ),
        case(lambda: watch(watch(AB, "log"), "log"), ValueError, "watched already"),
    ],
    "Trace": [
        case(lambda: Trace.load(None), TypeError, "path must be", "got None", "log folder"),
        case(lambda: Trace.load(3), TypeError, "path must be", "got 3"),
        case(lambda: Trace.load(""), ValueError, "got an empty path"),
        case(lambda: Trace.load("gone.jsonl"), FileNotFoundError, "no trace at gone.jsonl"),
        case(lambda: Trace.load("."), FileNotFoundError, "it holds no event log"),
        case(written(""), ValueError, "trace.jsonl is empty: not a trace"),
        case(written("hello\n"), ValueError, "trace.jsonl, line 1: not an event: JSON is"),
        case(written(b"\x00\xff\x80PK" * 99), ValueError, "line 1: not an event: JSON is"),
        case(written("[1, 2]\n"), ValueError, "line 1: not an event: Expected `object`"),
        case(written('{"v":1}\n'), ValueError, "line 1: not an event: Object missing"),
        case(
            written(LINE + "{cut off\n" + LINE),
            ValueError,
            "line 2: not an event: JSON is",
        ),
        case(written(NEWER), ValueError, "line 1", "reads up to 1: update mmlab"),
        case(written(NEWER, folder=True), NewerTraceError, "update mmlab"),
        case(
            written(LINE + LINE.replace('"r"', '"q"'), folder=True),
            ValueError,
            "events of 2 runs",
            "load one at a time",
        ),
        case(
            written(LINE, most_bytes="1GB"),
            TypeError,
            "most_bytes must be",
            "got '1GB'",
            "such as 2e9",
        ),
        case(
            written(LINE, most_bytes=True),
            TypeError,
            "most_bytes must be",
            "got True",
            "number of bytes",
        ),
        case(
            written(LINE, most_bytes=-1),
            ValueError,
            "most_bytes must be",
            "got -1",
            "None for no limit",
        ),
        case(
            written(LINE, most_bytes=0), ValueError, "most_bytes must be a number of bytes", "got 0"
        ),
        case(written(LINE, most_bytes=float("nan")), ValueError, "most_bytes must be", "got nan"),
        case(
            written(LINE, most_bytes=float("inf")),
            ValueError,
            "most_bytes must be",
            "got inf",
            "None",
        ),
        case(written(LINE, most_bytes=9.5), ValueError, "trace.jsonl holds", "more than 9"),
        case(lambda: Trace.load("a\0b"), ValueError, "the path 'a\\x00b' cannot be one of a file"),
        case(lambda: Trace.load("a\ud800"), ValueError, "the path 'a\\ud800' cannot be one of"),
        case(lambda: Trace("trace.jsonl"), TypeError, "read files with Trace.load"),
        case(lambda: Trace([1]), TypeError, "events[0] must be an event, got 1", "Trace.load"),
        case(lambda: Trace([{}]), TypeError, "events[0] must be an event, got {}", "Trace.load"),
        case(lambda: Trace(3), TypeError, "events must be events of a run, got 3", "Trace.load"),
        case(
            lambda: Trace(None), TypeError, "events must be events of a run, got None", "Trace.load"
        ),
        case(lambda: empty.save(None), TypeError, "path must be the path of a file", "got None"),
        case(lambda: empty.save("a\0b"), ValueError, "the path 'a\\x00b' cannot", "give another"),
        case(lambda: empty.save("a\ud800"), ValueError, "the path 'a\\ud800' cannot", "utf-8"),
        case(lambda: empty.to_perfetto("a\0b"), ValueError, "the path 'a\\x00b' cannot be one"),
        case(lambda: empty.save("."), IsADirectoryError, "path must be a file, got the folder ."),
        case(lambda: empty.save("no/t.jsonl"), FileNotFoundError, "make no first"),
    ],
    "watched_pipelines": [
        case(
            lambda: watched_pipelines(live="yes"), ValueError, "live must be", "got 'yes'", '"auto"'
        ),
        case(lambda: watched_pipelines(log=3), TypeError, "log must be a folder", "got 3"),
        case(
            lambda: watched_pipelines(log=""),
            ValueError,
            "log must be a folder",
            "got an empty path",
        ),
    ],
    "follow": [
        case(lambda: follow(3), TypeError, "log must be the log folder of a run", "got 3"),
        case(lambda: follow("gone"), FileNotFoundError, "no folder gone: give the log folder"),
        case(lambda: follow(".", live=1), ValueError, "live must be True, False", "got 1"),
        case(lambda: follow("a\0b"), ValueError, "the path 'a\\x00b' cannot be one of a file"),
    ],
    "doctor": [case(lambda: mmlab.doctor(3), TypeError, "0 positional arguments")],
    "mmlab": [
        case(command(), CommandError, "mmlab: ", "required: COMMAND", "see mmlab --help"),
        case(command("watch"), CommandError, "mmlab: ", "invalid choice: 'watch'", "'run'"),
        case(command("doctor", "x"), CommandError, "no argument x; see mmlab doctor --help"),
        case(command("run"), CommandError, "mmlab run: give a program to run"),
        case(command("run", "gone.py"), CommandError, "mmlab run: no program at gone.py: give"),
        case(command("run", "."), CommandError, ". is a folder: give a Python file, or -m"),
        case(command("run", "--", "gone.py"), CommandError, "no program at gone.py: give the"),
        case(command("run", ""), CommandError, "mmlab run: give a program to run"),
        case(command("run", "-o", "", "trace.jsonl"), CommandError, "got an empty path"),
        case(command("run", "-m", ""), CommandError, "mmlab run: give a module to run"),
        case(command("run", "-m"), CommandError, "mmlab run: give a module to run"),
        case(command("run", "-m", "gone.it"), CommandError, "no module gone.it that could be run"),
        case(command("run", "-m", ".it"), CommandError, "mmlab run: no module .it that"),
        case(command("run", "--lives", "x"), CommandError, "mmlab run: option --lives not"),
        case(
            command("run", "-o", "no/t", "trace.jsonl"),
            CommandError,
            "make no first",
        ),
        case(
            command("run", "--log", "trace.jsonl", "trace.jsonl"),
            CommandError,
            "mmlab run: ",
            "trace.jsonl: the event log cannot be written there",
        ),
        case(command("follow"), CommandError, "mmlab follow: ", "required: LOG"),
        case(command("follow", "gone"), CommandError, "mmlab follow: no folder gone"),
        case(command("follow", ".", "-o", "no/x"), CommandError, "make no first"),
        case(command("summary", "gone"), CommandError, "mmlab summary: no trace at gone"),
        case(
            command("summary", "a\0b"), CommandError, "the path 'a\\x00b' cannot be one of a file"
        ),
        case(command("timeline", "trace.jsonl"), CommandError, "required: -o/--output"),
        case(command("timeline", "gone", "-o", "x.png"), CommandError, "no trace at gone"),
        case(command("timeline", "trace.jsonl", "-o", "x.doc"), CommandError, "saved as", "'.doc'"),
        case(
            command("replay", "trace.jsonl", "--first", "one"),
            CommandError,
            "mmlab replay: argument --first: invalid int value: 'one'",
        ),
        case(
            command("replay", "trace.jsonl", "--first", "0"),
            CommandError,
            "first must be a whole number",
            "got 0",
        ),
        case(command("replay", "trace.jsonl", "-o", "no/x"), CommandError, "make no first"),
        case(command("lessons", "trace.jsonl"), CommandError, "trace.jsonl is a file: give a"),
    ],
    "diagram": [
        case(lambda: diagram("pipeline"), TypeError, "must be a beam.Pipeline", "got str"),
        case(lambda: diagram(None), TypeError, "got NoneType"),
        case(
            lambda: diagram(beam.Pipeline),
            TypeError,
            "got the class Pipeline: give an object of it",
        ),
        case(lambda: diagram(beam.Pipeline() | beam.Create([])), TypeError, "pcollection.pipeline"),
        case(lambda: diagram(RunInference(AB)), TypeError, "give the handler"),
        case(lambda: diagram(MAPPINGS), TypeError, "use KeyedModelHandler(mappings)"),
        case(lambda: diagram(empty), TypeError, "use diagram(pipeline, trace=trace)"),
        case(lambda: diagram(unwatched()), TypeError, "got the result of an unwatched run"),
        case(lambda: diagram(AB, trace="x"), TypeError, "trace must be an mmlab.Trace", "got 'x'"),
        case(lambda: diagram(AB, step="x"), ValueError, "step must be None for a model handler"),
        case(lambda: diagram(AB, direction="RL"), ValueError, '"LR" or "TB", got \'RL\''),
        case(
            lambda: diagram(beam.Pipeline(), depth=0),
            ValueError,
            "whole number, 1 or more",
            "got 0",
        ),
        case(lambda: diagram(beam.Pipeline(), step="x"), ValueError, "no composite", "'x'"),
        case(lambda: diagram(AB).save("x.jpg"), ValueError, ".svg, .png or .dot", "'.jpg'"),
        case(lambda: diagram(AB).save("no/x.dot"), FileNotFoundError, "make no first"),
    ],
    "predict": [
        case(
            lambda: predict(None),
            TypeError,
            "keys must be a list",
            "got None",
            "a file or a Trace",
        ),
        case(lambda: predict(b"abc"), TypeError, "keys must be a list", "got b'abc'"),
        case(lambda: predict("gone.csv"), FileNotFoundError, "no file gone.csv"),
        case(lambda: predict("gs://x/y.parquet"), ValueError, "gs://x/y.parquet is not on this"),
        case(lambda: predict([torch.zeros(2)]), TypeError, "keys[0] is tensor", "cannot be a key"),
        case(lambda: predict([("a", 1)], AB), ValueError, "keys[0] is a pair", "the keys alone"),
        case(lambda: predict(["a", "z"], AB), ValueError, "keys[1] is 'z'", "no mapping names"),
        case(
            lambda: predict(abab, "a"), TypeError, "mapping_or_handler must be a KeyedModelHandler"
        ),
        case(
            lambda: predict(abab, {"m": []}), ValueError, "the mapping must have at least one key"
        ),
        case(lambda: predict(abab, {"m": [["a"]]}), TypeError, "model m has ['a']", "cannot be"),
        case(lambda: predict(abab, seed="x"), TypeError, "seed must be a whole number", "got 'x'"),
        case(
            lambda: predict(abab, workers=0), ValueError, "workers must be a whole number", "got 0"
        ),
        case(lambda: predict(abab, batch_size=2.5), TypeError, "batch_size must be", "got 2.5"),
        case(
            lambda: predict(abab, routing="x"),
            ValueError,
            "routing must be one of spray",
            "got 'x'",
        ),
        case(
            lambda: predict(abab, column="key"),
            ValueError,
            "column must be None for keys without columns",
        ),
        case(lambda: predict(empty), ValueError, "the trace has no step with a KeyedModelHandler"),
    ],
    "advise": [
        case(
            lambda: predict(abab).advise(memory="much"),
            ValueError,
            "memory must be",
            "got 'much'",
            "'600MB'",
        ),
        case(
            lambda: predict(abab).advise(memory=[]), TypeError, "memory must be a number", "got []"
        ),
        case(lambda: predict(abab).advise(memory=1, memory_limit=1), ValueError, "not both"),
        case(lambda: predict(abab).advise(memory=-1), ValueError, "memory must be", "got -1"),
        case(lambda: predict(abab).advise(memory=8e9), NoAdviceError, "give sizes= to predict"),
        case(
            lambda: predict(abab, sizes=1).advise(memory=8e9),
            NoAdviceError,
            "give buffer= in bytes",
        ),
        case(
            lambda: predict(abab).advise(most_reloads=5),
            ValueError,
            "most_reloads must be",
            "got 5",
            "0 to 1",
        ),
        case(lambda: predict(abab).advise(load_seconds={"x": 1}), ValueError, "none of the models"),
        case(lambda: predict([*"ab"]).advise(), NoAdviceError, "no model comes twice"),
        case(lambda: predict(abab).at(9), ValueError, "the hint is 9, but there are 2 models"),
    ],
    "compare_routings": [
        case(
            lambda: compare_routings([], workers=2), ValueError, "keys must have at least one key"
        ),
        case(lambda: compare_routings(abab, workers="2"), TypeError, "workers must be", "got '2'"),
        case(
            lambda: compare_routings(abab, workers=2, seed=-1), ValueError, "seed must be", "got -1"
        ),
        case(lambda: compare_routings(abab, workers=2).table(0), ValueError, "the hint is 0"),
    ],
    "explore": [
        case(lambda: explore(hints=2), TypeError, "explore has no 'hints': it has hint, models"),
        case(lambda: explore(hint=0), ValueError, "worker_hint is 0", "at least 1"),
        case(lambda: explore(models="4"), TypeError, "models must be a whole number", "got '4'"),
        case(lambda: explore(elements=0), ValueError, "elements must be a whole number", "got 0"),
        case(lambda: explore(order="backwards"), ValueError, 'order must be one of "round robin"'),
        case(lambda: explore(group="per day"), ValueError, 'group must be one of "off", "per key"'),
        case(lambda: explore(processes=2, threads=2), ValueError, "set one of them to 1"),
        case(
            lambda: explore(memory_limit="much"), ValueError, "memory_limit must be", "got 'much'"
        ),
    ],
    "compare_hints": [
        case(lambda: compare_hints(None), TypeError, "build must be a function", "got None"),
        case(lambda: compare_hints(AB), TypeError, "build must be a function build(pipeline"),
        case(
            lambda: compare_hints(takes_nothing),
            TypeError,
            "build is called as build(pipeline, 1)",
        ),
        case(
            lambda: compare_hints(never, hints=[]), ValueError, "hints must have at least one hint"
        ),
        case(lambda: compare_hints(never, hints=3), TypeError, "hints must be a sequence", "got 3"),
        case(lambda: compare_hints(never, hints=[0]), ValueError, "worker_hint is 0", "at least 1"),
        case(lambda: compare_hints(never, hints=["1"]), ValueError, "worker_hint is '1'"),
        case(lambda: compare_hints(never, hints=[1, 1]), ValueError, "the hint 1 is there twice"),
        case(lambda: compare_hints(never, repeat=0), ValueError, "repeat must be", "got 0"),
        case(
            lambda: compare_hints(never, progress=3),
            TypeError,
            "progress must be a function",
            "got 3",
        ),
    ],
    "compare_traces": [
        case(
            lambda: compare_traces([empty]),
            TypeError,
            "traces must be a dict such as {'hint 2': trace}",
        ),
        case(lambda: compare_traces({}), ValueError, "traces must have at least one trace"),
        case(lambda: compare_traces({1: empty}), TypeError, "names of traces must be text, got 1"),
        case(lambda: compare_traces({"a": "no"}), FileNotFoundError, "no trace at no"),
    ],
    "fit_hint": [
        case(lambda: fit_hint(None, memory_limit="1GB"), TypeError, "build must be", "got None"),
        case(lambda: fit_hint(never, memory_limit=None), ValueError, "got None"),
        case(
            lambda: fit_hint(never, memory_limit="much"),
            ValueError,
            "memory_limit must be",
            "got 'much'",
        ),
        case(
            lambda: fit_hint(never, memory_limit="1GB", hints=[]),
            ValueError,
            "hints must have at least one hint",
        ),
        case(
            lambda: fit_hint(never, memory_limit="1GB", confirm=-1),
            ValueError,
            "confirm must be a whole number, 0 or more",
            "got -1",
        ),
    ],
    "run_fresh": [
        case(
            lambda: run_fresh(3), TypeError, "build must be a function build(pipeline, …)", "got 3"
        ),
        case(
            lambda: run_fresh(takes_nothing),
            TypeError,
            "build is called as build(pipeline)",
        ),
        case(lambda: run_fresh(partial(max, LOCK)), TypeError, "cannot be sent to a fresh process"),
        case(lambda: run_fresh(never, memory_limit="lots"), ValueError, "'lots'", "'600MB'"),
        case(lambda: run_fresh(never, memory_limit=0), ValueError, "memory_limit must be", "got 0"),
        case(lambda: run_fresh(never, memory_limit="1MB"), ValueError, "too small even to start"),
        case(
            lambda: run_fresh(never, options="--x=1"),
            TypeError,
            "options must be",
            "got '--x=1'",
            "a list of",
        ),
        case(
            lambda: run_fresh(never, options={"x": 1}), TypeError, "options must be PipelineOptions"
        ),
        case(lambda: run_fresh(never, on_events=3), TypeError, "on_events must be", "got 3"),
        case(
            lambda: run_fresh(never, sample_seconds=0),
            ValueError,
            "sample_seconds must be",
            "got 0",
        ),
    ],
    "GroupByModel": [
        case(lambda: GroupByModel(None), TypeError, "must be the KeyedModelHandler", "None"),
        case(lambda: GroupByModel([]), TypeError, "its list of KeyModelMapping, got []"),
        case(lambda: GroupByModel({"a": ["x"]}), TypeError, "its list of KeyModelMapping"),
        case(lambda: GroupByModel(NamedModels()), ValueError, "nothing to group. Leave"),
        case(
            lambda: GroupByModel(AB, lanes=0), ValueError, "lanes must be a whole number", "got 0"
        ),
        case(lambda: GroupByModel(AB, lanes="2"), TypeError, "lanes must be", "got '2'"),
        case(lambda: [7] | GroupByModel(AB), TypeError, "must be (key, element) pairs", "got 7"),
    ],
    "preflight": [
        case(lambda: preflight(None), TypeError, "subject must be a ModelHandler", "got None"),
        case(lambda: preflight([]), TypeError, "a list of KeyModelMapping", "got []"),
        case(lambda: preflight(NamedModels), TypeError, "NamedModels"),
        case(lambda: preflight(AB, 3), TypeError, "keys must be a list", "got 3"),
        case(lambda: preflight(AB, {"a"}), TypeError, "in the order of the elements"),
        case(lambda: preflight(AB, [["a", 1]]), TypeError, "keys[0] is ['a', 1]", "hashable"),
        case(lambda: preflight(AB, "gone.parquet"), FileNotFoundError, "no file gone.parquet"),
        case(lambda: preflight(AB, pd.DataFrame({"x": [1], "y": [2]})), ValueError, "which column"),
        case(lambda: preflight(AB, np.zeros((2, 2))), ValueError, "shape (2, 2): give one"),
    ],
    "lessons": [
        case(lambda: lessons.handler("X"), ValueError, "must be one of CONFIG_1", "got 'X'"),
        case(lambda: lessons.handler(["X"]), ValueError, "got ['X']"),
        case(lambda: lessons.weights_file(None), ValueError, "got None"),
        case(
            lambda: lessons.mapping(["CONFIG_1"]), TypeError, "must be a dict such as {'CONFIG_1'"
        ),
        case(lambda: lessons.mapping({"CONFIG_1": "KEY_1"}), TypeError, "keys of CONFIG_1", "list"),
        case(
            lambda: lessons.scans_file(rows=0), ValueError, "rows must be", "got 0", "from 1 to 480"
        ),
        case(
            lambda: lessons.scans_file(rows=481),
            ValueError,
            "rows must be",
            "got 481",
            "from 1 to 480",
        ),
        case(lambda: lessons.scans_file(rows="5"), TypeError, "rows must be", "got '5'"),
        case(lambda: lessons.show_scans(0), ValueError, "each must be", "got 0", "from 1 to 10"),
        case(lambda: lessons.FixedBatches(None), TypeError, "must be a list of KeyModelMapping"),
        case(
            lambda: lessons.FixedBatches({"CONFIG_1": ["KEY_1"]}),
            TypeError,
            "must be a list of KeyModelMapping",
        ),
        case(
            lambda: lessons.FixedBatches(MAPPINGS, batch_size=0),
            ValueError,
            "batch_size must be",
            "got 0",
        ),
        case(
            lambda: lessons.FixedBatches(MAPPINGS, batch_size=1.5),
            TypeError,
            "batch_size must be",
            "got 1.5",
        ),
        case(lambda: lessons.predicted_digit(("KEY_1", 3)), TypeError, "take the second"),
        case(
            lambda: lessons.compare({"1": None}, {}),
            TypeError,
            "the run '1' must be a Trace",
            "got None",
        ),
    ],
}

TABLE = [
    pytest.param(one, id=f"{function}-{number}")
    for function, cases in CASES.items()
    for number, one in enumerate(cases)
]


@pytest.mark.parametrize("case", TABLE)
@pytest.mark.runs
def test_bad_input_is_answered_with_a_sentence(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(case.error) as raised:
        case.call()
    said = str(raised.value)
    for fragment in case.says:
        assert fragment in said
    assert len(said) < 1_000
    assert " object at 0x" not in said


def test_the_table_is_of_every_public_function():
    assert len(TABLE) >= 60
    names = {name for name in mmlab.__all__ if name[0].islower()}
    calls = {name for name in names if callable(getattr(mmlab, name))} | {"Trace", "WatchRunner"}
    assert calls <= set(CASES)


def test_a_handler_that_mixes_good_and_bad_is_not_half_accepted():
    with pytest.raises(TypeError, match="list of KeyModelMapping"):
        GroupByModel([*MAPPINGS, "b"])
    with pytest.raises(TypeError, match="list of KeyModelMapping"):
        preflight([*MAPPINGS, KeyedModelHandler(MAPPINGS)])
