"""What the keeper waits for: one store that never answers holds up its own jobs and no others."""

import os
import threading
import time
from collections.abc import Iterator

import pytest

from penstock.jobs.events import JobEvents
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobSpec, JobState
from penstock.jobs.settings import Settings
from penstock.jobs.slow_chores import SlowChores
from penstock.jobs.sweep import LEFT_BEHIND_AGE_S

from .conftest import JobMaker, ShardRunner
from .live import PATIENCE_S, wait_for


@pytest.fixture
def slow(settings: Settings, table: JobTable) -> Iterator[SlowChores]:
    slow = SlowChores(settings, table, JobEvents(table.redis, table.keys))
    yield slow
    slow.close()


@pytest.fixture
def silent_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A store that accepts and never answers, until the test is over; set when it is asked."""
    is_asked, is_over = threading.Event(), threading.Event()

    class SilentStore:
        def check(self) -> None:
            is_asked.set()
            is_over.wait()
            raise OSError("nobody answered")

    def store_of(_: Settings, spec: JobSpec) -> SilentStore | None:
        return SilentStore() if spec.out_url is not None else None

    monkeypatch.setattr("penstock.jobs.destination._checked", lambda settings, url: url)
    monkeypatch.setattr("penstock.jobs.manifest.store_of", store_of)
    yield is_asked
    is_over.set()


def state(table: JobTable, spec: JobSpec) -> JobState:
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    return snapshot.state


def test_a_store_that_never_answers_holds_up_no_other_job(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    run_shards: ShardRunner,
    slow: SlowChores,
    silent_store: threading.Event,
) -> None:
    stored, local, blocked = make_job(out="s3://bucket/prefix"), make_job(), make_job()
    run_shards(stored)
    run_shards(local)
    table.block(blocked.job_id, "no room")
    half_made = JobDir(settings.jobs_dir, "job_dead")
    half_made.create()
    long_ago = time.time() - LEFT_BEHIND_AGE_S - 10
    os.utime(half_made.path, (long_ago, long_ago))

    slow.complete([stored.job_id])
    assert silent_store.wait(PATIENCE_S)
    slow.complete([stored.job_id, local.job_id])
    slow.look_for_room([blocked.job_id])
    slow.sweep()
    wait_for(lambda: state(table, local) is JobState.COMPLETED, "the local job to be completed")
    wait_for(lambda: state(table, blocked) is not JobState.PAUSED, "the job with room")
    wait_for(lambda: not half_made.path.exists(), "the sweep")
    assert state(table, stored) is JobState.LANDING
