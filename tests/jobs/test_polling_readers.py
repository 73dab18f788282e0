"""Whoever reads a job's rows while they land sees whole parts, never fewer than before."""

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from penstock.jobs.job_table import JobTable
from penstock.jobs.manifest import finalize
from penstock.jobs.model import JobState
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.settings import Settings

from .conftest import JobMaker, ShardRunner

NUM_ROWS = 400


def by_dataset(rows: Path) -> list[int]:
    return ds.dataset(rows).to_table(columns=["row_index"])["row_index"].to_pylist()


def by_pandas(rows: Path) -> list[int]:
    return pd.read_parquet(rows, columns=["row_index"])["row_index"].to_list()


def by_listing(rows: Path) -> list[int]:
    """As a reader does who verifies every page, one file after another."""
    tables = [
        pq.read_table(part, columns=["row_index"], page_checksum_verification=True)
        for part in sorted(rows.glob("*.parquet"))
    ]
    return [row for table in tables for row in table["row_index"].to_pylist()]


@pytest.mark.parametrize("reader", [by_dataset, by_pandas, by_listing])
def test_polling_never_fails_and_never_sees_fewer_rows(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    run_shards: ShardRunner,
    reader: Callable[[Path], list[int]],
) -> None:
    spec = make_job(num_rows=NUM_ROWS, shard_rows=4)
    rows = ResultsDir.of(spec).rows
    run_shards(spec, [0])
    seen: list[list[int]] = []
    failures: list[Exception] = []
    has_polled, has_ended = threading.Event(), threading.Event()

    def poll() -> None:
        while not has_ended.is_set():
            try:
                seen.append(reader(rows))
            except Exception as error:
                failures.append(error)
            has_polled.set()

    poller = threading.Thread(target=poll)
    poller.start()
    for first in range(1, spec.num_shards, 9):
        has_polled.wait()
        has_polled.clear()
        run_shards(spec, range(first, min(first + 9, spec.num_shards)))
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED
    has_ended.set()
    poller.join()
    assert failures == []
    assert len(seen) >= len(range(1, spec.num_shards, 9))
    for earlier, later in pairwise(seen):
        assert len(later) == len(set(later))
        assert set(earlier) <= set(later)
    assert sorted(reader(rows)) == list(range(NUM_ROWS))
