"""Fetch Graphviz as WebAssembly: `python mmlab/diagrams/engine/renew.py [VERSION]`.

The source is npm's `@viz-js/viz`, whose script contains the WebAssembly as a string literal. Keep
the WebAssembly and the names of its functions, which the script shortens; mmlab runs them without
JavaScript.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import sys
import tarfile
import urllib.request
from pathlib import Path

_VERSION = "3.31.0"
_REGISTRY = "https://registry.npmjs.org/@viz-js/viz"
_HERE = Path(__file__).parent


def main(version: str) -> None:
    script = _script(version)
    code = _code(script)
    (_HERE / "graphviz.wasm").write_bytes(code)
    graphviz = _found(r'graphvizVersion = "([\d.]+)"', _file(version, "lib/metadata.js"))
    names = {
        "source": f"@viz-js/viz {version}, Graphviz {graphviz}",
        "sha256": hashlib.sha256(code).hexdigest(),
        "imports": _imports(script),
        "exports": _exports(script),
    }
    (_HERE / "graphviz.json").write_text(json.dumps(names, indent=2) + "\n")
    print(f"{names['source']}: {len(code):,} bytes")


def _script(version: str) -> str:
    return _file(version, "lib/backend.js")


def _file(version: str, name: str) -> str:
    with tarfile.open(fileobj=io.BytesIO(_package(version))) as package:
        file = package.extractfile(f"package/{name}")
        if file is None:
            raise SystemExit(f"{name} is no file of the package")
        return file.read().decode()


def _found(pattern: str, script: str) -> str:
    match = re.search(pattern, script, re.S)
    if match is None:
        raise SystemExit(f"the package holds no {pattern}: see its scripts")
    return match[1]


_packages: dict[str, bytes] = {}


def _package(version: str) -> bytes:
    """Download the package and check it against npm's checksum."""
    if version not in _packages:
        with urllib.request.urlopen(f"{_REGISTRY}/{version}") as answer:
            about = json.load(answer)["dist"]
        with urllib.request.urlopen(about["tarball"]) as answer:
            data = answer.read()
        kind, digest = about["integrity"].split("-", 1)
        if hashlib.new(kind, data).digest() != base64.b64decode(digest):
            raise SystemExit("what was downloaded is not what npm says it is")
        _packages[version] = data
    return _packages[version]


def _code(script: str) -> bytes:
    """Decode the string literal of `binaryDecode('…')` as the script does."""
    literal = _found(r"binaryDecode\('((?:[^'\\]|\\.)*)'\)", script)
    text = re.sub(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|.)", _character, literal, flags=re.S)
    code = bytes(c & ~(c >> 8) & 0xFF for c in map(ord, text))
    if not code.startswith(b"\0asm"):
        raise SystemExit("the package holds its WebAssembly in another way: see lib/backend.js")
    return code


def _character(escape: re.Match[str]) -> str:
    kind = escape[1]
    if kind[0] in "xu" and len(kind) > 1:
        return chr(int(kind[1:], 16))
    return {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "b": "\b", "f": "\f", "v": "\v"}.get(
        kind, kind
    )


def _imports(script: str) -> dict[str, str]:
    """Map the import names of the WebAssembly to the functions of the script."""
    table = _found(r"var wasmImports=\{([^}]*)\}", script)
    pairs = (pair.split(":") for pair in table.split(","))
    return {short: name.lstrip("_") for short, name in pairs}


def _exports(script: str) -> dict[str, str]:
    shortened = r'\b_?(viz_\w+|malloc|free)=[^;{}]*?wasmExports\["(\S+?)"\]'
    exports = dict(re.findall(shortened, script))
    exports["memory"] = _found(r'memory=wasmMemory=wasmExports\["(\S+?)"\]', script)
    exports["__wasm_call_ctors"] = _found(
        r'initRuntime\(\)\{.*?wasmExports\["(\S+?)"\]\(\)', script
    )
    return exports


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else _VERSION)
