"""A copy of the tree in which one line at a time is broken, to see which tests notice."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .safeguard import Safeguard

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = (".*", "__pycache__", "benchmarks", "build", "out", "*.egg-info")
LIMIT_S = 300  # a mutation may make a test hang, which is noticed too


class BrokenCopy:
    """One copy; `parent` is an empty directory of its own."""

    def __init__(self, parent: Path) -> None:
        self._root = parent / "penstock"
        shutil.copytree(ROOT, self._root, ignore=shutil.ignore_patterns(*LEFT_OUT))
        # In front of the installed one; and kernels that were built from broken sources stay here.
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(parent),
            "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_CACHE_HOME": str(parent / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        self._verify()

    def is_green(self, tests: tuple[str, ...]) -> bool:
        """Whether the tests pass on the copy as it is now."""
        command = [sys.executable, "-m", "pytest", "--exitfirst", "--quiet", "--no-header"]
        command += ["-p", "no:cacheprovider", "-m", "not soak", *tests]
        try:
            result = self._run(command)
        except subprocess.TimeoutExpired:
            return False
        if result.returncode not in (0, 1):  # neither green nor red: no such test, a broken import
            raise RuntimeError(f"pytest {' '.join(tests)} did not run:\n{result.stdout[-2000:]}")
        return result.returncode == 0

    def notices(self, safeguard: Safeguard) -> bool:
        """Whether the tests turn red without the safeguard.

        Raises:
            ValueError: the line that holds it is not there, or not once.
        """
        file = self._root / safeguard.file
        whole = file.read_text()
        if whole.count(safeguard.line) != 1:
            raise ValueError(
                f"{safeguard.file} holds {whole.count(safeguard.line)} times: {safeguard.line!r}"
            )
        file.write_text(whole.replace(safeguard.line, safeguard.without))
        try:
            return not self.is_green(safeguard.tests)
        finally:
            file.write_text(whole)

    def _verify(self) -> None:
        result = self._run([sys.executable, "-c", "import penstock; print(penstock.__file__)"])
        if Path(result.stdout.strip()) != self._root / "__init__.py":
            raise RuntimeError(f"not the copy is imported, but {result.stdout}{result.stderr}")

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self._root,
            env=self._environment,
            timeout=LIMIT_S,
            capture_output=True,
            text=True,
            check=False,
        )
