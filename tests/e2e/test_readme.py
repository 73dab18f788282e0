"""Every command of the README runs as it stands there, in order, in one directory."""

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from .stack import PENSTOCK, running_stack

README = Path(__file__).resolve().parents[2] / "README.md"
URL = "http://127.0.0.1:8100"  # what the README says; the test's stack has a port of its own


def blocks() -> list[tuple[str, str]]:
    """The fenced blocks that are meant to be run: their language and their text."""
    return re.findall(r"^```(bash|python)\n(.*?)^```", README.read_text(), re.M | re.S)


def test_every_block_of_the_readme_runs(tmp_path: Path) -> None:
    languages = [language for language, _ in blocks()]
    assert languages.count("bash") >= 4
    assert languages.count("python") >= 3
    path = f"{PENSTOCK.parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "COLUMNS": "120"}
    url = None
    with ExitStack() as running:
        for language, text in blocks():
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
                command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=180
            )
            assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"
            assert result.stdout.strip(), f"this printed nothing:\n{text}"
    assert url is not None
    [rows] = (tmp_path / "out").glob("job_*/rows/part-000000.parquet")
    assert rows.stat().st_size > 0


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (README.parent / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", README.read_text(), re.M)
    assert len(targets) >= 2
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), f"the Makefile has no target {target!r}"
