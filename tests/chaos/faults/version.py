"""A worker of another version beside those of this one."""

import os
import shutil
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq

from ..scene import Fault, Scene

OTHER_VERSION = "CHAOS_OTHER_VERSION"  # a revision of this repository
_ROOT = Path(__file__).resolve().parents[3]


def mix_versions(scene: Scene) -> None:
    """F38: one of the workers runs the code of another revision."""
    home = scene.stack.directory / "other-version"
    _unpack(os.environ[OTHER_VERSION], home / "penstock")
    scene.until(0.1)
    worker = scene.stack.workers[0]
    scene.strike()
    worker.kill()
    worker.start(PYTHONPATH=str(home))
    scene.stack.wait_until_serving(worker)
    scene.until(1.0)
    scene.notes["revision"] = os.environ[OTHER_VERSION]
    scene.notes["rows_of_the_other"] = _rows_of(scene, worker.pid)
    worker.kill()  # the next fault is not to meet it


def _rows_of(scene: Scene, pid: int) -> int:
    names = (
        name
        for part in scene.main.parts()
        for name in pq.ParquetFile(part).read(columns=["worker"]).column(0).to_pylist()
    )
    return sum(f"-{pid}@" in name for name in names)


def _unpack(revision: str, target: Path) -> None:
    archive = subprocess.run(
        ["git", "archive", revision], cwd=_ROOT, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as tree:
        tree.extractall(target, filter="data")


def _no_other_version() -> str | None:
    if shutil.which("git") is None or not (_ROOT / ".git").exists():
        return "there is no repository to take another version from"
    if not os.environ.get(OTHER_VERSION):
        return f"{OTHER_VERSION} names no revision to take the other worker from"
    return None


FAULTS = (
    Fault(
        number="F38",
        title="a worker of another version",
        inject=mix_versions,
        why_not=_no_other_version,
    ),
)
