"""How fast a model was: its busy workers say, else the quickest of earlier jobs."""

from dataclasses import replace

import pytest

from penstock.api.measured_speed import MeasuredSpeed, speed_of_jobs, speed_of_workers
from penstock.api.validation_estimate import EarlierJobs, estimate
from penstock.jobs.model import Counts, JobSnapshot, JobState

from .test_validation_estimate import REPORT, worker

JOB = JobSnapshot(
    job_id="job_1", state=JobState.COMPLETED, counts=Counts(total=2_000, succeeded=2_000),
    num_shards=8, shards_landed=8, prompt_tokens=9, completion_tokens=60_000, cached_tokens=0,
    created_at_ms=0, started_at_ms=5_000, finished_at_ms=65_000, model="m", name=None, priority=0,
    tenant="default", out="/nowhere",
)  # fmt: skip


def speed_told(jobs: list[JobSnapshot]) -> MeasuredSpeed:
    speed = speed_of_jobs(jobs)
    assert speed is not None, "there is a job that measures it"
    return speed


def test_the_quickest_job_tells_and_says_of_how_many_rows() -> None:
    quick = replace(JOB, job_id="job_2", completion_tokens=90_000)
    speed = speed_told([JOB, quick, JOB])
    assert speed.tokens_per_s == pytest.approx(1_500)
    said = "1,500 tokens/s, measured on this installation, 2,000 rows of job_2"
    assert speed.words == said


def test_a_job_of_few_rows_tells_nothing_where_one_of_many_does() -> None:
    """However quick it was: a few milliseconds measure how an engine begins, not how it works."""
    tiny = replace(
        JOB, job_id="job_3", counts=Counts(total=3, succeeded=3), completion_tokens=300,
        finished_at_ms=5_050,
    )  # fmt: skip
    tinier = replace(tiny, job_id="job_4", completion_tokens=200)
    without_times = replace(JOB, job_id="job_5", started_at_ms=None)
    speed = speed_told([tiny, JOB, tinier])
    assert speed.tokens_per_s == pytest.approx(1_000)
    assert speed.words.endswith("2,000 rows of job_1")
    speed = speed_told([tinier, without_times, tiny])
    assert speed.tokens_per_s == pytest.approx(6_000)
    assert "3 rows of job_3; so few" in speed.words


def test_few_rows_are_said_to_leave_an_engine_idle() -> None:
    few = replace(JOB, job_id="run_7-00-000001", counts=Counts(total=16, succeeded=16))
    speed = speed_told([few])
    assert "16 rows of run_7; so few leave most of an engine idle" in speed.words


@pytest.mark.parametrize(
    "changes", [{"started_at_ms": None}, {"finished_at_ms": None}, {"completion_tokens": 0}]
)
def test_a_job_without_times_or_answers_tells_nothing(changes: dict[str, None]) -> None:
    assert speed_of_jobs([replace(JOB, **changes)]) is None
    assert speed_of_jobs([]) is None


def test_busy_workers_outrank_earlier_jobs() -> None:
    earlier = EarlierJobs((20.0,), speed=speed_of_jobs([JOB]))
    idle = estimate(REPORT, earlier, [worker(0.0), worker(9.0, "other")], "m")
    assert idle.seconds_p50 == 2.0  # 2,000 tokens at 1,000 in a second
    assert "measured on this installation, 2,000 rows of job_1" in idle.rests_on[1]
    busy = estimate(REPORT, earlier, [worker(500.0)], "m")
    assert busy.seconds_p50 == 4.0
    assert "the most that 1 worker of m gave" in busy.rests_on[1]
    silent = estimate(REPORT, EarlierJobs((20.0,)), None, "m")
    assert "the queue does not answer" in silent.rests_on[1]
    assert speed_of_workers([worker(5.0, is_draining=True)], "m") is None
