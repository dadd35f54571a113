"""Every problem says what, where and the fix; configurations that are right have none."""

from __future__ import annotations

import pickle
import warnings

import apache_beam as beam
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest
import torch
from apache_beam.ml.inference.base import KeyedModelHandler, KeyModelMapping, RunInference
from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor
from apache_beam.ml.inference.sklearn_inference import SklearnModelHandlerNumpy
from apache_beam.options.pipeline_options import PipelineOptions

import mmlab
from mmlab import Problem, WatchRunner, WatchWarning, preflight
from mmlab._files import size_bytes
from mmlab.checks import memory
from mmlab.checks.memory import _Held, memory_problem
from mmlab.checks.weights import _what_is_wrong
from tests.handlers import FixedBatches, NamedModels, keyed, run_keyed


class Linear(torch.nn.Linear):
    def __init__(self):
        super().__init__(2, 1)


def weights(folder, name="good.pt"):
    torch.save(Linear().state_dict(), folder / name)
    return folder / name


def torch_handler(path, **options):
    return PytorchModelHandlerTensor(state_dict_path=str(path), model_class=Linear, **options)


def of_one(path, **options):
    return KeyedModelHandler([KeyModelMapping(["a", "b"], torch_handler(path, **options))])


def only(problems):
    (problem,) = problems
    return problem


def test_what_is_right_has_no_problems(tmp_path):
    path = weights(tmp_path)
    pipeline = beam.Pipeline(WatchRunner())
    examples = pipeline | beam.Create([("a", torch.zeros(2))])
    _ = examples | "Model A" >> RunInference(of_one(path))
    _ = examples | "Model B" >> RunInference(
        KeyedModelHandler(torch_handler(weights(tmp_path, "b.pt")))
    )
    for subject in (
        pipeline,
        of_one(path),
        torch_handler(path),
        torch_handler(path, max_batch_size=4),
        keyed([["a"], ["b"]], 2),
        [KeyModelMapping(["a"], NamedModels()), KeyModelMapping(["b"], NamedModels())],
        lambda pipeline: pipeline | beam.Create([1]) | RunInference(NamedModels()),
        beam.Pipeline(),
    ):
        assert preflight(subject, ["a", "b"]) == []


def test_a_problem_says_what_where_and_the_fix():
    problem = only(preflight(keyed([["a"], ["b"]], 0)))
    assert problem == Problem(
        what="max_models_per_worker_hint is 0, but it counts models.",
        where="RunInference",
        fix="Give an integer of at least 1, or None for no limit.",
        fatal=True,
    )
    assert str(problem) == f"RunInference: {problem.what} {problem.fix}"
    assert repr([problem]) == f"[[fatal] {problem}]"


# Keys


def test_keys_that_stand_twice_and_mappings_without_keys():
    mappings = [
        KeyModelMapping(["KEY_4", "KEY_4"], NamedModels("x")),
        KeyModelMapping([], NamedModels("y")),
        KeyModelMapping(["KEY_5", "KEY_4"], NamedModels("z")),
        KeyModelMapping("KEY_6", NamedModels()),
    ]
    twice, empty, again, letters = preflight(mappings)
    assert twice.where == "RunInference, mapping 1 (NamedModels)"
    assert twice.what.startswith("key KEY_4 stands twice in it")
    assert empty.where == "RunInference, mapping 2 (NamedModels)"
    assert empty.what == "it has no keys."
    assert again.what.startswith("key KEY_4 stands in mapping 1 already")
    assert "every letter" in letters.what
    assert "['KEY_6']" in letters.fix
    assert all(problem.fatal for problem in (twice, empty, again, letters))
    with pytest.raises(ValueError, match="KEY_4"):  # so does Beam, one at a time
        KeyedModelHandler(mappings)


def test_what_else_beam_refuses_is_in_its_own_words():
    with_functions = NamedModels().with_preprocess_fn(str)
    problem = only(preflight([KeyModelMapping(["a"], with_functions)]))
    assert problem.fatal
    assert "pre or postprocessing functions" in problem.what


