"""Traces, names and files that someone wrote to do harm: they are data, or they are refused."""

from __future__ import annotations

import ast
import json
import os
import pickle
import stat
from pathlib import Path

import apache_beam as beam
import pytest
import torch
from apache_beam.ml.inference.base import RunInference
from apache_beam.ml.inference.pytorch_inference import PytorchModelHandlerTensor
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import mmlab
from mmlab import Trace
from mmlab import events as events
from mmlab.events import VERSION, NewerTraceError
from mmlab.log.reader import LogReader
from mmlab.log.writer import LogWriter
from mmlab.worker.logs import new_log, shared_log
from tests.hostile import BASE, HOSTILE, hostile_trace, read

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")


def line(**fields) -> str:
    return json.dumps({**BASE, **fields})


def nested(depth: int):
    value = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def use(**fields) -> str:
    return line(**{"event": "use_begin", "step": "s", "model": "m", **fields})


@pytest.mark.parametrize(
    "text",
    [
        "{" * 5_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        line(limit=0)[:-1] + ', "x": NaN}',
        use()[:-1] + f', "n": {"9" * 5_000}}}',
        use(n=2**63),
        line(t_ns=10**400),
        line(pid=-(2**64)),
        use(n=1.5),
        use(n=1e308),
        use(n=True),
        use(n=-1),
        use(model={"$ref": "x"}),
        use(model=None),
        use(keys={"a": "many"}),
        use(keys={"a": -1}),
        use(keys={"a": 2**70}),
        line(event="run", info=[]),
        line(event="run", info={"models": [[[[[[[[[[[]]]]]]]]]]]}),
        line(event="run", info={"models": {"step": 1}}),
        line(event="run", info={"models": ["a"]}),
        line(event="run", info={"models": [{"step": "s"}]}),
        line(event="run", info={"models": [{"step": "s", "model": 7}]}),
        line(event="run", info={"models": [{"step": "s", "model": "m", "keys": [1]}]}),
        line(event="run", info={"models": [{"step": "s", "model": "m", "hint": 10**30}]}),
        line(event="end", info={"element_counts": {"a": "b"}}),
        line(event="end", info={"state": []}),
        line(event="process", info={"boot": []}),
        line(event="process", info={"clock_off_ns": "x"}),
        json.dumps({**BASE, "host": None}),
        json.dumps({name: BASE[name] for name in BASE if name != "run"}),
        line() + line(),
        b"\xff\xfe{}",
        b"\x80\x04\x95\x1a",
    ],
)
def test_what_is_no_event_is_refused(text):
    with pytest.raises(ValueError, match="not an event: "):
        read(text)


def test_a_newer_format_is_refused_whatever_else_it_says():
    for text in (use(v=VERSION + 1), use(v=VERSION + 1, n="many"), '{"v": 2}'):
        with pytest.raises(NewerTraceError):
            read(text)


EARLIEST, LATEST = -(2**63), 2**63 - 1


@pytest.mark.parametrize(
    ("anchor", "t_ns"),
    [((EARLIEST, LATEST), 1), ((0, LATEST), 1), ((LATEST, EARLIEST), 1), ((0, EARLIEST), -1)],
)
def test_a_time_has_64_bits_on_the_wall_clock_as_well(tmp_path, anchor, t_ns):
    began, wall = anchor
    lines = [line(event="process", t_ns=began, wall_ns=wall), line(t_ns=t_ns)]
    (tmp_path / "trace").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="not an event: a number has more than 64 bits"):
        Trace.load(tmp_path / "trace")
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a.jsonl").write_text("\n".join([*lines, ""]))
    trace = Trace.load(tmp_path / "log")
    assert trace.torn == 1
    assert Trace.load(trace.save(tmp_path / "saved")).events == trace.events


