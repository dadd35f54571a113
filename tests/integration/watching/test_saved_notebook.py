"""A saved notebook, turned into a page, shows the last picture of the run that it drew live."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

pytestmark = pytest.mark.runs

nbconvert = pytest.importorskip("nbconvert", reason="nbconvert makes pages of notebooks")

LIVE = """
import mmlab
from tests.handlers import Slow, keyed, run_keyed
run_keyed(mmlab.WatchRunner(), keyed([["a"], ["b"]], 1, handler=Slow), ["a", "b"] * 3);
"""
EXPLORED = """
import mmlab
explorer = mmlab.explore(models=2, megabytes=1, elements=4)
explorer.run().problem
"""


class Images(HTMLParser):
    """The attributes of each <img> of a page."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.found.append(dict(attributes))


def test_the_page_of_a_saved_notebook_has_the_last_pictures_as_ordinary_images(tmp_path):
    cells = [nbformat.v4.new_code_cell(source) for source in (LIVE, EXPLORED)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=600, startup_timeout=600, kernel_name="python3").execute()
    nbformat.write(notebook, tmp_path / "saved.ipynb")
    page, _ = nbconvert.HTMLExporter().from_filename(str(tmp_path / "saved.ipynb"))
    images = Images(page).found
    assert len(images) == len(cells)
    for image in images:
        kind, data = image["src"].split(",")
        assert kind == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).width == 1900
        assert image["width"] == "950"