def test_empty_keys_are_named():
    blank, none = preflight(keyed([["a", " "], [None]]))
    assert "the empty key ' '" in blank.what
    assert "the key None, which means that a key is missing" in none.what
    assert not blank.fatal


UNKNOWN = ["a", "b", "Z", "a", "Z"]
KINDS = {
    "keys": UNKNOWN,
    "pairs": [(key, torch.zeros(2)) for key in UNKNOWN],
    "a generator": ((key, {}) for key in UNKNOWN),
    "numpy": np.array(UNKNOWN),
    "pandas": pd.Series(UNKNOWN, dtype="string"),
    "categories": pd.Series(UNKNOWN, dtype="category"),
    "arrow": pa.chunked_array([UNKNOWN[:2], UNKNOWN[2:]]),
    "a table": pd.DataFrame({"key": UNKNOWN, "n": range(5)}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_keys_that_no_mapping_names(kind):
    problem = only(preflight(keyed([["a"], ["b"]]), KINDS[kind]))
    assert problem.fatal
    assert problem.what == (
        "the data has the key 'Z' (2 of 5 elements, first at position 2), which no KeyModelMapping "
        "names."
    )
    assert "Add it to a mapping, or filter it out" in problem.fix


def test_keys_of_a_file(tmp_path):
    pd.DataFrame({"key": UNKNOWN}).to_csv(tmp_path / "keys.csv")
    problem = only(
        preflight(
            keyed([["a"], ["b"]]),
            tmp_path / "keys.csv",
        )
    )
    assert "'Z' (2 of 5 elements" in problem.what
    pd.DataFrame({"key": [1, 2]}).to_csv(tmp_path / "numbers.csv")
    assert preflight(keyed([[1], [2]]), tmp_path / "numbers.csv") == []


@pytest.mark.parametrize(
    ("key", "fix"),
    [
        (7, "The mapping has '7', which is another type: make the key a str, not int."),
        (" key_one", "Is it 'KEY_ONE'?"),
        ("KEY_ONEE", "Is it 'KEY_ONE'?"),
        ("other", "Add it to a mapping"),
        (None, "Drop them, or give them a key"),
        (float("nan"), "Drop them, or give them a key"),
    ],
)
def test_the_fix_fits_the_key(key, fix):
    problem = only(preflight(keyed([["KEY_ONE"], ["7"]]), [key, "7"]))
    assert problem.fix.startswith(fix)


def test_tuples_can_be_keys_and_pairs():
    handler = keyed([[("eu", 1)], [("us", 2)]])
    assert preflight(handler, [("eu", 1), (("us", 2), "example")]) == []
    assert "('eu', 3)" in only(preflight(handler, [(("eu", 3), "example")])).what


def test_many_unknown_keys_are_summed_up():
    problems = preflight(keyed([["a"], ["b"]]), [f"scanner {i}" for i in range(100)])
    assert len(problems) == 6
    assert "95 more keys" in problems[-1].what


def test_an_endless_stream_of_keys_is_looked_at_so_far(monkeypatch):
    monkeypatch.setattr("mmlab.checks.data._MOST_ELEMENTS", 100)
    monkeypatch.setattr("mmlab.prediction.keys._PIECE", 30)
    taken = []

    def stream():
        while True:
            taken.append("a")
            yield "a"

    assert preflight(keyed([["a"], ["b"]]), stream()) == []
    assert len(taken) <= 120


# Hints and batching


@pytest.mark.parametrize(
    ("hint", "fails"),
    [(0, True), (-1, True), (0.5, True), ("2", True), (1.5, False), (True, False),
     (float("nan"), False)],
)  # fmt: skip
def test_hints_that_are_not_positive_integers(hint, fails):
    problem = only(preflight(keyed([["a"], ["b"]], hint)))
    assert problem.fatal == fails  # as Beam would in a worker
    assert repr(hint) in problem.what


@pytest.mark.runs
def test_a_hint_that_limits_nothing_is_worth_knowing_and_no_warning():
    handler = keyed([["a"], ["b"]], 3)
    problem = only(preflight(handler))
    assert not problem.fatal
    assert "is 3, but there are 2 models" in problem.what
    with warnings.catch_warnings():
        warnings.simplefilter("error", WatchWarning)
        run_keyed(WatchRunner(), handler, ["a"])


class AsksForBatches(NamedModels):
    def __init__(self, name="model"):
        super().__init__(name, max_batch_size=16)


def test_batching_that_beam_ignores():
    mappings = [KeyModelMapping([key], AsksForBatches(key)) for key in "abc"]
    problem = only(preflight(KeyedModelHandler(mappings)))
    assert "AsksForBatches a and 2 more" in problem.what
    assert "max_batch_size=16" in problem.what
    assert "Override batch_elements_kwargs()" in problem.fix
    assert preflight(FixedBatches(mappings)) == []
    assert preflight(KeyedModelHandler(AsksForBatches())) == []


# Labels


def unlabelled_twice(pipeline):
    examples = pipeline | beam.Create([1])
    _ = examples | RunInference(NamedModels("x"))
    _ = examples | RunInference(NamedModels("y"))


def test_unlabelled_inference_twice_is_found_while_building():
    problem = only(preflight(unlabelled_twice))
    assert problem.fatal
    assert problem.what == "two steps have the label 'RunInference'."
    assert "'Model A' >> RunInference(…)" in problem.fix


def test_unlabelled_inference_twice_where_beam_numbers_them():
    pipeline = beam.Pipeline(WatchRunner(), options=PipelineOptions(auto_unique_labels=True))
    unlabelled_twice(pipeline)
    problem = only(preflight(pipeline))
    assert not problem.fatal
    assert problem.what.startswith("2 RunInference steps have no label of their own")


def test_whatever_fails_while_building_is_a_problem():
    def build(pipeline, hint):
        mappings = [KeyModelMapping(["KEY_5", "KEY_5"], NamedModels())]
        _ = pipeline | beam.Create([]) | RunInference(KeyedModelHandler(mappings, hint))

    problem = only(preflight(build))
    assert problem.fatal
    assert "ValueError: key KEY_5 maps to multiple model handlers" in problem.what


# Weights


def scripted(path):
    torch.jit.script(torch.nn.Linear(2, 1)).save(str(path))


def cut_off(path):
    weights(path.parent, path.name)
    path.write_bytes(path.read_bytes()[:-200])


def legacy(folder):
    torch.save(Linear().state_dict(), folder / "a.pt", _use_new_zipfile_serialization=False)
    return folder / "a.pt"


def archive(path):
    import zipfile

    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme/notes.txt", "no weights")


NOT_WEIGHTS = {
    "empty": (lambda path: path.touch(), "is empty"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "text": (lambda path: path.write_text("hello\nthere"), "no PyTorch file: it holds text"),
    "noise": (lambda path: path.write_bytes(bytes(range(7, 99))), "nothing that torch.save writes"),
    "cut off": (cut_off, "is cut off or damaged"),
    "an archive": (archive, "a ZIP archive that torch.save did not write"),
    "a Git LFS pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1"),
        "Git LFS pointer",
    ),
    "a web page": (lambda path: path.write_text("<!DOCTYPE html><html>404"), "is a web page"),
    "safetensors": (
        lambda path: path.write_bytes((64).to_bytes(8, "little") + b'{"weight":{}}'),
        "safetensors",
    ),
    "TorchScript": (scripted, "is a TorchScript model, not a state dict"),
}


@pytest.mark.parametrize("kind", NOT_WEIGHTS)
def test_files_that_are_no_weights(tmp_path, kind):
    make, says = NOT_WEIGHTS[kind]
    path = tmp_path / "model.pt"
    make(path)
    problem = only(preflight(of_one(path)))
    assert says in problem.what
    assert str(path) in problem.what
    assert problem.where == "RunInference, model model (keys a, b)"
    assert problem.fatal
    if kind != "TorchScript":  # which torch reads where it may unpickle
        with pytest.raises(Exception):  # noqa: B017  of any type: KeyError: 101, EOFError, …
            torch_handler(path).load_model()


@pytest.mark.parametrize("make", [weights, legacy])
def test_files_that_are_weights(tmp_path, make):
    path = make(tmp_path)
    assert preflight(of_one(path)) == []
    torch_handler(path).load_model()


def test_state_dicts_are_no_torchscript(tmp_path):
    handler = PytorchModelHandlerTensor(torch_script_model_path=str(weights(tmp_path)))
    assert "state_dict_path=" in only(preflight(handler)).fix
    scripted(tmp_path / "scripted.pt")
    handler = PytorchModelHandlerTensor(torch_script_model_path=str(tmp_path / "scripted.pt"))
    assert preflight(handler) == []


def test_weights_of_other_frameworks(tmp_path):
    (tmp_path / "model.onnx").write_text("this is text")
    assert "is text, not an ONNX model" in _what_is_wrong(tmp_path / "model.onnx", "onnx")[0]
    (tmp_path / "model.pkl").write_bytes(pickle.dumps([1]))
    assert preflight(SklearnModelHandlerNumpy(str(tmp_path / "model.pkl"))) == []
    (tmp_path / "model.h5").write_bytes(b"no hdf")
    assert "no HDF5" in _what_is_wrong(tmp_path / "model.h5", "tensorflow")[0]


def test_weights_that_are_missing(tmp_path):
    problem = only(preflight(of_one(tmp_path / "gone.pt")))
    assert problem.fatal
    assert "the weights of model gone (keys a, b) are missing" in problem.what


@pytest.mark.parametrize("name", ["hub/name", "gs://bucket/model.pt", "bert-base-uncased"])
def test_weights_that_are_elsewhere_are_not_looked_for(name):
    handler = NamedModels()
    handler._model_uri = name
    assert preflight(handler) == []


def test_a_reader_of_ones_own_may_read_anything(tmp_path):
    (tmp_path / "model.pt").write_text("two lines\nof text")
    handler = NamedModels()
    handler._model_uri = str(tmp_path / "model.pt")
    assert preflight(handler) == []


def test_no_file_is_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps(Bomb()))
    assert preflight(of_one(path)) == []


