"""How long a job is likely to take, by earlier answers and what workers gave, or unknown."""

from dataclasses import replace

import pytest

from penstock.api.validation_estimate import EarlierJobs, estimate
from penstock.jobs.dry_run import DryRun
from penstock.jobs.dry_run_report import LongRows
from penstock.jobs.model import TaskSpec
from penstock.jobs.submit_request import SubmitRequest
from penstock.jobs.workers import WorkerInfo

EMPTY = DryRun(SubmitRequest(TaskSpec("m", prompt="x")), None).report(complete=True)
REPORT = replace(EMPTY, rows=110, answers=100, output_at_most=6_400, too_long=LongRows(count=10))


def worker(rate: float, model: str = "m", *, is_draining: bool = False) -> WorkerInfo:
    return WorkerInfo(
        name="w", model=model, host="h", pid=1, slots=8, running_rows=0, waiting_rows=0,
        tokens_per_s=0.0, kv_used_fraction=0.0, started_at_ms=0, proved_at_ms=0,
        has_chat_template=True, max_model_len=None, busy_tokens_per_s=rate, is_draining=is_draining,
    )  # fmt: skip


def test_time_is_tokens_by_the_speed_of_those_who_serve() -> None:
    workers = [worker(30.0), worker(20.0), worker(9.0, "other"), worker(9.0, is_draining=True)]
    told = estimate(REPORT, EarlierJobs((20.0,), of_same_task=True), workers, "m")
    assert (told.output_tokens, told.output_tokens_p90) == (2_000, 2_500)  # one job is not much
    assert (told.seconds_p50, told.seconds_p90) == (40.0, 50.0)
    assert "2 workers of m" in told.rests_on[1]


def test_nothing_is_said_to_go_beyond_the_bound() -> None:
    told = estimate(REPORT, EarlierJobs((100.0, 60.0)), [worker(10.0)], "m")
    assert (told.output_tokens, told.output_tokens_p90) == (6_400, 6_400)


@pytest.mark.parametrize(
    ("lengths", "p50", "p90"),
    [((), None, None), ((10.0,), 10.0, 12.5), ((1.0, 2.0, 90.0), 2.0, 90.0),
     (tuple(map(float, range(1, 21))), 10.5, 18.0)],
)  # fmt: skip
def test_nine_of_ten_jobs_stay_below(
    lengths: tuple[float, ...], p50: float | None, p90: float | None
) -> None:
    earlier = EarlierJobs(lengths)
    assert (earlier.p50, earlier.p90) == (p50, p90)


def test_without_earlier_jobs_only_the_bound_is_known() -> None:
    told = estimate(REPORT, EarlierJobs(), [worker(100.0)], "m")
    assert (told.output_tokens, told.seconds_p50, told.seconds_p90) == (None, None, 64.0)
    endless = estimate(replace(REPORT, output_at_most=None), EarlierJobs(), [worker(1.0)], "m")
    assert (endless.seconds_p50, endless.seconds_p90) == (None, None)


def test_without_a_busy_worker_no_time_is_told() -> None:
    told = estimate(REPORT, EarlierJobs((20.0,)), [worker(0.0)], "m")
    assert (told.output_tokens, told.seconds_p50, told.seconds_p90) == (2_000, None, None)
    assert "no worker of m has been busy" in told.rests_on[1]
