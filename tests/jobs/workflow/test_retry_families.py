"""Retries of one failure: one is open at a time, and a key finds the one that it has made."""

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from penstock.jobs.errors import InvalidJob, JobBusy
from penstock.jobs.job_table import JobTable
from penstock.jobs.settings import Settings
from penstock.jobs.workflow.runs import run_lock
from penstock.jobs.workflow.runs.retrying import retry_run
from penstock.jobs.workflow.runs.run_dir import RunDir

from .small_runs import SmallRuns, in_small_shards
from .test_retrying import Model, begun


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> Iterator[SmallRuns]:
    with in_small_shards(run_rows=3, order_rows=6):
        yield SmallRuns(settings, table, Model("draft 3"))


def retry(runs: SmallRuns, run_id: str, **options: Any) -> str:
    return retry_run(runs.settings, runs.table, run_id, **options).run_id


def test_a_key_finds_its_retry_when_that_has_ended(runs: SmallRuns) -> None:
    first = runs.finish(begun(runs)).run_id
    made = retry(runs, first, idempotency_key="again")
    runs.finish(made)
    assert retry(runs, first, idempotency_key="again") == made
    late = retry(runs, first)
    assert late != made
    assert retry(runs, first, idempotency_key="late") == late
    runs.finish(late)
    assert retry(runs, first, idempotency_key="late") == late, "it keeps to the one that it found"


def test_a_key_of_another_run_is_refused(runs: SmallRuns) -> None:
    first, other = (runs.finish(begun(runs)).run_id for _ in range(2))
    made = retry(runs, first, idempotency_key="mine")
    for run_id in (other, runs.finish(made).run_id):
        with pytest.raises(InvalidJob, match=f"no retry of {run_id}; take a new key"):
            retry(runs, run_id, idempotency_key="mine")


def test_a_failure_has_one_open_retry_wherever_it_is_asked_for(runs: SmallRuns) -> None:
    first = runs.finish(begun(runs)).run_id
    second = runs.finish(retry(runs, first)).run_id
    third = retry(runs, first)
    assert retry(runs, second) == third
    runs.finish(third)
    fourth = retry(runs, second)
    assert retry(runs, first) == retry(runs, third) == fourth


def test_whoever_retries_a_retry_waits_for_who_retries_the_first(runs: SmallRuns) -> None:
    first = runs.finish(begun(runs)).run_id
    second = runs.finish(retry(runs, first)).run_id
    directory = RunDir(runs.settings.runs_dir, first)
    with (
        run_lock.run_lock(directory),
        mock.patch.object(run_lock, "LOCK_WAIT_S", 0.0),
        pytest.raises(JobBusy),
    ):
        retry(runs, second)
    assert runs.read(retry(runs, second)).retry_of == second
