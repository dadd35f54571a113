"""The process of Graphviz (as WebAssembly) and resvg: one JSON line per request and answer.

    python -I -S worker.py '["the", "caller's", "sys.path"]' CACHE_FOLDER

The answer to `{"dot": TEXT}` is `{"svg": TEXT}`; the answer to `{"svg": TEXT, "width": PIXELS,
"fonts": [PATH, …]}` is `{"png": BASE64}`. An error is answered by `{"error": SENTENCE}`, and a
missing package by `{"missing": NAME}`. To start quickly, the process imports nothing of mmlab.
If it crashes, `mmlab.diagrams.engine` raises an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import sys
import tempfile
from base64 import b64encode
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any

_WASM = Path(__file__).with_name("graphviz.wasm")
_NAMES = Path(__file__).with_name("graphviz.json")
_PAGE = 65536
_MOST_PAGES = 16384  # 1 GiB
_MOST_KEPT = 4
_NO_ENTRY = 44
"""Emscripten's number of ENOENT: the WebAssembly has no file system."""


class _Failed(Exception):
    """Graphviz could not draw."""


class _Graphviz:
    """One instance of the WebAssembly; it draws one graph."""

    def __init__(self) -> None:
        import wasmtime

        engine, module = _compiled()
        names = json.loads(_NAMES.read_text())
        self._store = wasmtime.Store(engine)
        self._messages: list[str] = []
        self._trap, self._error = wasmtime.Trap, wasmtime.WasmtimeError
        functions = []
        for need in module.imports:
            name = names["imports"][need.name]
            act = getattr(self, f"_{name}", None) or _refusal(name)
            functions.append(wasmtime.Func(self._store, need.type, act))
        exports = wasmtime.Instance(self._store, module, functions).exports(self._store)
        memory = exports[names["exports"]["memory"]]
        if not isinstance(memory, wasmtime.Memory):
            raise _Failed("its memory is not where it was")
        self._memory = memory
        found = {name: exports[short] for name, short in names["exports"].items()}
        self._exports = {n: what for n, what in found.items() if isinstance(what, wasmtime.Func)}
        self._call("__wasm_call_ctors")

    def svg(self, dot: str) -> str:
        """Draw a graph as an SVG document.

        Raises:
          Failed: Graphviz failed; the text is its message.
        """
        try:
            graph = self._call("viz_read_one_graph", self._text(dot))
            if not graph:
                raise _Failed(self._message() or "it holds no graph")
            context = self._call("viz_create_context")
            if self._call("viz_layout", context, graph, self._text("dot")):
                raise _Failed(self._message())
            drawn = self._call("viz_render", context, graph, self._text("svg"))
        except (self._trap, RuntimeError) as trap:
            raise _Failed(self._message() or str(trap).strip().splitlines()[-1].strip()) from None
        if not drawn:
            raise _Failed(self._message())
        return self._string(drawn)

    def close(self) -> None:
        """Free the memory at once: the instance and its imports are a reference cycle."""
        self._store.close()

    # Memory

    def _call(self, name: str, *arguments: int) -> int:
        result: int = self._exports[name](self._store, *arguments)
        return result

    def _text(self, text: str) -> int:
        data = text.encode() + b"\0"
        at = self._call("malloc", len(data))
        if not at:
            raise _Failed("out of memory")
        self._memory.write(self._store, data, at)
        return at

    def _string(self, at: int) -> str:
        at &= 0xFFFFFFFF
        found = bytearray()
        while b"\0" not in found:
            stop = min(at + len(found) + _PAGE, self._memory.data_len(self._store))
            found += self._memory.read(self._store, at + len(found), stop)
        return bytes(found[: found.index(0)]).decode(errors="replace")

    def _number(self, at: int, size: int = 4) -> int:
        return int.from_bytes(self._memory.read(self._store, at, at + size), "little")

    def _set(self, at: int, value: int, size: int = 4) -> None:
        self._memory.write(self._store, value.to_bytes(size, "little"), at)

    def _message(self) -> str:
        return " ".join("".join(self._messages).split()).removeprefix("Error: ")

    # In place of Emscripten's script: no files, no clock, no randomness.

    def _viz_errorf(self, text: int) -> int:
        self._messages.append(self._string(text))
        return 0

    def _fd_write(self, fd: int, vectors: int, count: int, written: int) -> int:
        total = 0
        for i in range(count):
            at, size = self._number(vectors + 8 * i), self._number(vectors + 8 * i + 4)
            total += size
            if fd == 2:
                text = self._memory.read(self._store, at, at + size)
                self._messages.append(bytes(text).decode(errors="replace"))
        self._set(written, total)
        return 0

    def _emscripten_resize_heap(self, wanted: int) -> int:
        wanted &= 0xFFFFFFFF
        have = self._memory.size(self._store)
        need = -(-wanted // _PAGE)
        if need > _MOST_PAGES:
            return 0
        for pages in (max(need, have + have // 5), need):
            try:
                self._memory.grow(self._store, max(0, min(pages, _MOST_PAGES) - have))
            except self._error:  # no more memory on this machine: Graphviz reports it
                continue
            return 1
        return 0

    def _environ_sizes_get(self, count: int, size: int) -> int:
        self._set(count, 0)
        self._set(size, 0)
        return 0

    def _environ_get(self, *_: int) -> int:
        return 0

    def _clock_time_get(self, clock: int, precision: int, time: int) -> int:
        self._set(time, 0, 8)
        return 0

    def _emscripten_date_now(self) -> float:
        return 0.0

    def _random_get(self, at: int, size: int) -> int:
        self._memory.write(self._store, bytes(size), at)
        return 0

    def _tzset_js(self, *_: int) -> None:
        pass

    def _localtime_js(self, time: int, at: int) -> None:
        self._memory.write(self._store, bytes(44), at)

    def _fd_close(self, fd: int) -> int:
        return 0

    def _fd_read(self, fd: int, vectors: int, count: int, read: int) -> int:
        self._set(read, 0)
        return 0

    def _fd_seek(self, fd: int, offset: int, whence: int, place: int) -> int:
        self._set(place, 0, 8)
        return 0

    def _syscall_faccessat(self, *_: int) -> int:
        return -_NO_ENTRY

    _syscall_openat = _syscall_newfstatat = _syscall_fstat64 = _mmap_js = _syscall_faccessat

    def _syscall_fcntl64(self, *_: int) -> int:
        return 0

    _syscall_ioctl = _munmap_js = _syscall_fcntl64


def _refusal(name: str) -> Any:
    """Return a function that ends the drawing, for `abort`, `exit` and the like."""

    def refuse(*_: Any) -> None:
        raise RuntimeError(f"Graphviz stopped in {name}")

    return refuse


# The WebAssembly as machine code


@cache
def _compiled() -> tuple[Any, Any]:
    """Engine and module; takes milliseconds with cached machine code, else a second or two."""
    import wasmtime

    engine = wasmtime.Engine(_settings(wasmtime.Config()))
    code = _WASM.read_bytes()
    kept = _kept_file(code + wasmtime.__file__.encode(errors="replace"))
    if kept is not None and kept.is_file():
        try:
            return engine, wasmtime.Module.deserialize_file(engine, str(kept))
        except wasmtime.WasmtimeError:
            pass  # truncated, or made by another wasmtime or for another processor
    module = wasmtime.Module(engine, code)
    if kept is not None:
        _keep(kept, bytes(module.serialize()))
    return engine, module


def _settings(config: Any) -> Any:
    """Reserve no gigabytes of address space, so that the engine works under `ulimit -v`."""
    config.signals_based_traps = False
    config.memory_reservation = 0
    config.memory_guard_size = 0
    config.memory_reservation_for_growth = 16 * 2**20
    config.memory_may_move = True
    config.cranelift_opt_level = "speed"
    return config


def _kept_file(made_of: bytes) -> Path | None:
    """File of the cached machine code; None unless only this user can write to its folder."""
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2] else None
    if folder is None:
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
    except OSError:
        return None
    if hasattr(os, "getuid") and (state.st_uid != os.getuid() or state.st_mode & 0o022):
        return None
    key = hashlib.sha256(made_of + Path(__file__).read_bytes()).hexdigest()[:16]
    return folder / f"graphviz-{platform.machine()}-{key}.cwasm"


def _keep(path: Path, code: bytes) -> None:
    try:
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(code)
        Path(name).replace(path)
    except OSError:
        return
    with suppress(OSError):  # a few files of other environments are kept
        files = sorted(path.parent.glob("graphviz-*.cwasm"), key=lambda file: file.stat().st_mtime)
        for old in files[:-_MOST_KEPT]:
            old.unlink()


# PNG


def _png(svg: str, width: int, fonts: list[str]) -> bytes:
    import resvg_py

    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=svg,
            width=width,
            dpi=96,
            font_files=fonts,
            skip_system_fonts=True,
            background="white",  # so that a partly covered last column is not dark
        )
    )


# The process


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        if "dot" in request:
            with closing(_Graphviz()) as graphviz:
                return {"svg": graphviz.svg(request["dot"])}
        return {"png": b64encode(_png(**request)).decode()}
    except ImportError as error:
        return {"missing": error.name or "", "error": str(error)}
    except MemoryError:
        return {"error": "out of memory"}
    except Exception as error:
        return {"error": str(error) or type(error).__name__}


def _lift_own_limits() -> None:
    """Raise soft memory limits, which are meant for pipelines, to the hard limits."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (hard, hard))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path[:] = json.loads(sys.argv[1])
    _lift_own_limits()
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # keep the output of libraries out of the answers
    for line in sys.stdin.buffer:
        print(json.dumps(_answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
