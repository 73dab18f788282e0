"""Processes that people's inputs may exhaust do not outlive whoever started them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.jobs import dry_run_child
from penstock.jobs.workflow.workshop import bench


@pytest.mark.parametrize("module", [dry_run_child.__name__, bench.__name__])
def test_who_has_lost_its_parent_ends(tmp_path: Path, module: str) -> None:
    another = str(os.getppid())  # as if that one had started it, and were gone
    arguments = [another, str(1 << 32), *([str(tmp_path)] if module == bench.__name__ else [])]
    command = [sys.executable, "-P", "-m", module, *arguments]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
