"""The cell magic `%%watch`: watch every pipeline of a cell without changing the cell."""

from __future__ import annotations

import keyword
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, magics_class

from mmlab._text import say
from mmlab.watching.programs import watched_cell


def load_ipython_extension(shell: Any) -> None:
    """Register the magic, for `%load_ext mmlab`."""
    shell.register_magics(_Watching)


@magics_class
class _Watching(Magics):  # type: ignore[misc]  # IPython has no types
    @cell_magic  # type: ignore[untyped-decorator]  # likewise
    def watch(self, line: str, cell: str) -> None:
        """Watch every pipeline that the cell makes or runs, and draw it while it runs.

        %%watch [NAME]

        NAME is bound to the trace, or to a list of them where several pipelines were run. A
        pipeline that is run in a later cell is watched there; its trace is that of its result.
        """
        name = line.strip()
        if name and (keyword.iskeyword(name) or not name.isidentifier()):
            raise UsageError(f"%%watch takes one name for the trace, or nothing, got {name!r}")
        if self.shell.should_run_async(cell):  # IPython's event loop is not reentrant
            raise UsageError(
                "%%watch cannot run a cell with await outside a function: remove %%watch and put "
                "the cell's lines under `with mmlab.watched_pipelines() as traces:`"
            )
        with watched_cell() as traces:
            error = _run(self.shell, cell)
        if name:
            self.shell.user_ns[name] = traces[0] if len(traces) == 1 else list(traces)
            if not traces and error is None:
                say(f"No pipeline was run in this cell, so {name} is an empty list.")
        if error is not None:
            raise error


def _run(shell: Any, cell: str) -> BaseException | None:
    """Run a cell as without the magic and return its error, without showing it."""
    shows = {name: getattr(shell, name) for name in ("showtraceback", "showsyntaxerror")}
    for name in shows:
        setattr(shell, name, lambda *_, **__: None)
    try:
        result = shell.run_cell(cell, store_history=False)
    finally:
        for name, show in shows.items():
            setattr(shell, name, show)
    error: BaseException | None = result.error_before_exec or result.error_in_exec
    if error is None:
        return None
    # The outer cell shows the traceback of the inner one, without mmlab's frames.
    frames = shell.InteractiveTB.structured_traceback(
        type(error), error, error.__traceback__, tb_offset=1
    )
    if not isinstance(error, SyntaxError):
        error._render_traceback_ = lambda: frames  # type: ignore[attr-defined]  # IPython asks for it
    return error


def unload_ipython_extension(shell: Any) -> None:
    """Remove the magic, for `%unload_ext mmlab`."""
    shell.magics_manager.magics["cell"].pop("watch", None)
