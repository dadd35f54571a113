"""The lessons' notebooks, which come with the package, copied to where a learner works."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from mmlab._arguments import path_argument
from mmlab._files import write_whole

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Copied:
    """What was done.

    Attributes:
      folder: where the notebooks are.
      new: names of those that were copied.
      kept: names of those that were there already, and stay as they are.
    """

    folder: Path
    new: tuple[str, ...]
    kept: tuple[str, ...]


def _notebooks() -> list[Path]:
    """The notebooks of the package, or of the source tree that it is imported from.

    Raises:
      FileNotFoundError: this install has none.
    """
    for folder in (_HERE / "notebooks", _HERE.parent / "notebooks"):
        if found := sorted(folder.glob("[0-9]*.ipynb")):
            return found
    raise FileNotFoundError("this install of mmlab has no notebooks: install it again")


def copy_notebooks(folder: str | os.PathLike[str]) -> Copied:
    """Copy the lessons into a folder, without their outputs; a file that is there is never changed.

    Raises:
      TypeError, ValueError: `folder` is no path.
      NotADirectoryError: it is a file.
      OSError: it cannot be written.
    """
    where = path_argument("folder", folder, "a folder for the notebooks")
    if where.exists() and not where.is_dir():
        raise NotADirectoryError(f"{where} is a file: give a folder for the notebooks")
    where.mkdir(parents=True, exist_ok=True)
    new: list[str] = []
    kept: list[str] = []
    for source in _notebooks():
        target = where / source.name
        (kept if os.path.lexists(target) else new).append(source.name)
        if source.name in new:
            write_whole(target, _cleared(source.read_text("utf-8")).encode())
    return Copied(where, tuple(new), tuple(kept))


def _cleared(notebook: str) -> str:
    """A notebook without what its cells have shown."""
    content = json.loads(notebook)
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
            cell["metadata"].get("jupyter", {}).pop("outputs_hidden", None)
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
