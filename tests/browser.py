"""One real Chromium for the tests of pages: the system's own, headless, and without its errands.

Where there is none, tests are skipped at home and fail in CI.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--no-sandbox",  # it is root in most containers, and sees our own pages only
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A headless Chromium that is closed at the end."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        why = f"no browser here: none of {', '.join(_NAMES)} is on PATH"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()