def test_half_a_surrogate_pair_is_not_text():
    assert read(use(model="a\ud83d")).model == "a?"
    assert read(use(model="a").replace('"a"', r'"\uDC00"')).model == "?"
    assert read(use(model="🚀", keys={"模\udcff": 2})).keys == {"模?": 2}
    assert read(use(model="🚀")).model == "🚀"


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "MOST_LINE_BYTES", 10_000)
    monkeypatch.setattr("mmlab.trace.MOST_LINE_BYTES", 10_000)
    (tmp_path / "trace").write_text(line() + "\n" + use(model="x" * 20_000) + "\n")
    with pytest.raises(ValueError, match="line 2: not an event: the line is longer than 10,000"):
        Trace.load(tmp_path / "trace")
    (tmp_path / "log").mkdir()
    (tmp_path / "trace").rename(tmp_path / "log" / "a.jsonl")
    trace = Trace.load(tmp_path / "log")
    assert (len(trace.events), trace.torn) == (1, 1)


def test_a_trace_that_is_too_large_is_said_before_it_is_read(tmp_path):
    file = tmp_path / "trace.jsonl"
    file.write_text((line() + "\n") * 100)
    size = file.stat().st_size
    for path in (file, tmp_path):
        with pytest.raises(ValueError, match=r"Trace.load\(…, most_bytes=…\)"):
            Trace.load(path, most_bytes=size - 1)
        assert len(Trace.load(path, most_bytes=size).events) == 100
        assert len(Trace.load(path, most_bytes=None).events) == 100
    with file.open("ab") as grown:
        grown.truncate(3_000_000_000)  # a hole: it takes no place on the disk
    with pytest.raises(ValueError, match="holds 3,000,000,000 bytes"):
        Trace.load(file)


def folder_with(folder, **others):
    """A log folder with one good log, and beside it what `others` make."""
    folder.mkdir()
    (folder / "good.jsonl").write_text(line() + "\n")
    for name, make in others.items():
        make(folder / f"{name}.jsonl")
    return folder


NO_FILES = {
    "a folder": Path.mkdir,
    "a pipe": getattr(os, "mkfifo", None),
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a broken link": lambda path: path.symlink_to("nothing"),
}


@POSIX
@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_file_is_refused_and_no_run_minds_it(tmp_path, make):
    folder = folder_with(tmp_path / "log", bad=make)
    with pytest.raises(OSError, match=r"bad.jsonl is a folder, a pipe, a device or a broken link"):
        Trace.load(folder)
    assert len(LogReader(folder).poll()) == 1


@POSIX
@pytest.mark.parametrize("name", ["a pipe", "an endless device"])
def test_what_has_no_end_is_refused_in_the_place_of_a_trace(tmp_path, name):
    NO_FILES[name](tmp_path / "trace.jsonl")
    with pytest.raises(OSError, match=r"trace.jsonl is a folder, a pipe, a device"):
        Trace.load(tmp_path / "trace.jsonl")


@POSIX
def test_a_pipe_that_takes_the_place_of_a_log_is_refused(tmp_path, monkeypatch):
    """Between the look at it and the reading."""
    os.mkfifo(tmp_path / "a.jsonl")
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    with pytest.raises(OSError, match="events are read from files alone"):
        LogReader(tmp_path).poll()


@POSIX
def test_links_to_files_are_followed(tmp_path):
    folder_with(tmp_path / "log")
    other = folder_with(
        tmp_path / "other", linked=lambda path: path.symlink_to("../log/good.jsonl")
    )
    assert len(Trace.load(other).events) == 2
    assert len(Trace.load(other / "linked.jsonl").events) == 1


@pytest.mark.parametrize("name", ["log", "log/good.jsonl"])
def test_what_grows_while_it_is_read_is_read_to_the_limit(tmp_path, name, monkeypatch):
    folder_with(tmp_path / "log")
    size = len(line()) + 1
    monkeypatch.setattr("mmlab.log.folders._LocalFolder.size", lambda folder: 0)
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **kw: Sizeless(real(path, **kw)))
    assert len(Trace.load(tmp_path / name, most_bytes=size).events) == 1
    with pytest.raises(ValueError, match=r"Trace.load\(…, most_bytes=…\)"):
        Trace.load(tmp_path / name, most_bytes=size - 1)


