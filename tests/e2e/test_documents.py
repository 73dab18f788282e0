"""Every command of the README and of `docs/` runs as it stands, in order, in one directory."""

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from penstock.api.app import create_app
from penstock.api.reference_page import reference
from penstock.jobs.settings import Settings

from .stack import PENSTOCK, running_stack

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
URL = "http://127.0.0.1:8100"  # what the pages say; the test's stack has a port of its own
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks that are meant to be run: their language and their text."""
    return re.findall(r"^```(bash|python)\n(.*?)^```", page.read_text(), re.M | re.S)


def prose(page: Path) -> str:
    """A page without its blocks and spans of code."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.M | re.S)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name
)
def test_every_block_runs(page: Path, tmp_path: Path) -> None:
    path = f"{PENSTOCK.parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "COLUMNS": "120"}
    url = None
    with ExitStack() as running:
        for language, text in blocks(page):
            if text.strip() == "penstock up":
                stack = running.enter_context(running_stack(tmp_path / "up"))
                url, environ = stack.url, stack.environ()
                continue
            if URL in text:
                assert url is not None, f"this wants `penstock up` before it:\n{text}"
                text = text.replace(URL, url)
            command = ["bash", "-euo", "pipefail", "-c", text]
            if language == "python":
                command = [sys.executable, "-W", "error", "-c", text]
            result = subprocess.run(
                command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=600
            )
            assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"
            assert result.stdout.strip(), f"this printed nothing:\n{text}"


def test_the_readme_shows_shell_python_and_a_running_server() -> None:
    languages = [language for language, _ in blocks(README)]
    assert languages.count("bash") >= 4
    assert languages.count("python") >= 3
    assert "penstock up" in [text.strip() for _, text in blocks(README)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(prose(page)):
        if "://" in target:
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name} leads to {target}, which is not there"
        if anchor:
            assert anchor in anchors(file), f"{page.name} leads to #{anchor} of {file.name}"


def anchors(page: Path) -> set[str]:
    """What GitHub and its like call the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    kept = ("".join(c for c in text.lower() if c.isalnum() or c in " -_") for text in headings)
    return {text.replace(" ", "-") for text in kept}


def test_the_reference_says_what_the_routes_do(tmp_path: Path) -> None:
    app = create_app(Settings(data=str(tmp_path), redis_url="redis://127.0.0.1:1/0"))
    page = (ROOT / "docs" / "api.md").read_text()
    assert page == reference(app.openapi()), "the API has changed: run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.M):
        assert re.search(rf"^{target}:", makefile, re.M), f"the Makefile has no target {target!r}"
