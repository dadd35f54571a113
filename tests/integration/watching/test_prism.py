"""Random pipelines on Prism give what they give unwatched, and load what an LRU loads."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests import without_torch
from tests.integration.watching import random_pipelines
from tests.lanes import size

NUMBER = size("prism", suite=3, full=100)
"""Of pipelines that run on Prism; Beam itself takes another runner for what Prism cannot do."""


@pytest.mark.part("prism", suite=True)
@pytest.mark.runs
@pytest.mark.timeout(120 + 30 * NUMBER)
def test_random_pipelines_on_prism(prism):
    command = [sys.executable, "-m", random_pipelines.__name__, "--json", f"--prism={prism}"]
    command += [f"--seeds=0:{20 * NUMBER}", f"--most={NUMBER}"]
    environment = without_torch.environment()
    said = subprocess.run(command, capture_output=True, text=True, env=environment)
    found = [json.loads(line) for line in said.stdout.splitlines() if line.startswith("{")]
    on_prism = [finding for finding in found if finding["made_by"] == random_pipelines.PRISM]
    assert len(on_prism) == NUMBER, said.stderr[-3000:]
    differing = {f["description"]: f["differences"] for f in found if f["differences"]}
    assert differing == {}
