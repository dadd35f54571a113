"""A real browser; where there is none, its tests are skipped and say how to get one."""

from __future__ import annotations

import shutil
from contextlib import ExitStack

import pytest

from tests.e2e.browser.limits import PATIENCE

playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")


_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser():
    with ExitStack() as opened:
        try:
            driver = opened.enter_context(playwright.sync_playwright())
            found = driver.chromium.launch(
                executable_path=shutil.which("chromium"), args=_ARGUMENTS
            )
        except Exception as error:  # of Playwright, or of its driver, which needs libraries too
            why = str(error).partition("\n")[0]
            pytest.skip(f"no Chromium (on Debian: apt-get install chromium): {why}")
        opened.callback(found.close)
        yield found


@pytest.fixture
def page(browser):
    """A page that notes dialogs and errors in `page.problems`."""
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.problems = []
    page.on("dialog", lambda dialog: (page.problems.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    yield page
    page.close()
