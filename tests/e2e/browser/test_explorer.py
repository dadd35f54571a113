"""The explorer in JupyterLab, as a person uses it: move a slider, press Run, look."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest

from tests.e2e.browser.limits import BUILD, PATIENCE
from tests.waiting import HUNG_SECONDS, wait_for

pytestmark = pytest.mark.runs

pytest.importorskip("jupyterlab", reason="the explorer is tried in JupyterLab")

ROOT = Path(__file__).parents[3]
NO_NEWS = '{"fetchNews": "false", "checkForUpdates": false}'
IDLE = (
    "window.jupyterapp?.shell?.currentWidget?.context?.sessionContext?.session?.kernel"
    "?.status === 'idle'"
)
IMAGES = ".jp-OutputArea-output img"
CELLS = {
    "projector": "mmlab.explore(projector=True, models=2, megabytes=1, elements=4)",
    "race": "mmlab.explore()",
}
"""Notebooks of one cell, by name."""


def first_cells(path):
    """The notebook up to the explorer, without what was stored."""
    notebook = nbformat.read(path, as_version=4)
    last = next(i for i, cell in enumerate(notebook.cells) if "mmlab.explore(" in cell.source)
    notebook.cells = notebook.cells[: last + 1]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab that holds the explorer's notebook."""
    home = tmp_path_factory.mktemp("lab")
    (home / "notebooks").mkdir()
    nbformat.write(
        first_cells(ROOT / "notebooks" / "05_explorer.ipynb"), home / "notebooks" / "explorer.ipynb"
    )
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for name, code in CELLS.items():
        cell = nbformat.v4.new_code_cell(f"import mmlab\n{code}")
        notebook = nbformat.v4.new_notebook(cells=[cell], metadata=kernel)
        nbformat.write(notebook, home / "notebooks" / f"{name}.ipynb")
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(NO_NEWS)
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--port={port}", "--port-retries=0", "--IdentityProvider.token=secret"]
    command += [f"--ServerApp.root_dir={home / 'notebooks'}", "--expose-app-in-browser"]
    environ = {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    with (home / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=home)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api?token=secret", server, home / "lab.log")
        yield f"http://127.0.0.1:{port}/doc/tree/explorer.ipynb?token=secret"
    finally:
        server.terminate()
        server.wait(HUNG_SECONDS)


def _wait_for(address, server, log):
    def answers():
        assert server.poll() is None, f"JupyterLab did not start: {log.read_text()[-2000:]}"
        try:
            urllib.request.urlopen(address, timeout=60).close()
        except (urllib.error.URLError, OSError):
            return False
        return True

    wait_for(answers)


@pytest.fixture(scope="module")
def context(browser):
    """One cache for all pages: JupyterLab's script takes seconds to compile."""
    context = browser.new_context()
    yield context
    context.close()


@pytest.fixture
def page(context):
    """A page that notes errors in `page.problems`."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on(
        "console",
        lambda message: page.problems.append(message.text) if message.type == "error" else None,
    )
    yield page
    page.close()


def shown(page, address):
    """The page with a notebook, whose cells have run as far as the explorer."""
    page.set_viewport_size({"width": 1150, "height": 2150})
    page.goto(address)
    page.wait_for_function(IDLE)
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    try:
        error = ".jp-RenderedText .ansi-red-fg"
        page.locator(f".jp-OutputArea button:has-text('Run'), {error}").first.wait_for()
        assert button(page, "Run").is_visible()
    finally:
        keep_screenshot(page, "explorer-shown.png")
    page.locator(IMAGES).first.wait_for()
    return page


def button(page, name):
    return page.locator(f".jp-OutputArea button:has-text('{name}')")


WORDS = "[...document.querySelectorAll('.jp-OutputArea')].map((e) => e.innerText).join(' ')"
COUNT_FRAMES = """
(images) => {
  window.frames_seen = new Set();
  const note = () => {
    const image = document.querySelector(images);
    if (image) window.frames_seen.add(image.src);
  };
  new MutationObserver(note).observe(
    document.body, {subtree: true, childList: true, attributes: true, attributeFilter: ["src"]});
}
"""
"""Keeps every picture that is shown from now on, once."""


def keep_screenshot(page, name):
    BUILD.mkdir(exist_ok=True)
    page.screenshot(path=BUILD / name)


def test_a_slider_is_moved_and_run_draws_while_it_runs(page, lab):
    explorer = shown(page, lab)
    handle = explorer.locator(".jp-OutputArea .noUi-handle").first
    hint = explorer.locator(".jp-OutputArea .widget-readout").first
    assert hint.inner_text() == "2"
    handle.press("ArrowLeft")
    explorer.wait_for_function("document.querySelector('.widget-readout').innerText === '1'")

    assert button(explorer, "Stop").is_disabled()
    explorer.evaluate(COUNT_FRAMES, IMAGES)
    button(explorer, "Run").click()
    explorer.wait_for_function("window.frames_seen.size >= 3")
    keep_screenshot(explorer, "explorer-running.png")
    assert button(explorer, "Stop").is_enabled()

    explorer.wait_for_function(f"document.querySelector('{IMAGES}').naturalWidth === 1900")
    rows = explorer.locator(".jp-OutputArea table.dataframe tbody tr").all_inner_texts()
    assert [row.split("\t")[1] for row in rows] == ["2", "1"]
    assert rows[1].split("\t")[7:9] == ["done", "32"]
    explorer.wait_for_function(f"!({WORDS}).includes('of 48 elements')")  # after the picture
    assert "done" in explorer.evaluate(WORDS)
    keep_screenshot(explorer, "explorer-done.png")
    assert explorer.problems == []


FONT_PIXELS = """
() => [...document.querySelectorAll('.jp-OutputArea *')]
  .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()))
  .filter((e) => e.tagName !== 'STYLE' && e.checkVisibility())
  .map((e) => parseFloat(getComputedStyle(e).fontSize))
