"""What is changed about a run holds for what it asks, whoever leads it and whenever it asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import redis

from penstock.jobs.errors import InvalidJob, JobBusy, UnknownJob
from penstock.jobs.file_lock import file_lock
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState
from penstock.jobs.redis_client import connect
from penstock.jobs.settings import Settings
from penstock.jobs.workflow.orders.orders import orders_of
from penstock.jobs.workflow.runs import run_control, run_lock
from penstock.jobs.workflow.runs.run_control import change_run
from penstock.jobs.workflow.runs.run_dir import RunDir
from penstock.jobs.workflow.runs.runs import cancel_run, pause_run, resume_run
from penstock.jobs.workflow.workshop.workbench import Workbench

from .small_runs import SmallRuns, in_small_shards


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> Iterator[SmallRuns]:
    with in_small_shards():
        yield SmallRuns(settings, table, lambda body: body["prompt"])


@pytest.fixture
def run_id(runs: SmallRuns) -> str:
    step = {"id": "say", "type": "generate", "prompt": "{{ row.n }}"}
    document = {"name": "w", "inputs": {"rows": {}}, "defaults": {"model": "m"}, "steps": [step]}
    return runs.submit(document, {"rows": [{"n": n} for n in range(5)]}, priority=3).run_id


def led(runs: SmallRuns, run_id: str, turns: int = 6) -> list[int]:
    """Lead a run anew while nobody answers; returns the priorities of what it asks."""
    run, bench = runs.opened(run_id), Workbench(runs.settings.data_dir)
    for _ in range(turns):
        assert not runs.advance(run, bench)
    jobs = [order.job_id for order in orders_of(runs.settings.jobs_dir, run_id)]
    return [job.priority for job in runs.table.snapshots(jobs) if job is not None]


def test_a_run_is_paused_while_redis_is_away_and_is_else_left_as_it_is(
    runs: SmallRuns, run_id: str, tmp_path: Path
) -> None:
    away = JobTable(connect(Settings(redis_url=f"unix://{tmp_path}/no.sock")), runs.table.keys)
    with pytest.raises(redis.RedisError):
        cancel_run(runs.settings, away, run_id)
    assert runs.read(run_id).state is JobState.QUEUED
    assert pause_run(runs.settings, away, run_id).state is JobState.PAUSED
    with pytest.raises(redis.RedisError):
        resume_run(runs.settings, away, run_id)
    assert runs.read(run_id).state is JobState.PAUSED
    assert resume_run(runs.settings, runs.table, run_id).state is JobState.QUEUED


def test_what_is_asked_later_has_the_priority_of_the_run(runs: SmallRuns, run_id: str) -> None:
    change_run(runs.settings, runs.table, run_id, priority=9)
    assert set(led(runs, run_id)) == {9}
    for order in orders_of(runs.settings.jobs_dir, run_id):
        assert JobDir(runs.settings.jobs_dir, order.job_id).read_spec().priority == 9
    assert runs.read(run_id).priority == 9


def test_what_is_asked_just_now_follows_at_once(runs: SmallRuns, run_id: str) -> None:
    assert set(led(runs, run_id)) == {3}
    change_run(runs.settings, runs.table, run_id, priority=9)
    assert set(led(runs, run_id, turns=0)) == {9}


def test_whoever_leads_next_makes_good_what_was_broken_off(runs: SmallRuns, run_id: str) -> None:
    assert set(led(runs, run_id)) == {3}
    with (
        mock.patch.object(run_control, "prioritize", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        change_run(runs.settings, runs.table, run_id, priority=9)
    assert set(led(runs, run_id, turns=0)) == {3}
    assert set(led(runs, run_id, turns=1)) == {9}


def test_what_is_named_changes_and_the_rest_stays(runs: SmallRuns, run_id: str) -> None:
    change_run(runs.settings, runs.table, run_id, name="mine", metadata={"a": "b"})
    change_run(runs.settings, runs.table, run_id, name=None)
    found = runs.read(run_id)
    assert (found.name, found.metadata, found.priority) == (None, {"a": "b"}, 3)
    runs.finish(run_id)
    with pytest.raises(InvalidJob, match="has ended"):
        change_run(runs.settings, runs.table, run_id, priority=1)
    change_run(runs.settings, runs.table, run_id, name="later")
    assert runs.read(run_id).name == "later"


def test_two_do_not_change_it_at_once(runs: SmallRuns, run_id: str) -> None:
    lock = RunDir(runs.settings.runs_dir, run_id).path / ".lock"
    with (
        file_lock(lock),
        mock.patch.object(run_lock, "LOCK_WAIT_S", 0.0),
        pytest.raises(JobBusy),
    ):
        change_run(runs.settings, runs.table, run_id, name="x")
    assert runs.read(run_id).name is None


def test_what_is_removed_while_its_lock_is_waited_for_is_changed_no_more(
    runs: SmallRuns, run_id: str
) -> None:
    directory = RunDir(runs.settings.runs_dir, run_id)

    @contextmanager
    def late(path: Path, **options: Any) -> Iterator[Any]:
        directory.spec.unlink()  # as somebody does who held it until now
        with file_lock(path, **options) as held:
            yield held

    with mock.patch.object(run_lock, "file_lock", late), pytest.raises(UnknownJob):
        change_run(runs.settings, runs.table, run_id, name="x")
    assert not directory.control.exists()


def test_an_id_is_no_path(runs: SmallRuns, run_id: str) -> None:
    for odd in (f"../runs/{run_id}", f"./{run_id}", f"{run_id}/"):
        with pytest.raises(UnknownJob):
            runs.read(odd)
