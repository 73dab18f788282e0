"""A job table on the real server, and small jobs to put into it."""

import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from penstock.jobs.engine_process import EngineProcess
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import Commit, JobTable
from penstock.jobs.keys import Keys
from penstock.jobs.landing import LandedRow, land
from penstock.jobs.model import (
    ColumnType,
    JobSpec,
    RequestError,
    RowStatus,
    ShardRef,
    TaskSpec,
    new_job_id,
)
from penstock.jobs.sealed_input import SealedRow
from penstock.jobs.settings import Settings
from penstock.jobs.submission import RowsSource, SubmitRequest, submit

from .engines import Heard, engine_processes

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
def make_job(settings: Settings, table: JobTable) -> JobMaker:
    """Submits jobs of `num_rows` rows for real."""

    def make(num_rows: int = 10, shard_rows: int = 4, **fields: object) -> JobSpec:
        rows = [{"id": f"r{i}", "text": f"text {i}"} for i in range(num_rows)]
        request = SubmitRequest(
            TaskSpec(model="fake", prompt="{{ row.text }}"),
            id_column="id",
            shard_rows=shard_rows,
            **fields,  # pyright: ignore[reportArgumentType]
        )
        return submit(settings, table, RowsSource(rows), request).spec

    return make


@pytest.fixture
def run_shards(settings: Settings, table: JobTable) -> ShardRunner:
    """Does a worker's work on the shards of a job, all that can be issued if none are named."""

    def run(
        spec: JobSpec, shards: Iterable[int] | None = None, failing: Sequence[int] = ()
    ) -> list[Commit]:
        commits: list[Commit] = []
        with JobDir(settings.jobs_dir, spec.job_id).open_input() as sealed:
            for index in table.issue(spec.job_id, 1_000) if shards is None else shards:
                ref = ShardRef(spec.job_id, index)
                claim = table.claim(ref, "w1", 60_000)
                assert claim.status == "granted"
                rows = [answered(row, row.row_index in failing) for row in sealed.shard(index)]
                counts = land(spec, index, claim.attempt, rows)
                commits.append(table.commit(ref, claim.attempt, counts))
        return commits

    return run


def flipped(data: bytes, place: int, bits: int = 0x01) -> bytes:
    """What is left of a file when one of its bytes has rotted."""
    return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]


def answered(row: SealedRow, fails: bool = False) -> LandedRow:
    """What an engine might make of a row."""
    error = RequestError("engine_error", "it broke") if fails else None
    return LandedRow(
        row_index=row.row_index,
        custom_id=row.custom_id,
        status=RowStatus.FAILED if fails else RowStatus.SUCCEEDED,
        output=None if fails else f"answer to {row.row.get('text')}",
        finish_reason="error" if fails else "stop",
        prompt_tokens=5,
        completion_tokens=0 if fails else 3,
        cached_tokens=1,
        error=error,
        worker="w1",
        started_at_ms=1_700_000_001_000 + row.row_index,
        finished_at_ms=1_700_000_002_000,
        columns=row.row,
    )


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[Callable[..., tuple[EngineProcess, Heard]]]:
    """Starts engine processes as a worker does."""
    with engine_processes(tmp_path) as start:
        yield start


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