class Sizeless:
    """What the system says of a file that was empty a moment ago."""

    def __init__(self, stat):
        self._stat = stat
        self.st_size = 0

    def __getattr__(self, name):
        return getattr(self._stat, name)


def test_a_pickle_is_not_a_trace(tmp_path):
    (tmp_path / "trace").write_bytes(pickle.dumps(Bomb(tmp_path / "bang")))
    with pytest.raises(ValueError, match="line 1: not"):
        Trace.load(tmp_path / "trace")
    assert not (tmp_path / "bang").exists()


@pytest.mark.parametrize("kind", ["_init__", "latest", "by_generation", "add", "all", "__class__"])
def test_a_kind_of_event_is_only_a_name(kind):
    event = read(line(event=kind, step="s", model="m", generation=1))
    trace = Trace([event])
    assert trace.residences == []
    assert trace.summary().loads == 0


def test_names_command_no_terminal():
    trace = hostile_trace()
    shown = [repr(trace), str(trace.summary()), repr(trace.timeline()), *trace.notes]
    for text in shown:
        assert all(c.isprintable() or c == "\n" for c in text)
        text.encode("utf-8")


@pytest.mark.runs
def test_names_are_drawn_saved_and_read_back(tmp_path):
    trace = hostile_trace()
    picture = trace.timeline()
    for ending in ("png", "svg", "pdf"):
        assert picture.save(tmp_path / f"picture.{ending}").stat().st_size > 1_000
    data, metadata = picture._repr_mimebundle_()
    assert data["image/png"]
    assert metadata["image/png"]["alt"] == repr(picture).splitlines()[0]
    assert Trace.load(trace.save(tmp_path / "trace.jsonl")).events == trace.events
    text = trace.to_perfetto(tmp_path / "trace.json").read_text("ascii")
    assert json.loads(text)["traceEvents"]
    assert len(trace.to_frame()) == len(trace.events)
    assert len(trace.per_model()) == len(HOSTILE)


def test_the_name_of_a_machine_is_no_path(tmp_path, monkeypatch):
    for name in ["../../evil", "a/b\\c", "模" * 64, "x" * 300, "a\x00b\nc"]:
        monkeypatch.setattr("socket.gethostname", lambda name=name: name)
        LogWriter(tmp_path, "run").close()
    assert len(list(tmp_path.iterdir())) == 5
    assert len(LogReader(tmp_path).poll()) == 5


# Folders


def mode(path) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


@POSIX
def test_new_log_folders_are_private(tmp_path):
    log = new_log(tmp_path / "new" / "log", 1)
    LogWriter(log.folder, log.run).close()
    for path in (tmp_path / "new", tmp_path / "new" / "log", log.folder):
        assert mode(path) == 0o700
    (file,) = Path(log.folder).iterdir()
    assert mode(file) == 0o600
    assert mode(new_log(None, 1).folder) == 0o700
    assert mode(shared_log(tmp_path / "shared", 1).folder) == 0o700


@POSIX
def test_a_folder_that_others_may_write_to_is_shared_with_them(tmp_path):
    tmp_path.chmod(0o770)
    log = new_log(tmp_path, 1)
    LogWriter(log.folder, log.run).close()
    (file,) = Path(log.folder).iterdir()
    assert (mode(tmp_path), mode(log.folder), mode(file)) == (0o770, 0o770, 0o660)


@pytest.fixture(params=[0o022, 0o002, 0o000], ids="umask {:03o}".format)
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


