"""What is told of jobs, by what they hold: the backlog is what workers have or could have."""

from collections import Counter

import pytest

from penstock.api.live_metrics import Queue
from penstock.jobs.model import Counts, JobSnapshot, JobState


def job(state: JobState, pending: int, running: int, *, error: str | None = None) -> JobSnapshot:
    return JobSnapshot(
        job_id="job_1",
        state=state,
        counts=Counts(total=100, pending=pending, running=running),
        num_shards=2,
        shards_landed=0,
        prompt_tokens=0,
        completion_tokens=0,
        cached_tokens=0,
        created_at_ms=0,
        started_at_ms=None,
        finished_at_ms=None,
        model="m",
        name=None,
        priority=0,
        tenant="acme",
        out="",
        error=error,
    )


@pytest.mark.parametrize(
    ("state", "backlog"),
    [
        (JobState.QUEUED, 90),
        (JobState.RUNNING, 90),
        (JobState.PAUSED, 30),  # what is held goes on; the rest waits for somebody
        (JobState.LANDING, 30),
    ],
)
def test_the_backlog_is_what_workers_have_or_could_have(state: JobState, backlog: int) -> None:
    queue = Queue.of([job(state, pending=60, running=30)], {})
    assert queue.backlog == Counter({"m": backlog})
    assert queue.rows == Counter({"acme": 60})
    assert queue.states == Counter({state: 1})


def test_jobs_in_trouble_are_counted() -> None:
    jobs = [job(JobState.RUNNING, 1, 0), job(JobState.PAUSED, 1, 0, error="no room")]
    assert Queue.of(jobs, {}).held_up == 1
