"""Where the project has a home, lessons and README say so; where it has none, nothing does."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from notebooks import links

ROOT = Path(__file__).parents[3]
GITHUB = "https://github.com/someone/mmlab"
RAW = "https://github.com/someone/mmlab/raw/main/notebooks/images/race.gif"


@pytest.fixture
def tree(tmp_path):
    """What `links.write` reads and writes, with a home if it is given one."""
    for path in ("README.md", "pyproject.toml", *map(str, lessons_of(ROOT))):
        target = tmp_path / Path(path).relative_to(ROOT) if Path(path).is_absolute() else path
        target = tmp_path / target
        target.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, target)
    return tmp_path


def lessons_of(root):
    return sorted((root / "notebooks").glob("[0-9]*.ipynb"))


def move(tree, url):
    text = (tree / "pyproject.toml").read_text("utf-8")
    text = re.sub(r"\[project\.urls\]\n(Home = .*\n)?", "[project.urls]\n", text)
    if url:
        text = text.replace("[project.urls]\n", f'[project.urls]\nHome = "{url}"\n')
    (tree / "pyproject.toml").write_text(text, "utf-8")
    return links.write(tree)


def texts(tree):
    return {
        path.name: "\n".join(
            "".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]
        )
        for path in lessons_of(tree)
    }


def test_they_are_as_the_setting_says():
    """What is stored needs no `make notebooks`."""
    home = links.home_of((ROOT / "pyproject.toml").read_text("utf-8"))
    for path in lessons_of(ROOT):
        stored = json.loads(path.read_text("utf-8"))
        again = json.loads(path.read_text("utf-8"))
        links.linked(again, path.name, home)
        assert again == stored
    readme = (ROOT / "README.md").read_text("utf-8")
    assert links.linked_readme(readme, home) == readme


def test_a_home_on_github_gives_badges_links_and_the_released_wheel(tree):
    changed = move(tree, GITHUB)
    assert changed == [*(path.name for path in lessons_of(ROOT)), "README.md"]
    for name, text in texts(tree).items():
        colab = f"https://colab.research.google.com/github/someone/mmlab/blob/main/notebooks/{name}"
        assert text.count(f"{links.BADGE}({colab})") == 1
        assert not re.search(r"\]\(\d\d_\w+\.ipynb", text)
        wheel = f"mmlab[lessons] @ {GITHUB}/releases/download/v0.1.0/mmlab-0.1.0-py3-none-any.whl"
        assert wheel in text
    readme = (tree / "README.md").read_text("utf-8")
    assert f"]({RAW})" in readme
    assert f"]({GITHUB}/blob/main/notebooks/00_start_here.ipynb)" in readme
    assert not re.search(r"\]\((notebooks|tests|mmlab)/", readme)
    assert move(tree, GITHUB) == []


def test_a_home_that_goes_leaves_nothing_behind(tree):
    before = texts(tree), (tree / "README.md").read_text("utf-8")
    move(tree, GITHUB)
    move(tree, "http://127.0.0.1:8000/")
    assert "github.com/someone" not in str(texts(tree))
    assert not any(links.BADGE in text for text in texts(tree).values())
    move(tree, "")
    assert (texts(tree), (tree / "README.md").read_text("utf-8")) == before


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:8000"])
def test_the_set_up_cell_never_asks_an_index_for_our_name(tree, url, monkeypatch):
    """What pip is given is a file of this folder or an address."""
    released = "releases/download/v0.1.0/mmlab-0.1.0-py3-none-any.whl"
    source_of = {"": links.MISSING, url or "-": f"mmlab[lessons] @ {url}/{released}"}
    assert links.MISSING.startswith("./")
    move(tree, url)
    for path in lessons_of(tree):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        source = "".join(next(cell for cell in cells if cell["cell_type"] == "code")["source"])
        line = next(line for line in source.splitlines() if line.startswith("import glob"))
        for wheels in ([], ["mmlab-0.1.0-py3-none-any.whl"]):
            monkeypatch.setattr("glob.glob", lambda _, wheels=wheels: wheels)
            names = {}
            exec(line, names)
            assert names["wheel"] == (f"{wheels[0]}[lessons]" if wheels else source_of[url])
