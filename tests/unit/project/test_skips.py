"""What is skipped where nothing may be is a failure with its reason."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WAYS_TO_SKIP = {
    "test_body.py": "import pytest\ndef test_it(): pytest.skip('no browser')",
    "test_fixture.py": (
        "import pytest\n@pytest.fixture\ndef browser(): pytest.skip('no browser')\n"
        "def test_it(browser): pass"
    ),
    "test_mark.py": (
        "import pytest\n@pytest.mark.skipif(True, reason='no browser')\ndef test_it(): pass"
    ),
    "test_module.py": "import pytest\npytest.importorskip('browser', reason='no browser')",
}
EXPECTED_TO_FAIL = "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("skips")
    shutil.copy(ROOT / "conftest.py", folder)
    (folder / "pytest.ini").write_text("[pytest]")
    (folder / "test_xfail.py").write_text(EXPECTED_TO_FAIL)
    for name, source in WAYS_TO_SKIP.items():
        (folder / name).write_text(source)
    return folder


def summary(folder, **variables):
    """The last line of a run of the tests in `folder`, and the rest."""
    environ = {name: value for name, value in os.environ.items() if name != "MMLAB_NO_SKIPS"}
    environ["PYTHONPATH"] = str(ROOT)  # conftest.py names a plugin of ours
    flags = ["-rfEs", "--continue-on-collection-errors", "-p", "no:warnings"]
    command = [sys.executable, "-m", "pytest", *flags]
    done = subprocess.run(
        command, cwd=folder, env={**environ, **variables}, capture_output=True, text=True
    )
    return done.stdout.splitlines()[-1], done.stdout


@pytest.mark.runs
def test_skips_are_failures_where_nothing_may_be_skipped(folder):
    counts, said = summary(folder, MMLAB_NO_SKIPS="1")
    assert "1 failed, 1 xfailed, 3 errors in" in counts
    named = said.partition("short test summary info")[2]
    assert named.count("MMLAB_NO_SKIPS is 1. Skipped: no browser") == len(WAYS_TO_SKIP)


@pytest.mark.runs
def test_skips_are_skips_elsewhere_and_say_why(folder):
    counts, said = summary(folder)
    assert "4 skipped, 1 xfailed in" in counts
    assert said.count("no browser") == len(WAYS_TO_SKIP)
