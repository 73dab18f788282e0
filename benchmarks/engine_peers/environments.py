"""A Python environment for each peer. Knows pip and venv, no engine.

Peers ask for other versions of the same libraries, so none of them is installed beside Penstock.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Environment:
    """What pip is to install, and where it is a peer's own business.

    Attributes:
        name: of its directory.
        requirements: in the order in which they are installed, each with its dependencies.
        unwanted: packages to take out again: torchvision from PyPI is a CUDA build, which breaks
            `import transformers` beside torch's CPU build, and no language model needs it.
        settings: environment variables for a package that is built from its source.
        preloads: patterns of shared libraries in it that the peer's own guide wants loaded first.
    """

    name: str
    requirements: tuple[str, ...]
    unwanted: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    preloads: tuple[str, ...] = ()

    def make(self, root: Path, pip_options: Sequence[str]) -> Path:
        """Return its directory under `root`, made unless it is there already.

        Raises:
            subprocess.CalledProcessError: pip failed; its output is in the error.
        """
        directory = root / self.name
        proof = directory / "installed.txt"
        wanted = "\n".join(self.requirements)
        if proof.is_file() and proof.read_text() == wanted:
            return directory
        pip = [directory / "bin" / "python", "-m", "pip"]
        if not directory.is_dir():
            _run([sys.executable, "-m", "venv", directory], ())
        try:
            _run([*pip, "install", *pip_options, *self.requirements], self.settings)
            if self.unwanted:
                _run([*pip, "uninstall", "--yes", *self.unwanted], ())
        except subprocess.CalledProcessError:
            shutil.rmtree(directory)
            raise
        proof.write_text(wanted)
        return directory

    def command(self, directory: Path) -> list[str | Path]:
        """Return how to call its Python in `directory`."""
        libraries = [str(next(directory.glob(pattern), "")) for pattern in self.preloads]
        preload = ":".join(filter(None, libraries))
        return [
            *(["env", f"LD_PRELOAD={preload}"] if preload else []),
            directory / "bin" / "python",
        ]


def _run(command: Sequence[str | Path], settings: tuple[tuple[str, str], ...]) -> None:
    assignments = [f"{name}={value}" for name, value in settings]
    subprocess.run(["env", *assignments, *command], check=True, capture_output=True, text=True)
