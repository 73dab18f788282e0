"""A stack as the API knows it: a real Redis of its own, one real worker with the made-up engine,
and the application behind a real uvicorn.

It is shared by all tests of this folder, so a test leaves nothing running behind.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import openai
import pytest

from penstock.api import cli
from penstock.api.app import create_app
from penstock.jobs.redis_server import RedisServer
from penstock.jobs.settings import Settings
from penstock.jobs.sole_worker import SoleWorker

from .command import Penstock, Run
from .serving import serving

MODEL = "fake:tokens=8"
IDLE_MODEL = "fake:nobody-serves-this"
_RUN_WORKER = """
import sys
from penstock.jobs.settings import Settings
from penstock.jobs.worker import run_worker
run_worker(Settings.load(), sys.argv[1], "api-tests")
"""


@dataclass(frozen=True, slots=True)
class Stack:
    url: str
    settings: Settings

    def http(self, timeout_s: float = 60.0) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=timeout_s)

    def sync_openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def async_openai(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="session")
def stack(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    data: Path = tmp_path_factory.mktemp("api")
    with RedisServer(data / "redis", program=redis_server.program) as own_server:
        settings = Settings(
            data=str(data),
            redis_url=own_server.url,
            models=(MODEL, IDLE_MODEL),
            lease_s=10.0,
            webhook_hosts=("127.0.0.1",),
        )
        with worker_process(settings, MODEL, data / "worker.log"), ExitStack() as opened:
            with quick_ticks():
                url = opened.enter_context(serving(create_app(settings)))
            _wait_until_ready(url, data / "worker.log")
            yield Stack(url, settings)


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx2.Client]:
    with stack.http() as client:
        yield client


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with stack.sync_openai() as client:
        yield client


@pytest.fixture
def penstock(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Penstock:
    """Run the command in this process."""
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)

    def run(*arguments: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["penstock", *map(str, arguments)])
        code: object = 0
        try:
            cli.main()
        except SystemExit as exit:
            code = exit.code
        printed = capsys.readouterr()
        return Run(int(str(code or 0)), printed.out, printed.err)

    return run


@contextmanager
def quick_ticks() -> Iterator[None]:
    """What is started meanwhile looks for work more often than people would notice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SoleWorker.__init__.__kwdefaults__ or {}, "tick_s", 0.02)
        yield


@contextmanager
def worker_process(
    settings: Settings, model: str, log_path: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker in a process of its own, told to stop at the end."""
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN_WORKER, model],
            env={**os.environ, **settings.to_environ()},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(url: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        answer = httpx2.get(url + "/readyz", timeout=120)
        if answer.status_code == 200:
            return
        assert time.monotonic() < deadline, f"{answer.text}\n{log.read_text()[-4000:]}"
        time.sleep(0.1)