"""


@pytest.mark.part("browser")
def test_on_a_projector_two_runs_fit_into_the_full_screen(page, lab):
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto(lab.replace("explorer.ipynb", "projector.ipynb"))
    page.wait_for_function(IDLE)
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.get_by_text("Full screen").click()
    page.wait_for_function("document.fullscreenElement !== null")
    for runs in (1, 2):
        button(page, "Run").click()
        page.locator(f".jp-OutputArea table.dataframe tbody tr >> nth={runs - 1}").wait_for()
        page.wait_for_function("document.body.innerText.includes('done')")
    keep_screenshot(page, "projector.png")
    whole = "[document.fullscreenElement.scrollHeight, document.fullscreenElement.scrollWidth]"
    height, width = page.evaluate(whole)
    assert height <= 720 and width <= 1280
    assert min(page.evaluate(FONT_PIXELS)) >= 20


RESTART = (
    "void window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel.restart()"
)


def test_stop_keeps_what_was_seen_and_after_a_restart_there_is_a_sentence(page, lab):
    explorer = shown(page, lab.replace("explorer.ipynb", "race.ipynb"))
    button(explorer, "Race").click()
    explorer.wait_for_function("/^[1-9]\\d* of 144 elements/m.test(document.body.innerText)")
    keep_screenshot(explorer, "explorer-race.png")
    button(explorer, "Stop").click()
    explorer.get_by_text("Stopped after").wait_for()
    assert "of 144 elements." in explorer.get_by_text("Stopped after").inner_text()
    assert "interrupted" in explorer.locator(".jp-OutputArea table.dataframe").last.inner_text()
    assert not button(explorer, "Run").is_disabled()
    note = explorer.get_by_text("The controls need a running kernel: run this cell again.")
    assert not note.is_visible()
    assert explorer.problems == []

    explorer.evaluate(RESTART)
    note.wait_for()
    assert not button(explorer, "Run").is_visible()
    assert not button(explorer, "Picture").is_visible()
    keep_screenshot(explorer, "explorer-restarted.png")
    explorer.wait_for_function(IDLE)
