"""Steering jobs that real workers run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.jobs.events import STATUS
from penstock.jobs.model import JobState
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.steering import change, pause, resume

from .live import MODEL, SLOW, Live, live_queue, stop, wait_for


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with live_queue(tmp_path) as live:
        yield live


def test_a_pause_outlives_redis_and_the_worker_and_loses_no_row(live: Live) -> None:
    """What is held lands; nothing else begins, though all that Redis knew is wiped meanwhile."""
    worker = live.start_worker(SLOW)
    prompts = [f"prompt {number}" for number in range(16 * 12)]
    spec = live.submit(prompts, model=SLOW, shard_rows=16)
    wait_for(lambda: live.snapshot(spec).counts.succeeded, "the first shard to land")
    pause(live.settings, live.table, spec.job_id)
    live.redis.flushall()
    wait_for(lambda: live.table.snapshot(spec.job_id), "the job to be restored")
    assert live.snapshot(spec).state is JobState.PAUSED

    stop(worker)  # not before what it holds has landed
    parts = ResultsDir.of(spec).parts()
    assert 0 < len(parts) < spec.num_shards
    live.start_worker(SLOW)
    other = live.submit(["another"], model=SLOW)
    assert live.wait_until_done(other).state is JobState.COMPLETED
    assert ResultsDir.of(spec).parts() == parts, "a new worker begins nothing of it either"
    assert live.snapshot(spec).state is JobState.PAUSED
    resume(live.settings, live.table, spec.job_id)
    assert live.wait_until_done(spec).state is JobState.COMPLETED
    live.check_rows(spec, prompts)


def test_an_urgent_job_overtakes_and_a_deadline_passes(live: Live) -> None:
    live.start_worker(SLOW)
    patient = live.submit([f"p{n}" for n in range(16 * 200)], model=SLOW, shard_rows=16)
    wait_for(lambda: live.snapshot(patient).counts.running, "the patient one to run")
    urgent = live.submit(["u"] * 32, model=SLOW, shard_rows=16)
    change(live.settings, live.table, urgent.job_id, priority=9)
    assert live.wait_until_done(urgent).state is JobState.COMPLETED
    assert live.snapshot(patient).counts.pending > 16 * 100, "it is overtaken, not waited for"
    change(live.settings, live.table, patient.job_id, deadline_ms=live.table.now_ms() + 100)
    ended = live.wait_until_done(patient)
    assert ended.state is JobState.EXPIRED
    counts = ended.counts
    assert counts.succeeded + counts.not_run == counts.total and counts.not_run > 0
    info = live.register.list()[0]
    wait_for(lambda: live.register.list()[0].running_rows == 0, f"{info.name} to let go of it")


def test_followers_hear_when_errors_pause_a_job(live: Live) -> None:
    live.start_worker(MODEL)
    prompts = ["[[fail]]"] * 160
    spec = live.submit(prompts, shard_rows=16, max_error_rate=0.5, error_rate_after=16)
    wait_for(lambda: live.snapshot(spec).state is JobState.PAUSED, "its errors to pause it")

    def told() -> list[str]:
        entries = live.redis.xrange(live.keys.events(spec.job_id))
        return [fields["data"] for _, fields in entries if fields["kind"] == STATUS]

    assert "error_rate" in wait_for(told, "its followers to hear")[0]
