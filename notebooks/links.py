"""Writes the project's home (`[project.urls]` of pyproject.toml) into the lessons and the README.

`make notebooks` runs it. While there is no home, lessons have no badge, links are relative, and the
set-up cell takes the wheel that lies beside the notebook or says what to do.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
COLAB = "https://colab.research.google.com"
BADGE = f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]"
GITHUB = "https://github.com/"
MISSING = "./put-the-wheel-beside-this-notebook.whl"
"""What pip is asked for where there is nothing to install: a file, whose absence it tells. Never a
name, under which an index that is not ours may have something else."""
SET_UP = """\
#@title Set-up: in Colab this installs Beam and mmlab, once; elsewhere it only checks
import glob, sys; wheel = ([f'{{w}}[lessons]' for w in glob.glob('mmlab-*.whl')] or ['{source}'])[0]
if 'google.colab' in sys.modules:
    from PIL import Image, ImageDraw, ImageFont; Image.init()  # all of it: Beam brings a newer one
    !{{sys.executable}} -m pip install --quiet "{{wheel}}"
import mmlab; from mmlab import lessons; from mmlab.lessons.setup import *; lessons.start()"""
_HIDDEN = {"cellView": "form", "jupyter": {"source_hidden": True}}


@dataclass(frozen=True)
class Home:
    """Where the project lives.

    Attributes:
      url: its address without a slash at the end; empty while it has none.
      version: the released one.
    """

    url: str
    version: str

    @property
    def wheel(self) -> str:
        """What pip installs where no wheel lies beside the notebook."""
        if not self.url:
            return MISSING
        name = f"mmlab-{self.version}-py3-none-any.whl"
        return f"mmlab[lessons] @ {self.url}/releases/download/v{self.version}/{name}"

    def page(self, path: str) -> str:
        """The address under which a file of the project is read."""
        return f"{self.url}/blob/main/{path}"

    def in_colab(self, name: str) -> str:
        """The address that opens a lesson in Colab, which knows notebooks on GitHub; else empty."""
        if not self.url.startswith(GITHUB):
            return ""
        return f"{COLAB}/github/{self.url.removeprefix(GITHUB)}/blob/main/notebooks/{name}"


def home_of(pyproject: str) -> Home:
    """The home that the text of a pyproject.toml names, under any of its labels.

    >>> home_of('[project]\\nversion = "1.0"\\n[project.urls]\\nHome = "https://a.b/c/"').url
    'https://a.b/c'
    """
    project = tomllib.loads(pyproject)["project"]
    url = next(iter(project.get("urls", {}).values()), "")
    return Home(url.rstrip("/"), project["version"])


def linked(notebook: dict[str, Any], name: str, home: Home) -> None:
    """Put badge, links and set-up cell of this home into a lesson, in place of any other's."""
    head = notebook["cells"][0]
    text = re.sub(rf"\n*{re.escape(BADGE)}\([^)]*\)", "", "".join(head["source"]))
    if there := home.in_colab(name):
        title, _, rest = text.partition("\n")
        text = f"{title}\n\n{BADGE}({there}){rest and chr(10)}{rest}"
    head["source"] = text.splitlines(keepends=True)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            cell["source"] = _to_lessons(text, home).splitlines(keepends=True)
    setup = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    setup["source"] = SET_UP.format(source=home.wheel).splitlines(keepends=True)
    setup["metadata"] = _HIDDEN


def _to_lessons(text: str, home: Home) -> str:
    """Links from lesson to lesson: relative, or absolute, since Colab knows no other notebook."""

    def link(match: re.Match[str]) -> str:
        name = match["name"]
        return f"]({home.in_colab(name) or (home.page('notebooks/' + name) if home.url else name)}"

    return re.sub(r"\]\((?:https?://[^)\s]*/)?(?P<name>\d\d_\w+\.ipynb)", link, text)


def linked_readme(text: str, home: Home) -> str:
    """The README with absolute links to the project's own files, or relative ones."""
    kinds = r"notebooks/|mmlab/|tests/|docs/|CHANGELOG\.md|LICENSE"
    text = re.sub(rf"\]\(https?://[^)\s]+/(?:blob|raw)/main/((?:{kinds})[^)]*)\)", r"](\1)", text)
    if not home.url:
        return text

    def link(match: re.Match[str]) -> str:
        path = match[1]
        is_image = path.endswith((".png", ".gif", ".svg"))
        return f"]({home.url}/raw/main/{path})" if is_image else f"]({home.page(path)})"

    return re.sub(rf"\]\(((?:{kinds})[^)]*)\)", link, text)


def write(root: Path) -> list[str]:
    """Bring the lessons and the README of a source tree up to date. Returns what was changed."""
    home = home_of((root / "pyproject.toml").read_text("utf-8"))
    changed = []
    for path in sorted((root / "notebooks").glob("[0-9]*.ipynb")):
        before = path.read_text("utf-8")
        notebook = json.loads(before)
        linked(notebook, path.name, home)
        after = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        if json.loads(before) != notebook:
            path.write_text(after, "utf-8")
            changed.append(path.name)
    readme = root / "README.md"
    text = readme.read_text("utf-8")
    if (after := linked_readme(text, home)) != text:
        readme.write_text(after, "utf-8")
        changed.append(readme.name)
    return changed


if __name__ == "__main__":
    for name in write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT):
        print(name, "has other links now")
