"""A whole Penstock, started the way a person starts it: `penstock up` in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.ports import reserved_port

PENSTOCK = Path(sys.executable).with_name("penstock")


@dataclass(frozen=True, slots=True)
class Stack:
    url: str
    data: Path
    log: Path

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.url + path, timeout=60)

    def workers(self) -> list[dict]:
        return self.get("/v1/workers").json()["data"]

    def environ(self) -> dict[str, str]:
        """An environment in which `penstock` and Python find this stack."""
        path = f"{PENSTOCK.parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PENSTOCK_URL": self.url, "COLUMNS": "120"}

    def wait_until_ready(self, timeout_s: float = 240) -> None:
        deadline = time.monotonic() + timeout_s
        said = "nothing"
        while time.monotonic() < deadline:
            try:
                response = self.get("/readyz")
                if response.status_code == 200:
                    return
                said = response.text
            except httpx2.HTTPError as error:
                said = repr(error)
            time.sleep(0.1)
        raise TimeoutError(
            f"not ready after {timeout_s:g} s; last: {said}\n{self.log.read_text()[-4000:]}"
        )


@contextmanager
def running_stack(data: Path, *flags: str) -> Iterator[Stack]:
    """Run `penstock up`; at the end ask it to stop, and insist that it does so cleanly."""
    data.mkdir(parents=True, exist_ok=True)
    with reserved_port() as port:
        stack = Stack(url=f"http://127.0.0.1:{port}", data=data, log=data / "up.log")
        command = [str(PENSTOCK), "up", "--port", str(port), "--data", str(data), *flags]
        with stack.log.open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=data)
        try:
            stack.wait_until_ready()
            yield stack
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(timeout=120)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert code == 0, f"`penstock up` ended with {code}:\n{stack.log.read_text()[-4000:]}"
