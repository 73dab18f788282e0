"""A job table on the real server, and small jobs to put into it."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from penstock.jobs.engine_process import EngineProcess
from penstock.jobs.job_table import Commit, JobTable
from penstock.jobs.keys import Keys
from penstock.jobs.model import (
    ColumnType,
    JobSpec,
    TaskSpec,
    new_job_id,
)
from penstock.jobs.settings import Settings

from .engines import Heard, engine_processes
from .live import Live, live_queue
from .small_jobs import SmallJobs

SpecMaker = Callable[..., JobSpec]
JobMaker = Callable[..., JobSpec]
ShardRunner = Callable[..., list[Commit]]


def format_of(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the response format that asks for documents of a schema."""
    return {"type": "json_schema", "json_schema": {"name": "document", "schema": schema}}


@pytest.fixture
def table(redis_client: redis.Redis, keys: Keys) -> JobTable:
    return JobTable(redis_client, keys)


@pytest.fixture
def make_spec(tmp_path: Path) -> SpecMaker:
    """Makes specs of jobs of `num_rows` rows in shards of `shard_rows`, without their files."""

    def make(num_rows: int = 10, shard_rows: int = 4, **fields: object) -> JobSpec:
        values: dict[str, object] = {
            "job_id": new_job_id(),
            "task": TaskSpec(model="fake", prompt="{{ row.text }}"),
            "num_rows": num_rows,
            "num_shards": -(-num_rows // shard_rows),
            "shard_rows": shard_rows,
            "columns": {"text": ColumnType.STRING},
            "out": str(tmp_path / "out"),
            "created_at_ms": 1_700_000_000_000,
            **fields,
        }
        return JobSpec(**values)  # pyright: ignore[reportArgumentType]

    return make


@pytest.fixture
def jobs(settings: Settings, table: JobTable) -> SmallJobs:
    return SmallJobs(settings, table)


@pytest.fixture
def make_job(jobs: SmallJobs) -> JobMaker:
    """Submits jobs of `num_rows` rows for real."""
    return jobs.make


@pytest.fixture
def run_shards(jobs: SmallJobs) -> ShardRunner:
    """Does a worker's work on the shards of a job, all that can be issued if none are named."""
    return jobs.run


def flipped(data: bytes, place: int, bits: int = 0x01) -> bytes:
    """What is left of a file when one of its bytes has rotted."""
    return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[Callable[..., tuple[EngineProcess, Heard]]]:
    """Starts engine processes as a worker does."""
    with engine_processes(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A queue with one worker that the tests of a file share, and that keeps what it has."""
    with live_queue(tmp_path_factory.mktemp("served"), lease_s=30.0) as live:
        live.start_worker()
        yield live


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte, where the tests may mount one."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("may not mount a small file system")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=True)
