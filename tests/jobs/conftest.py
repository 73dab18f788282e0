"""A job table on the real server, and small jobs to put into it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from penstock.jobs.job_table import JobTable
from penstock.jobs.keys import Keys
from penstock.jobs.model import ColumnType, JobSpec, TaskSpec, new_job_id

SpecMaker = Callable[..., JobSpec]


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
