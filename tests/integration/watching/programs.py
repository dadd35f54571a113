"""Programs of this folder, each in a process of its own, which print what came of them as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests import without_torch
from tests.waiting import HUNG_SECONDS

ROOT = Path(__file__).parents[3]


def started(module, *arguments, folder, before=(), stub_torch=False):
    """Start a program of this folder with its temporary files in `folder`.

    Args:
      stub_torch: whether it has a stand-in for PyTorch, as Beam's ModelManager needs one.
    """
    environment = without_torch.environment(stub=stub_torch)
    folder.mkdir(exist_ok=True)
    said = folder.with_name(f"{folder.name}.err")
    with said.open("w") as errors:
        process = subprocess.Popen(
            [
                *before,
                sys.executable,
                "-m",
                f"{__package__}.{module}",
                *map(str, arguments),
            ],
            cwd=ROOT,
            env={**environment, "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    process.said = said
    return process


def outcome_of(process):
    """What it printed last."""
    output, _ = process.communicate(timeout=HUNG_SECONDS)
    assert process.returncode == 0, process.said.read_text()[-2000:]
    return json.loads(output.splitlines()[-1])
