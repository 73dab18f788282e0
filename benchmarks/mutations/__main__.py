"""Do the tests notice when a safeguard is taken out? One after the other, each in a copy.

    make mutations
    python benchmarks/mutations [refcount salt …]

For each of `safeguards.py` the tree is copied, one line of the copy is broken, and the tests that
should notice run there. Red is what is wanted. The same tests must be green on an unbroken copy
first: a test that always fails notices nothing.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from safeguards import SAFEGUARDS, Safeguard

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = (".*", "__pycache__", "benchmarks", "build", "out", "*.egg-info")
LIMIT_S = 300  # a mutation may make a test hang, which is noticed too


class Copy:
    """A copy of the tree in which one file at a time is broken, and its tests are run."""

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


def main() -> None:
    """Try every safeguard and exit with 1 unless each was noticed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("safeguards", nargs="*", help="words of the names of those to try")
    wanted: list[str] = parser.parse_args().safeguards
    chosen = [s for s in SAFEGUARDS if not wanted or any(word in s.name for word in wanted)]
    console = Console()
    table = Table("safeguard", "file", "without it", "seconds", title="safeguards taken out")
    num_missed = 0
    with tempfile.TemporaryDirectory() as scratch:
        copy = Copy(Path(scratch))
        green: dict[tuple[str, ...], bool] = {}
        for safeguard in chosen:
            begin_s = time.monotonic()
            verdict = "tests are red anyway"
            try:
                if safeguard.tests not in green:
                    green[safeguard.tests] = copy.is_green(safeguard.tests)
                if green[safeguard.tests]:
                    verdict = "noticed" if copy.notices(safeguard) else "NOT NOTICED"
            except (ValueError, RuntimeError) as error:
                verdict = str(error)
            took_s = time.monotonic() - begin_s
            num_missed += verdict != "noticed"
            table.add_row(safeguard.name, safeguard.file, verdict, f"{took_s:.0f}")
            console.print(f"{safeguard.name}: {verdict}", highlight=False, markup=False)
    console.print(table)
    console.print(f"{len(chosen) - num_missed} of {len(chosen)} noticed", highlight=False)
    raise SystemExit(int(num_missed > 0))


if __name__ == "__main__":
    main()