@POSIX
@pytest.mark.parametrize("above", [0o755, 0o775, 0o2775, 0o777, 0o1777], ids="in {:04o}".format)
def test_what_is_made_is_private_whatever_is_above_it(tmp_path, umask, above):
    tmp_path.chmod(above)
    run = Path(new_log(tmp_path / "new" / "log", 1).folder)
    own = Path(shared_log(tmp_path / "own" / "log", 1).folder)
    for folder in (run, own):
        LogWriter(folder, "run").close()
        (file,) = folder.iterdir()
        assert mode(file) == 0o600
    for folder in (run, run.parent, run.parent.parent, own, own.parent):
        assert mode(folder) & 0o777 == 0o700
    assert mode(tmp_path) == above


@POSIX
def test_a_log_folder_that_was_made_for_others_is_shared_whatever_the_umask(tmp_path, umask):
    (tmp_path / "log").mkdir()
    (tmp_path / "log").chmod(0o2770)
    log = new_log(tmp_path / "log", 1)
    LogWriter(log.folder, log.run).close()
    (file,) = Path(log.folder).iterdir()
    assert (mode(log.folder) & 0o777, mode(file)) == (0o770, 0o660)


@POSIX
@pytest.mark.parametrize("there", [0o755, 0o1777], ids=["others read", "as /tmp"])
def test_a_folder_that_others_only_share_by_chance_is_not(tmp_path, there):
    tmp_path.chmod(there)
    log = new_log(tmp_path, 1)
    LogWriter(log.folder, log.run).close()
    (file,) = Path(log.folder).iterdir()
    assert (mode(tmp_path), mode(log.folder), mode(file)) == (there, 0o700, 0o600)


# Weights


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_here_reads_weights_that_could_be_code():
    """Every call of `load` on torch, pickle and their like in mmlab, but for those that
    read what this very process has sent to its child, and what that child answers."""
    allowed = {"fresh/child.py", "fresh/supervisor.py", "lessons/exercises/ab_pattern.py"}
    package = Path(mmlab.__file__).parent
    found = []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = ast.unparse(node.func.value)
                weights_only = any(
                    k.arg == "weights_only" and ast.unparse(k.value) == "True"
                    for k in node.keywords
                )
                name = f"{owner}.{node.func.attr}"
                if name in ("torch.load", "torch.jit.load") and not weights_only:
                    found.append((path.name, name))
                if name in ("pickle.loads", "pickle.load", "cloudpickle.loads", "joblib.load"):
                    found.append((path.relative_to(package).as_posix(), name))
    assert {place for place, _ in found} == allowed


class Tiny(torch.nn.Linear):
    def __init__(self):
        super().__init__(2, 2)


@pytest.mark.runs
def test_a_pickle_in_the_place_of_weights_is_refused(tmp_path):
    weights = tmp_path / "weights.pt"
    torch.save({"weight": Bomb(tmp_path / "bang")}, weights)
    handler = PytorchModelHandlerTensor(str(weights), Tiny, load_model_args={"weights_only": True})
    runner = mmlab.WatchRunner(FnApiRunner())
    pipeline = beam.Pipeline(runner)
    _ = pipeline | beam.Create([torch.zeros(2)]) | RunInference(handler)
    with pytest.raises(Exception, match="(?i)weights.only|unsupported"):
        pipeline.run().wait_until_finish()
    assert not (tmp_path / "bang").exists()
    assert runner.trace.of_kind("load_fail")


@pytest.mark.parametrize("name", ["CONFIG_1", "CONFIG_4"])
def test_the_handlers_of_the_lessons_read_weights_only(name, monkeypatch, tmp_path):
    monkeypatch.setattr("mmlab.lessons.models.weights_file", lambda name: tmp_path / name)
    from mmlab.lessons import models

    torch.save({"weight": Bomb(tmp_path / "bang")}, tmp_path / name)
    with pytest.raises(pickle.UnpicklingError):
        models.handler(name).load_model()
    assert not (tmp_path / "bang").exists()
