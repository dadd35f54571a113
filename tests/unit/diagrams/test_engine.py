"""The process that draws: small, alone, the same everywhere; its end is a sentence."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import mmlab
from mmlab import fonts
from mmlab.diagrams import GraphvizError, engine
from tests.unit.diagrams.pipelines import BUILDERS

DOT = 'digraph { a [label=<<B>판매</B> é → ∑>]; a -> b [label="x"]; }'
WORKER = Path(engine.__file__).with_name("worker.py")
POSIX = pytest.mark.skipif(os.name == "nt", reason="forks, signals and limits of POSIX")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(autouse=True)
def fresh():
    """Each test begins and ends without a process."""
    engine._engine.close()
    yield
    engine._engine.close()


def pid() -> int:
    return engine._engine._process.pid


@pytest.fixture
def worker_does(tmp_path, monkeypatch):
    """Puts a program in the place of the worker."""

    def install(program: str) -> None:
        path = tmp_path / "worker.py"
        path.write_text(program)
        monkeypatch.setattr(engine, "_WORKER", path)

    return install


def test_it_draws():
    svg = engine.svg(DOT)
    assert "판매" in svg
    assert engine.png(svg, 300).startswith(b"\x89PNG")


def test_what_graphviz_says_is_in_the_error():
    with pytest.raises(GraphvizError, match="syntax error in line 1"):
        engine.svg("digraph {")
    with pytest.raises(GraphvizError, match="it holds no graph"):
        engine.svg("")


def test_one_process_draws_all_pictures():
    engine.svg(DOT)
    first = pid()
    engine.svg(DOT)
    assert pid() == first


@POSIX
def test_a_process_that_was_killed_is_started_again():
    engine.svg(DOT)
    first = pid()
    os.kill(first, signal.SIGKILL)
    assert engine.svg(DOT)
    assert pid() != first


@POSIX
def test_a_process_that_dies_while_it_is_asked_is_started_again(monkeypatch):
    engine.svg(DOT)
    process = engine._engine._process
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    monkeypatch.setattr(process, "poll", lambda: None)  # it died just after that was asked
    assert engine.svg(DOT)
    assert pid() != process.pid


@POSIX
def test_a_forked_child_has_a_process_of_its_own():
    engine.svg(DOT)
    first = pid()
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if engine.svg(DOT) and pid() != first else 2
            engine._engine.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert engine.svg(DOT)
    assert pid() == first


def test_threads_take_turns():
    drawn = []
    threads = [threading.Thread(target=lambda: drawn.append(engine.svg(DOT))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 4
    assert len(set(drawn)) == 1


@pytest.mark.runs
@POSIX
def test_its_death_is_a_sentence_and_a_notebook_gets_the_outline(worker_does):
    worker_does(
        "import os, signal, sys; sys.stdin.readline(); os.kill(os.getpid(), signal.SIGTRAP)"
    )
    with pytest.raises(GraphvizError, match="ended with SIGTRAP"):
        engine.svg(DOT)
    diagram = mmlab.diagram(BUILDERS["keyed"]())
    data = diagram._repr_mimebundle_()
    assert set(data) == {"text/plain"}
    assert data["text/plain"].startswith(diagram.outline)
    assert "ended with SIGTRAP" in data["text/plain"]


@pytest.mark.runs
def test_its_last_words_are_in_the_sentence(worker_does):
    worker_does("raise SystemExit('nothing works')")
    with pytest.raises(GraphvizError, match=r"ended with exit status 1 \(nothing works\)"):
        engine.svg(DOT)


@pytest.mark.runs
def test_one_that_hangs_is_stopped(worker_does, monkeypatch):
    worker_does("import time; time.sleep(60)")
    monkeypatch.setattr(engine, "_SECONDS", 0.5)
    with pytest.raises(GraphvizError, match="depth=1"):
        engine.svg(DOT)
    with pytest.raises(GraphvizError, match="depth=1"):  # more than a pipe holds
        engine.svg(DOT + " " * 1_000_000)


def test_a_missing_package_is_named_with_the_command_for_this_python(monkeypatch):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "site-packages" not in p])
    command = re.escape(f"`{sys.executable} -m pip install wasmtime`")
    with pytest.raises(GraphvizError, match=f"wasmtime, which is not installed: run {command}"):
        engine.svg(DOT)


def test_a_package_that_does_not_work_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "wasmtime.py").write_text("raise ImportError('libX11.so.6: cannot open')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(GraphvizError, match="do not work here: libX11.so.6: cannot open"):
        engine.svg(DOT)


# The same everywhere


def _apart(request: dict, tmp_path: Path, **environment: str) -> dict:
    """The answer of a worker that was started by hand."""
    command = [sys.executable, "-I", "-S", str(WORKER), json.dumps(sys.path), str(tmp_path)]
    done = subprocess.run(
        command, input=json.dumps(request), env=environment, capture_output=True, text=True
    )
    return json.loads(done.stdout)


@pytest.mark.runs
@POSIX
def test_language_fonts_and_home_do_not_matter(tmp_path):
    bare = _apart({"dot": DOT}, tmp_path)
    assert bare["svg"] == engine.svg(DOT)
    for setting in ({"LC_ALL": "tr_TR.UTF-8"}, {"LANG": "C"}, {"FONTCONFIG_FILE": os.devnull}):
        assert _apart({"dot": DOT}, tmp_path, **setting) == bare
    drawn = {"svg": bare["svg"], "width": 300, "fonts": fonts.files()}
    assert _apart(drawn, tmp_path) == _apart(drawn, tmp_path, FONTCONFIG_FILE=os.devnull)


@pytest.mark.runs
def test_compiled_anew_and_from_disk_it_is_the_same(tmp_path):
    first = _apart({"dot": DOT}, tmp_path)
    assert [file.suffix for file in tmp_path.iterdir()] == [".cwasm"]
    assert _apart({"dot": DOT}, tmp_path) == first
    [kept] = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    assert _apart({"dot": DOT}, tmp_path) == first


@pytest.mark.runs
def test_machine_code_in_a_folder_that_others_may_write_is_not_used(tmp_path):
    tmp_path.chmod(0o777)
    assert "svg" in _apart({"dot": DOT}, tmp_path)
    assert not list(tmp_path.iterdir()) or os.name == "nt"


@pytest.mark.runs
def test_it_imports_next_to_nothing(tmp_path):
    command = [sys.executable, "-I", "-S", "-X", "importtime", str(WORKER), json.dumps(sys.path)]
    done = subprocess.run(
        command, input=json.dumps({"dot": DOT}), capture_output=True, text=True, check=True
    )
    modules = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    tops = {module.split(".")[0] for module in modules}
    assert "wasmtime" in tops
    assert not tops & {"mmlab", "torch", "apache_beam", "matplotlib", "numpy", "pandas", "PIL"}


@LINUX
def test_it_needs_the_c_library_and_nothing_else_of_the_system():
    engine.png(engine.svg(DOT), 300)
    maps = Path(f"/proc/{pid()}/maps").read_text()
    loaded = {Path(name).name for name in re.findall(r"\S+\.so[.\d]*$", maps, re.M)}
    brought = {"_libwasmtime.so", "resvg_py.abi3.so"}
    assert brought <= loaded
    of_python = r"libpython3|.*\.cpython-|libffi|libz|liblzma|libbz2|libcrypto|libssl|libexpat"
    of_c = r"(libc|libm|libdl|libpthread|librt|libutil|libgcc_s|ld-linux[-\w]*|ld-musl[-\w]*)[.-]"
    others = {name for name in loaded - brought if not re.match(f"{of_python}|{of_c}", name)}
    assert others == set()


# Limits of memory

_ALONE = """
import sys, types
package = types.ModuleType("mmlab")  # the real one imports torch, which does not fit
package.__path__ = [sys.argv[1]]
sys.modules["mmlab"] = package
diagrams = types.ModuleType("mmlab.diagrams")
diagrams.__path__ = [sys.argv[1] + "/diagrams"]
sys.modules["mmlab.diagrams"] = diagrams
import resource
from mmlab.diagrams import engine
limit = int(sys.argv[2]) * 10**6
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    print("drawn" if "<svg" in engine.svg("digraph { a -> b }") else "nothing")
except engine.GraphvizError as error:
    print(error)
"""


@pytest.mark.runs
@LINUX
@pytest.mark.parametrize("megabytes", [60, 100, 150, 250, 500, 4000])
def test_under_ulimit_v_there_is_a_picture_or_a_sentence(megabytes, tmp_path):
    package = str(Path(mmlab.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, package, str(megabytes)],
        env={**os.environ, "MMLAB_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "drawn\n" or "(ulimit -v)" in done.stdout or "memory" in done.stdout
    if megabytes >= 500:
        assert done.stdout == "drawn\n"
