"""Real parts for tests: a Redis of one's own, workers on it, and jobs whose rows are known."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from penstock.jobs.fake_engine import FakeModel, expected_text
from penstock.jobs.job_table import JobTable
from penstock.jobs.keys import Keys
from penstock.jobs.model import JobSnapshot, JobSpec, TaskSpec
from penstock.jobs.redis_client import connect
from penstock.jobs.redis_server import RedisServer
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.settings import Settings
from penstock.jobs.submission import RowsSource, SubmitRequest, submit
from penstock.jobs.workers import WorkerInfo, WorkerRegister
from tests.waiting import PATIENCE_S, wait_for

MODEL = "fake:step_ms=2,tokens=8"
SLOW = "fake:step_ms=20,tokens=20"  # a shard of 16 rows takes about half a second

_RUN = """
import sys
from penstock.jobs.settings import Settings
from penstock.jobs.worker import run_worker
sys.exit(run_worker(Settings.load(), sys.argv[1]))
"""


class Live:
    """A queue with its own Redis and data directory, and the workers started on it."""

    def __init__(self, directory: Path, server: RedisServer, **settings: Any) -> None:
        self.server = server
        defaults: dict[str, Any] = {
            "redis_url": server.url,
            "data": str(directory / "data"),
            "namespace": "live",
            "max_num_seqs": 16,
        }
        self.settings = Settings(**{**defaults, **settings})
        self.keys = Keys(self.settings.namespace)
        self.redis: Any = connect(self.settings)
        self.table = JobTable(self.redis, self.keys)
        self.register = WorkerRegister(self.redis, self.keys)
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_worker(
        self, model: str = MODEL, *, wait: bool = True, log: Any = None, **settings: Any
    ) -> Any:
        environ = {**os.environ, **replace(self.settings, **settings).to_environ()}
        environ["OMP_NUM_THREADS"] = "1"
        process = subprocess.Popen([sys.executable, "-c", _RUN, model], env=environ, stderr=log)
        self.workers.append(process)
        if wait:
            self.wait_until_serving(process)
        return process

    def wait_until_serving(self, process: subprocess.Popen[bytes]) -> WorkerInfo:
        return wait_for(lambda: self.info(process), f"worker {process.pid} to serve")

    def info(self, process: subprocess.Popen[bytes]) -> WorkerInfo | None:
        assert process.poll() is None, f"worker {process.pid} ended with {process.returncode}"
        return next((info for info in self.register.list() if info.pid == process.pid), None)

    def submit(self, prompts: list[str], *, model: str = MODEL, **request: Any) -> JobSpec:
        sampling = request.pop("sampling", {"max_tokens": 1000, "temperature": 0.0})
        task = TaskSpec(model=model, prompt="{{ row.text }}", sampling=sampling)
        source = RowsSource([{"text": prompt} for prompt in prompts])
        return submit(self.settings, self.table, source, SubmitRequest(task, **request)).spec

    def snapshot(self, spec: JobSpec) -> JobSnapshot:
        snapshot = self.table.snapshot(spec.job_id)
        assert snapshot is not None
        return snapshot

    def wait_until_done(self, spec: JobSpec, patience_s: float = PATIENCE_S) -> JobSnapshot:
        def probe() -> JobSnapshot | None:
            snapshot = self.table.snapshot(spec.job_id)
            return snapshot if snapshot is not None and snapshot.state.is_final else None

        return wait_for(probe, f"{spec.job_id} to end", patience_s)

    def events(self, spec: JobSpec, kind: str) -> list[dict[str, Any]]:
        """Read what was told of a job, oldest first."""
        entries: Any = self.redis.xrange(self.keys.events(spec.job_id))
        return [json.loads(fields["data"]) for _, fields in entries if fields["kind"] == kind]

    def rows(self, spec: JobSpec) -> list[dict[str, Any]]:
        parts = ResultsDir.of(spec).parts().values()
        return [row for part in parts for row in pq.read_table(part).to_pylist()]

    def check_rows(self, spec: JobSpec, prompts: list[str]) -> None:
        """Every prompt has landed exactly once, with the answer that belongs to it."""
        rows = self.rows(spec)
        times = Counter(row["row_index"] for row in rows)
        assert times == Counter(range(len(prompts))), "rows are missing or doubled"
        num_tokens = FakeModel.from_name(spec.task.model).tokens
        for row in rows:
            prompt = prompts[row["row_index"]]
            assert row["text"] == prompt
            assert row["output"] == expected_text(prompt, num_tokens=num_tokens)

    def engine_pid(self, worker: subprocess.Popen[bytes]) -> int:
        threads = Path(f"/proc/{worker.pid}/task").iterdir()
        pids = [int(pid) for thread in threads for pid in _read(thread / "children").split()]
        (pid,) = [pid for pid in pids if b"engine_child" in _read(Path(f"/proc/{pid}/cmdline"))]
        return pid

    def close(self) -> None:
        for process in self.workers:
            process.kill()
        for process in self.workers:
            process.wait()
        self.redis.close()


@contextmanager
def live_queue(directory: Path, **settings: Any) -> Iterator[Live]:
    directory.mkdir(parents=True, exist_ok=True)
    with RedisServer(directory / "redis") as server:
        live = Live(directory, server, **settings)
        try:
            yield live
        finally:
            live.close()


def stop(process: subprocess.Popen[bytes], signum: int = signal.SIGTERM) -> int:
    process.send_signal(signum)
    return process.wait(PATIENCE_S)


def _read(path: Path) -> bytes:
    """Read what is told of a process or a thread; nothing is told of one that has ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