def test_the_size_of_a_folder(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.bin").write_bytes(b"12")
    (tmp_path / "inner" / "b.bin").write_bytes(b"345")
    assert size_bytes(tmp_path) == 5
    assert size_bytes(tmp_path, most_files=1) is None
    assert size_bytes(tmp_path / "none") is None


# Memory


@pytest.fixture
def five_models(tmp_path, monkeypatch):
    """Models of 1 to 5 MB on a machine that has 8 MB left; as function of hint."""
    monkeypatch.setattr(memory, "memory_left", lambda: 8_000_000)
    handlers = []
    for i in range(1, 6):
        path = tmp_path / f"m{i}.bst"
        with path.open("wb") as file:
            file.write(b"binf")
            file.truncate(i * 1_000_000)
        handlers.append(NamedModels(f"m{i}"))
        handlers[-1]._model_uri = str(path)

    def handler(hint):
        return KeyedModelHandler(
            [KeyModelMapping([f"k{i}"], h) for i, h in enumerate(handlers)], hint
        )

    return handler


def test_models_that_do_not_fit_this_machine(five_models):
    problem = only(preflight(five_models(None)))
    assert problem.what == (
        "up to 5 models may be held at once: 15 MB of weights, and this machine has 8 MB of memory "
        "left."
    )
    assert "Set max_models_per_worker_hint to 1 or less" in problem.fix
    assert "(hint 2 × 1 copy): 9 MB" in only(preflight(five_models(2))).what
    assert preflight(five_models(1)) == []
    assert not problem.fatal


@pytest.mark.parametrize(
    ("hint", "mode", "workers", "says"),
    [
        (1, "in_memory", 1, None),
        (1, "multi_threading", 2, "up to 2 models may be held at once (hint 1 × 2 copies): 9 MB"),
        (1, "multi_processing", 2, "up to 2 models may be held at once (hint 1 × 2 copies): 9 MB"),
    ],
)
@pytest.mark.runs
@pytest.mark.usefixtures("without_torch")
def test_copies_add_their_hints(five_models, hint, mode, workers, says):
    options = PipelineOptions(direct_running_mode=mode, direct_num_workers=workers)
    pipeline = beam.Pipeline(WatchRunner(), options=options)
    _ = pipeline | beam.Create([]) | "Score" >> RunInference(five_models(hint))
    problems = preflight(pipeline)
    if says is None:
        assert problems == []
    else:
        problem, *others = sorted(problems, key=lambda problem: says not in problem.what)
        assert says in problem.what
        assert problem.where == "Score"
        assert all("threads share 5 models" in other.what for other in others)
        assert len(others) == (mode == "multi_threading")
        with pytest.warns(WatchWarning, match="this machine has 8 MB of memory left"):
            pipeline.run()


def test_the_steps_of_a_pipeline_add_up():
    held = [_Held(step, 1, 5_000_000, (5_000_000,), None, 1) for step in ("A", "B")]
    assert memory_problem(held, 10_000_000) is None
    assert memory_problem(held, 9_000_000).where == "A, B"
    assert memory_problem([], 0) is None


def control_group(folder, limit, used, cache):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")


def test_the_memory_of_a_container_counts(tmp_path):
    listing = tmp_path / "cgroup"
    listing.write_text("0::/outer/inner\n")
    control_group(tmp_path / "fs" / "outer", 1_000, 400, 100)
    control_group(tmp_path / "fs" / "outer" / "inner", "max", 400, 100)
    assert list(memory._left_in_groups(listing, tmp_path / "fs")) == [700]
    control_group(tmp_path / "fs" / "outer" / "inner", 300, 400, 0)
    assert sorted(memory._left_in_groups(listing, tmp_path / "fs")) == [0, 700]
    assert list(memory._left_in_groups(tmp_path / "none", tmp_path)) == []
    assert 0 < memory.memory_left() <= psutil.virtual_memory().total


# Libraries


def test_a_missing_scipy_is_said(monkeypatch):
    monkeypatch.setattr("mmlab.checks.steps.find_spec", lambda name: None)
    problem = only(preflight(NamedModels()))
    assert "scipy is not installed" in problem.what
    assert "pip install scipy" in problem.fix


# The runner


@pytest.mark.runs
def test_the_runner_warns_of_them_and_runs(tmp_path):
    (tmp_path / "model.pt").write_text("text")
    mappings = [
        KeyModelMapping(["a"], NamedModels("here")),
        KeyModelMapping(["b"], torch_handler(tmp_path / "model.pt", max_batch_size=8)),
    ]
    runner = WatchRunner()
    with pytest.warns(WatchWarning) as caught:
        run_keyed(runner, KeyedModelHandler(mappings), ["a"])
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2
    assert "Score, model model (keys b): " in said[0]
    assert "asks for batches with max_batch_size=8" in said[1]
    assert runner.trace.state == "DONE"
    with warnings.catch_warnings():
        warnings.simplefilter("error", WatchWarning)
        run_keyed(WatchRunner(check=False), KeyedModelHandler(mappings), ["a"])


@pytest.mark.runs
def test_a_handler_that_cannot_be_asked_runs():
    class Shy(NamedModels):
        asked = 0

        def batch_elements_kwargs(self):
            Shy.asked += 1
            if Shy.asked > 2:  # Beam asks each of two once
                raise ValueError("not before the run")
            return {}

    handler = KeyedModelHandler([KeyModelMapping([key], Shy(key)) for key in "ab"])
    with pytest.warns(WatchWarning, match="not looked at before its run: ValueError: not before"):
        run_keyed(WatchRunner(), handler, ["a"])
    assert Shy.asked > 2


@pytest.mark.runs
def test_a_file_that_only_the_authors_own_code_would_read_may_be_missing(tmp_path):
    handler = NamedModels()
    handler._model_path = str(tmp_path / "made-when-it-is-loaded.pt")
    with pytest.warns(WatchWarning, match="the weights of model .* are missing"):
        run_keyed(WatchRunner(), handler, ["a"])


@pytest.mark.runs
def test_a_handler_without_models_warns_and_runs():
    with pytest.warns(WatchWarning, match="Score: the keyed handler has no models"):
        run_keyed(WatchRunner(), KeyedModelHandler([]), [])


def test_it_is_public():
    assert mmlab.preflight is preflight
