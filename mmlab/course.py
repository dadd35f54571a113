"""Copying the notebooks of the lessons from the package to a learner's folder."""

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
    """The result of copying notebooks.

    Attributes:
      folder: folder of the notebooks.
      new: names of copied notebooks.
      kept: names of notebooks that existed, and were not changed.
    """

    folder: Path
    new: tuple[str, ...]
    kept: tuple[str, ...]


def _notebooks() -> list[Path]:
    """Paths of the notebooks of the package, or of the source tree that it is imported from.

    Raises:
      FileNotFoundError: this installation has no notebooks.
    """
    for folder in (_HERE / "notebooks", _HERE.parent / "notebooks"):
        if found := sorted(folder.glob("[0-9]*.ipynb")):
            return found
    raise FileNotFoundError("this install of mmlab has no notebooks: install it again")


def copy_notebooks(folder: str | os.PathLike[str]) -> Copied:
    """Copy the lessons into a folder, without outputs; existing files are never changed.

    Raises:
      TypeError, ValueError: `folder` is not a path.
      NotADirectoryError: `folder` is a file.
      OSError: `folder` cannot be written.
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
    """Remove the outputs of a notebook."""
    content = json.loads(notebook)
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
            cell["metadata"].get("jupyter", {}).pop("outputs_hidden", None)
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
