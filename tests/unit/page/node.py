"""Runs the page's script in Node.js, without a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import mmlab

SCRIPTS = Path(mmlab.__file__).parent / "page"


def run(code: str, given: Any = None) -> Any:
    """The value of `answer`, which `code` sets from `given`.

    Args:
      code: a module; `SCRIPTS` in it is the folder of the page's script.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js (on Debian: apt-get install nodejs): it runs the page's script")
    code = code.replace("SCRIPTS", SCRIPTS.as_uri())
    program = f"""
      import {{ readFileSync }} from "node:fs";
      const given = JSON.parse(readFileSync(0, "utf8"));
      let answer = null;
      {code.split("---", 1)[-1]}
      process.stdout.write(JSON.stringify(answer));
    """
    program = code.split("---", 1)[0] + program if "---" in code else program
    done = subprocess.run(
        [node, "--input-type=module", "--eval", program],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
