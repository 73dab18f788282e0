"""Trials go by themselves when nobody looks at them any more; what else has ended stays."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs.errors import UnknownJob
from penstock.jobs.events import JobEvents
from penstock.jobs.job_table import JobTable
from penstock.jobs.sealed_json import encode_sealed
from penstock.jobs.settings import Settings
from penstock.jobs.slow_chores import SlowChores
from penstock.jobs.workflow.runs.run_dir import RunDir
from penstock.jobs.workflow.runs.run_removal import remove_old_trials

from .small_runs import SmallRuns, in_small_shards

WORKFLOW: dict[str, Any] = {
    "name": "w",
    "inputs": {"rows": {}},
    "defaults": {"model": "fake"},
    "steps": [{"id": "said", "type": "generate", "prompt": "say {{ row.n }}"}],
}


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> Iterator[SmallRuns]:
    with in_small_shards():
        yield SmallRuns(settings, table, lambda body: body["prompt"])


def begun(runs: SmallRuns, **fields: Any) -> str:
    return runs.submit(WORKFLOW, {"rows": [{"n": n} for n in range(4)]}, **fields).run_id


def test_old_trials_are_removed_with_their_jobs_and_nothing_else(runs: SmallRuns) -> None:
    trial, other, under_way = begun(runs, first_rows=2), begun(runs), begun(runs, first_rows=2)
    for run_id in (trial, other):
        assert runs.finish(run_id).state.is_final
    assert remove_old_trials(runs.settings, runs.table) == 0, "they have just ended"
    out = Path(runs.read(trial).out)
    assert out.is_dir()
    assert remove_old_trials(runs.settings, runs.table, kept_s=-60.0) == 1
    with pytest.raises(UnknownJob):
        runs.read(trial)
    assert not out.exists()
    assert not list(runs.settings.jobs_dir.glob(f"{trial}*"))
    assert sorted(RunDir.all(runs.settings.runs_dir)) == sorted([other, under_way])


def test_a_damaged_run_keeps_no_trial_from_being_removed(runs: SmallRuns) -> None:
    trial, damaged = begun(runs, first_rows=2), begun(runs)  # the newest is looked at first
    assert runs.finish(trial).state.is_final
    directory = RunDir(runs.settings.runs_dir, damaged)
    directory.path.joinpath("final.json").write_bytes(b"no end")
    assert remove_old_trials(runs.settings, runs.table, kept_s=-60.0) == 1


def test_the_keepers_sweep_removes_them(runs: SmallRuns) -> None:
    trial = begun(runs, first_rows=2)
    assert runs.finish(trial).state.is_final
    final = RunDir(runs.settings.runs_dir, trial).read_final()
    assert final is not None
    long_ago = encode_sealed(replace(final, at_ms=0))
    RunDir(runs.settings.runs_dir, trial).path.joinpath("final.json").write_bytes(long_ago)
    events = JobEvents(runs.table.redis, runs.table.keys)
    with ThreadPoolExecutor(1) as executor:
        SlowChores(runs.settings, runs.table, events, executor).sweep()
    assert list(RunDir.all(runs.settings.runs_dir)) == []
