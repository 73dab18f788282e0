"""A retry that is asked for twice under one idempotency key: one job, also when it has ended."""

from dataclasses import replace

import pytest

from penstock.jobs.errors import InvalidJob
from penstock.jobs.idempotency import IdempotencyKey
from penstock.jobs.job_dir import JobDir
from penstock.jobs.model import JobSpec, JobState

from .small_jobs import SmallJobs


@pytest.fixture
def failed_job(jobs: SmallJobs) -> JobSpec:
    return jobs.complete(failing=[1, 6])


def test_a_key_finds_its_retry_when_that_has_ended(jobs: SmallJobs, failed_job: JobSpec) -> None:
    made = jobs.retry(failed_job, idempotency_key="again")
    jobs.run(made)
    assert jobs.finalize(made) is JobState.COMPLETED
    assert jobs.retry(failed_job, idempotency_key="again") == made
    with pytest.raises(InvalidJob, match="no row to retry"):
        jobs.retry(failed_job, idempotency_key="another")


def test_a_key_keeps_to_the_retry_that_it_found_going_on(
    jobs: SmallJobs, failed_job: JobSpec
) -> None:
    made = jobs.retry(failed_job)
    assert jobs.retry(failed_job, idempotency_key="late") == made
    jobs.cancel(made)
    assert jobs.retry(failed_job, idempotency_key="late") == made
    assert jobs.retry(failed_job).job_id != made.job_id


def test_a_key_of_another_job_is_refused(jobs: SmallJobs, failed_job: JobSpec) -> None:
    jobs.retry(failed_job, idempotency_key="mine")
    other = jobs.complete(failing=[2])
    with pytest.raises(InvalidJob, match=f"which is no retry of {other.job_id}; take a new key"):
        jobs.retry(other, idempotency_key="mine")


def test_a_key_of_a_retry_of_other_codes_is_refused(jobs: SmallJobs, failed_job: JobSpec) -> None:
    codes = frozenset({"engine_error"})
    made = jobs.retry(failed_job, codes=codes, idempotency_key="some")
    assert jobs.retry(failed_job, codes=codes, idempotency_key="some") == made
    jobs.run(made)
    jobs.finalize(made)
    assert jobs.retry(failed_job, codes=codes, idempotency_key="some") == made, "also when it ended"
    for others in (None, frozenset({"engine_error", "timeout"})):
        with pytest.raises(InvalidJob, match=r"with engine_error, not of .*; take a new key"):
            jobs.retry(failed_job, codes=others, idempotency_key="some")


def test_a_key_of_a_retry_of_all_is_refused_with_codes(
    jobs: SmallJobs, failed_job: JobSpec
) -> None:
    made = jobs.retry(failed_job, idempotency_key="all")
    assert jobs.retry(failed_job, idempotency_key="all") == made
    with pytest.raises(InvalidJob, match="a retry of every row, not of every row that failed with"):
        jobs.retry(failed_job, codes=frozenset({"engine_error"}), idempotency_key="all")


def test_a_key_finds_a_retry_that_notes_no_codes(jobs: SmallJobs, failed_job: JobSpec) -> None:
    codes = frozenset({"engine_error"})
    made = jobs.retry(failed_job, codes=codes, idempotency_key="old")
    older = replace(made, retry_codes=None)  # as an older Penstock wrote it
    JobDir(jobs.settings.jobs_dir, made.job_id).seal(older)
    for wish in (codes, None):
        assert jobs.retry(failed_job, codes=wish, idempotency_key="old") == older


def test_a_retry_that_fails_to_be_made_leaves_its_key_free(
    jobs: SmallJobs, failed_job: JobSpec
) -> None:
    with pytest.raises(InvalidJob, match="no row to retry"):
        jobs.retry(failed_job, codes=frozenset({"none"}), idempotency_key="free")
    assert IdempotencyKey.of(jobs.settings, failed_job.tenant, "free").made() is None
    assert jobs.retry(failed_job, idempotency_key="free").num_rows == 2
