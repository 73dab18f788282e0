"""A stack whose every part can be killed by itself: Redis, the API and workers, real processes.

It supervises nothing: who kills a part starts it again. The engine is the made-up one, whose
answers can be checked row by row and which notes what it computes.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import httpx2

from penstock.jobs.parent_death import launch_command
from penstock.jobs.redis_server import RedisServer
from penstock.jobs.settings import Settings
from tests.ports import reserved_port

from .proxy import FaultProxy

TOKENS = 16  # of every answer
PATIENCE_S = 120.0  # until something counts as never happening


class NeverHappened(AssertionError):
    """Something that must happen has not, for minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """What faults may want of the stack that they hit."""

    num_workers: int = 2
    step_ms: float = 10.0
    slots: int = 64
    lease_s: float = 2.0
    grace_s: float = 10.0
    hang_limit_s: float = 4.0
    is_proxied: bool = False  # workers reach Redis, and clients the API, through fault proxies


class Part:
    """One process of the stack and what it says."""

    def __init__(self, name: str, command: list[str], environ: dict[str, str], log: Path) -> None:
        self.name = name
        self._command = command
        self._environ = environ
        self._log_path = log
        self._log: IO[bytes] | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **environ: str) -> None:
        """Start it, again if it has ended; the variables hold for this time only."""
        self.close()
        self._log = self._log_path.open("ab")
        self.process = subprocess.Popen(
            launch_command(self._command, signal.SIGKILL),
            env={**self._environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def send(self, signum: signal.Signals, *, with_children: bool = False) -> None:
        """Signal the process; with children also those that live in sessions of their own."""
        for pid in [self.pid, *(children_of(self.pid) if with_children else ())]:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        assert self.process is not None
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """Kill it and its children, as an out-of-memory killer or a lost machine does."""
        self.send(signal.SIGKILL, with_children=True)
        self.wait()

    def close(self) -> None:
        """End it, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        if self._log is not None:
            self._log.close()
            self._log = None


class Stack:
    """All parts of one stack, over one directory."""

    def __init__(self, directory: Path, server: RedisServer, options: StackOptions) -> None:
        self.directory = directory
        self.options = options
        self.redis = server
        self.journal = directory / "journal"
        self.model = f"fake:step_ms={options.step_ms};tokens={TOKENS};journal={self.journal}"
        self._ports = ExitStack()
        port, *proxy_ports = [
            self._ports.enter_context(reserved_port()) for _ in range(1 + options.is_proxied)
        ]
        self.url = f"http://127.0.0.1:{port}"
        self.redis_proxies: list[FaultProxy] = []  # one for each worker, the last for the API
        self.api_proxy: FaultProxy | None = None
        if options.is_proxied:
            self.redis_proxies = [
                FaultProxy.before_redis(server.socket_path, directory / f"proxy-{number}.sock")
                for number in range(options.num_workers + 1)
            ]
            self.api_proxy = FaultProxy.before_port(port, *proxy_ports)
        self.settings = Settings(
            url=self.url,
            redis_url=server.url,
            data=str(directory / "data"),
            models=(self.model,),
            namespace="chaos",
            max_num_seqs=options.slots,
            lease_s=options.lease_s,
            grace_s=options.grace_s,
            hang_limit_s=options.hang_limit_s,
        )
        urls = [proxy.address for proxy in self.redis_proxies]
        *worker_urls, api_url = urls or [server.url] * (options.num_workers + 1)
        self.api = self._part("api", api_url, "api", "--port", str(port))
        self.workers = [
            self._part(f"worker-{number}", url, "worker", "--model", self.model)
            for number, url in enumerate(worker_urls)
        ]

    def start(self) -> None:
        """Start all parts and wait until they serve."""
        for part in (self.api, *self.workers):
            part.start()
        for worker in self.workers:
            self.wait_until_serving(worker)

    def stop(self) -> None:
        """End all parts, Redis excepted."""
        for part in (*self.workers, self.api):
            part.close()
        for proxy in self.redis_proxies:
            proxy.close()
        if self.api_proxy is not None:
            self.api_proxy.close()
        self._ports.close()

    def mend(self) -> None:
        """Start again whatever a fault has left dead, and wait until all serve."""
        if not self.redis.is_alive:
            self.redis.start()
        for part in (self.api, *self.workers):
            part.send(signal.SIGCONT, with_children=True)
            if part.process is None or part.process.poll() is not None:
                part.start()
        for worker in self.workers:
            self.wait_until_serving(worker)

    def wait_until_serving(self, worker: Part) -> None:
        """Wait until the API lists this worker, with an engine that runs."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            if engine_of(worker.pid) is not None and worker.pid in self._pids_listed():
                return
            time.sleep(0.1)
        raise NeverHappened(f"{worker.name} does not serve; logs: {self.directory}")

    def engines(self) -> list[int]:
        """Name the engine processes that live now."""
        return [
            pid
            for worker in self.workers
            if worker.process is not None and (pid := engine_of(worker.pid)) is not None
        ]

    def _pids_listed(self) -> list[int]:
        try:
            answer = httpx2.get(f"{self.url}/v1/workers", timeout=5).json()
            return [worker["pid"] for worker in answer.get("data", [])]
        except (httpx2.HTTPError, ValueError):
            return []

    def _part(self, name: str, redis_url: str, *arguments: str) -> Part:
        settings = replace(self.settings, redis_url=redis_url)
        environ = {**os.environ, **settings.to_environ(), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", "-m", "penstock.api.cli", *arguments]
        return Part(name, command, environ, self.directory / f"{name}.log")


@contextmanager
def running_stack(directory: Path, options: StackOptions) -> Iterator[Stack]:
    """Run a stack of one's own. Call it from the main thread: Redis lives and dies with that."""
    directory.mkdir(parents=True, exist_ok=True)
    with RedisServer(directory / "redis") as server:
        stack = Stack(directory, server, options)
        try:
            stack.start()
            yield stack
        finally:
            stack.stop()


def engine_of(worker_pid: int) -> int | None:
    """Find a worker's engine process."""
    for pid in children_of(worker_pid):
        with suppress(OSError):
            if b"engine_child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    return None


def children_of(pid: int) -> list[int]:
    """Find the processes that a process has started and that still live."""
    children: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += [int(child) for child in (thread / "children").read_text().split()]
    return children
