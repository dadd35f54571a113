"""Runs the page's script in Node.js, without a browser."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import playwright

import mmlab

NODE = Path(playwright.__file__).parent / "driver" / "node"
"""The one that Playwright brings."""
SCRIPTS = Path(mmlab.__file__).parent / "page"


def run(code: str, given: Any = None) -> Any:
    """The value of `answer`, which `code` sets from `given`.

    Args:
      code: a module; `SCRIPTS` in it is the folder of the page's script.
    """
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
        [NODE, "--input-type=module", "--eval", program],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
