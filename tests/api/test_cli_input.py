"""Rows through a pipe: `-`, and files that can be read once only."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from penstock.api.client import Client

from .command import Penstock
from .conftest import MODEL, Stack

ROWS = b"".join(json.dumps({"text": f"row {n}"}).encode() + b"\n" for n in range(5))
WHAT = ("--prompt", "{{ row.text }}", "-m", MODEL)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    os.mkfifo(path)
    threading.Thread(target=path.write_bytes, args=(ROWS,), daemon=True).start()
    return path


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_rows_come_through_the_standard_input(stack: Stack, name: str) -> None:
    verb = (sys.executable, "-m", "penstock.api.cli", "submit", name, *WHAT, "--url", stack.url)
    done = subprocess.run(verb, input=ROWS, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    job = json.loads(done.stdout)
    assert job["counts"]["total"] == 5
    with Client(stack.url) as client:
        assert client.jobs.get(job["id"]).wait().counts.succeeded == 5


def test_rows_of_a_pipe_are_looked_at_here_and_there(
    penstock: Penstock, stack: Stack, fifo: Path
) -> None:
    found = penstock("validate", fifo, *WHAT, "--url", stack.url, "-o", "json")
    assert (found.code, found.lines[0]["rows"]) == (0, 5), found.err
    threading.Thread(target=fifo.write_bytes, args=(ROWS,), daemon=True).start()
    found = penstock("validate", fifo, *WHAT, "--here", "-o", "json")
    assert (found.code, found.lines[0]["rows"]) == (0, 5), found.err


def test_a_pipe_that_a_program_names_is_sent_as_it_is_read(stack: Stack, fifo: Path) -> None:
    with Client(stack.url) as client:
        job = client.jobs.submit(fifo, prompt="{{ row.text }}", model=MODEL).wait()
    assert job.counts.succeeded == 5


def test_a_device_which_never_ends_is_refused(penstock: Penstock) -> None:
    run = penstock("validate", "/dev/zero", *WHAT, "--here")
    assert run.code == 2
    assert "cannot read /dev/zero: it is a device" in run.err


def test_rows_of_a_pipe_are_run(
    penstock: Penstock, stack: Stack, fifo: Path, tmp_path: Path
) -> None:
    run = penstock("run", fifo, *WHAT, "--url", stack.url, "--out", tmp_path / "out", "-o", "json")
    assert run.code == 0, run.err
    assert run.lines[0]["counts"]["succeeded"] == 5
