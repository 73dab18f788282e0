"""Every command of the README runs as it stands there, in order, in one directory."""

import re
import subprocess
import sys
from pathlib import Path

from .stack import running_stack

README = Path(__file__).resolve().parents[2] / "README.md"
DEFAULT_PORT = 8100


def blocks() -> list[tuple[str, str]]:
    """The fenced blocks that are meant to be run: their language and their text."""
    return re.findall(r"^```(bash|python)\n(.*?)^```", README.read_text(), re.M | re.S)


def test_every_block_of_the_readme_runs(tmp_path: Path) -> None:
    languages = [language for language, _ in blocks()]
    assert languages.count("bash") >= 4
    assert languages.count("python") >= 3
    with running_stack(tmp_path / "data", port=DEFAULT_PORT) as stack:
        for language, text in blocks():
            if text.strip() == "penstock up":  # it is running already
                continue
            command = ["bash", "-euo", "pipefail", "-c", text]
            if language == "python":
                command = [sys.executable, "-c", text]
            result = subprocess.run(
                command,
                cwd=tmp_path,
                env=stack.environ(),
                capture_output=True,
                text=True,
                timeout=180,
            )
            assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"
            assert result.stdout.strip(), f"this printed nothing:\n{text}"


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (README.parent / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README.read_text(), re.M):
        assert re.search(rf"^{target}:", makefile, re.M), f"the Makefile has no target {target!r}"
