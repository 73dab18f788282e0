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
from .conftest import IDLE_MODEL, MODEL, Stack

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


def test_a_device_which_might_never_end_is_refused(penstock: Penstock) -> None:
    run = penstock("validate", "/dev/null", *WHAT, "--here")
    assert run.code == 2
    assert "cannot read /dev/null: it is a device" in run.err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PAR1\x15\x04", "cannot read the pipe as jsonl: say --format parquet"),
        (b"", "cannot read the pipe: it is empty"),
    ],
)
def test_what_a_pipe_cannot_bring_is_told_of_the_pipe(content: bytes, says: str) -> None:
    verb = [sys.executable, "-m", "penstock.api.cli", "submit", "-", *WHAT]
    verb += ["--url", "http://127.0.0.1:9"]  # which nobody is asked
    done = subprocess.run(verb, input=content, capture_output=True, check=False, timeout=120)
    assert done.returncode == 2
    assert says in done.stderr.decode()


@pytest.mark.parametrize("verb", [("validate", "--here"), ("validate",), ("submit",), ("run",)])
def test_a_home_that_is_nobodys_is_told(
    penstock: Penstock, stack: Stack, verb: tuple[str, ...]
) -> None:
    """A shell leaves such a path as it is."""
    name, *here = verb
    where = here or ("--url", stack.url)
    run = penstock(name, "~nobody-of-that-name/rows.jsonl", *WHAT, *where)
    assert run.code == 2
    assert "no home directory is known of ~nobody-of-that-name" in run.err


def test_rows_of_a_pipe_are_run(
    penstock: Penstock, stack: Stack, fifo: Path, tmp_path: Path
) -> None:
    run = penstock("run", fifo, *WHAT, "--url", stack.url, "--out", tmp_path / "out", "-o", "json")
    assert run.code == 0, run.err
    assert run.lines[0]["counts"]["succeeded"] == 5


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.tsv", "id\ttext\na\tx, y\nb\tz\n"),
        ("rows.json", '[\n  {"id": "a", "text": "x, y"},\n  {"id": "b", "text": "z"}\n]\n'),
    ],
)
def test_other_tables_are_inputs_as_they_are(
    penstock: Penstock, stack: Stack, tmp_path: Path, name: str, text: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    what = ("--prompt", "{{ row.text }}", "--id", "id", "-m", MODEL, "--url", stack.url)
    [job] = penstock("submit", path, *what, "--watch").lines
    found = penstock("results", job["id"], "--url", stack.url).lines
    assert [(row["row_index"], row["custom_id"], row["text"]) for row in found] == [
        (0, "a", "x, y"),
        (1, "b", "z"),
    ]


def test_what_is_no_csv_is_told_with_what_to_say(
    penstock: Penstock, stack: Stack, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    what = ("--prompt", "{{ row.text }}", "-m", IDLE_MODEL, "--url", stack.url)
    run = penstock("submit", path, "--format", "csv", *what)
    assert run.code == 2
    assert "its first line is JSON: leave the format out, or say jsonl" in run.err
