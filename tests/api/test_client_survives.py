"""Rows are read on, each once and in order, whatever becomes of the server in between."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from penstock.api.client import Client
from penstock.jobs.settings import Settings
from tests.ports import reserved_port

from .conftest import MODEL, Stack

_SERVE = """
import sys
import uvicorn
from penstock.api.app import create_app
from penstock.jobs.settings import Settings
uvicorn.run(create_app(Settings.load()), port=int(sys.argv[1]), log_level="warning")
"""


@contextmanager
def api_process(settings: Settings, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """An API of its own over the same queue, killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(port)], env={**os.environ, **settings.to_environ()}
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_server_is_killed_while_its_rows_are_read(stack: Stack) -> None:
    rows = [{"number": number} for number in range(1_000)]
    with reserved_port() as port, Client(f"http://127.0.0.1:{port}") as client:
        client.retry = replace(client.retry, max_retries=500, longest_s=0.5)
        with api_process(stack.settings, port):
            job = client.jobs.submit(rows, model=MODEL, prompt="{{ row.number }}")
            following = job.results(page_rows=100)
            found = [next(following)["number"] for _ in range(150)]
        with api_process(stack.settings, port):
            found += [row["number"] for row in following]
            assert job.to_arrow(columns=["number"]).column("number").to_pylist() == found
    assert found == list(range(1_000))
