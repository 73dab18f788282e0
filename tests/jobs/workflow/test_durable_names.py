"""What is found of a run is as durable as what was written of it before anybody builds on it.

Whoever wrote it may have died between its name and the fsync of the name; then the power goes.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState
from penstock.jobs.settings import Settings
from penstock.jobs.sweep import LEFT_BEHIND_AGE_S, sweep
from penstock.jobs.workflow.runs.retrying import retry_run
from penstock.jobs.workflow.runs.run_dir import RunDir, RunFinal
from penstock.jobs.workflow.runs.runs import cancel_run

from .small_runs import SmallRuns, in_small_shards

WORKFLOW = {
    "name": "w",
    "inputs": {"rows": {}},
    "steps": [{"id": "m", "type": "map", "set": {"x": "row.n"}}],
}
ROWS = {"rows": [{"n": 1}]}


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> Iterator[SmallRuns]:
    with in_small_shards():
        yield SmallRuns(settings, table, lambda _: "")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Collect the directories that are fsynced by themselves, and not as a file is written."""
    found: list[Path] = []
    monkeypatch.setattr("penstock.jobs.workflow.runs.run_dir.fsync_directory", found.append)
    return found


def cancelled(runs: SmallRuns) -> RunDir:
    run_id = runs.submit(WORKFLOW, ROWS).run_id
    cancel_run(runs.settings, runs.table, run_id)
    return RunDir(runs.settings.runs_dir, run_id)


def test_a_run_that_a_key_has_made_lasts_before_it_is_acknowledged_again(
    runs: SmallRuns, synced: list[Path]
) -> None:
    run_id = runs.submit(WORKFLOW, ROWS, idempotency_key="k").run_id
    synced.clear()
    assert runs.submit(WORKFLOW, ROWS, idempotency_key="k").run_id == run_id
    assert synced == [runs.settings.runs_dir / run_id]


@pytest.mark.parametrize("key", [None, "k"])
def test_a_retry_that_goes_on_lasts_before_it_is_acknowledged_again(
    runs: SmallRuns, synced: list[Path], key: str | None
) -> None:
    directory = cancelled(runs)
    made = retry_run(runs.settings, runs.table, directory.run_id, idempotency_key=key)
    synced.clear()
    again = retry_run(runs.settings, runs.table, directory.run_id, idempotency_key=key)
    assert again.run_id == made.run_id
    assert runs.settings.runs_dir / made.run_id in synced


FINDERS: dict[str, Callable[[SmallRuns, RunDir], object]] = {
    "advance": lambda runs, directory: runs.opened(directory.run_id).look_after(),
    "cancel": lambda runs, directory: cancel_run(runs.settings, runs.table, directory.run_id),
    "retry": lambda runs, directory: retry_run(runs.settings, runs.table, directory.run_id),
}


@pytest.mark.parametrize("finder", FINDERS)
def test_an_end_that_is_found_lasts_before_anything_is_built_on_it(
    runs: SmallRuns, monkeypatch: pytest.MonkeyPatch, finder: str
) -> None:
    directory = RunDir(runs.settings.runs_dir, runs.submit(WORKFLOW, ROWS).run_id)
    directory.write_final(RunFinal(JobState.CANCELLED, at_ms=1_700_000_000_000))
    built: list[bool] = []

    def sync(path: Path) -> None:
        if path == directory.path:
            is_settled = directory.run_id not in RunDir.unsettled(runs.settings.runs_dir)
            built.append(is_settled or len(list(RunDir.all(runs.settings.runs_dir))) > 1)

    monkeypatch.setattr("penstock.jobs.workflow.runs.run_dir.fsync_directory", sync)
    FINDERS[finder](runs, directory)
    assert built == [False]


def test_inputs_that_a_retry_cannot_link_last_as_copies(
    runs: SmallRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = cancelled(runs)
    real_link, real_sync, synced = os.link, os.fsync, list[str]()

    def link(source: Path, target: Path) -> None:
        if target.parent.name == "inputs":
            raise OSError("not on this file system")
        real_link(source, target)

    def sync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real_sync(descriptor)

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "fsync", sync)
    made = retry_run(runs.settings, runs.table, directory.run_id)
    copies = {path.name for path in RunDir(runs.settings.runs_dir, made.run_id).inputs.iterdir()}
    assert copies == {"rows.parquet", "rows.rejected.jsonl"}
    assert max(map(synced.index, copies)) < synced.index("inputs")


def test_a_submission_that_still_writes_is_not_swept(runs: SmallRuns) -> None:
    """Only its file grows: the directories around that are as old as its beginning."""
    dead, writing = (RunDir(runs.settings.runs_dir, f"run_{name}") for name in ("dead", "writing"))
    long_ago = time.time() - LEFT_BEHIND_AGE_S - 10
    for half_made in (dead, writing):
        half_made.create()
        half_made.input("rows").write_bytes(b"PAR1")
    for path in (dead.input("rows"), dead.inputs, dead.path, writing.inputs, writing.path):
        os.utime(path, (long_ago, long_ago))
    assert sweep(runs.settings) == 1
    assert not dead.path.exists()
    assert writing.input("rows").exists()
