"""Where nothing can be written, as another user, with -O, in folders with odd names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mmlab
from tests import without_torch

pytestmark = [
    pytest.mark.runs,
    pytest.mark.skipif(os.name == "nt", reason="users and permissions of POSIX"),
]

_USE = """
import mmlab, apache_beam as beam
from mmlab.trace import Trace
from mmlab.lru import _IS_FAST
assert mmlab.__file__.startswith({package!r}), mmlab.__file__
with beam.Pipeline() as pipeline:
    pipeline | beam.Create([1]) | beam.Map(abs)
diagram = mmlab.diagram(pipeline)
assert "<svg" in diagram.svg and diagram.png.startswith(b"\\x89PNG")
prediction = mmlab.predict(["a", "b", "a", "c"] * 5, {{"a": "A", "b": "B", "c": "C"}})
assert prediction.loads.tolist()[-1] == 3
assert Trace([]).timeline()._repr_mimebundle_()
print("used")
"""
_READS = "+dac_read_search"  # this Python may be in a folder of root's
USERS: dict[str, list[str]] = {"this user": []}
if hasattr(os, "getuid") and os.getuid() == 0:  # root may write everywhere, unless it gives that up
    USERS = {
        "root": ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"],
        "another user": ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                         f"--inh-caps={_READS}", f"--ambient-caps={_READS}"],
    }  # fmt: skip


@pytest.fixture
def places(tmp_path):
    """A copy of the package that cannot be written, and a temporary folder with an odd name."""
    code = tmp_path / "code"
    shutil.copytree(
        Path(mmlab.__file__).parent,
        code / "mmlab",
        ignore=shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc"),
    )
    temporary = tmp_path / "tmp mit Lücken und Ümlauten 한글"
    temporary.mkdir()
    temporary.chmod(0o777)
    (tmp_path / "home").mkdir()
    frozen = [tmp_path / "home", *code.rglob("*"), code]
    for path in frozen:
        path.chmod(path.stat().st_mode & 0o555 | 0o444)
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    yield code, temporary, tmp_path / "home" / "none"
    for path in reversed(frozen):
        path.chmod(path.stat().st_mode | 0o200)


def _run(places, *options: str, before: list[str]) -> str:
    code, temporary, home = places
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PYTHONPATH": without_torch.path(code),
    }
    use = _USE.format(package=str(code))
    done = subprocess.run(
        [*before, sys.executable, *options, "-c", use], env=environment, cwd=temporary,
        capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout + done.stderr[-2000:] if done.returncode else done.stdout


@pytest.mark.parametrize("who", USERS)
def test_where_nothing_can_be_written(places, who):
    if USERS[who] and shutil.which("setpriv") is None:
        pytest.skip("root without setpriv cannot give up its powers")
    options = [] if who == "another user" else ["-O"]
    assert _run(places, *options, before=USERS[who]) == "used\n"
