"""A retry is cut off before each of its durable steps, one after another, and always recovers."""

import shutil
from pathlib import Path

import pytest

from penstock.jobs.errors import InvalidJob
from penstock.jobs.job_table import JobTable
from penstock.jobs.manifest import finalize
from penstock.jobs.model import JobState
from penstock.jobs.reconciler import rebuild_all
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.retrying import retry
from penstock.jobs.settings import Settings

from .conftest import JobMaker, ShardRunner
from .durable_steps import DurableSteps, load_scripts
from .test_retrying import statuses

NUM_ROWS = 4


class Cut(BaseException):
    """The process would be dead by now."""


class CutOff(DurableSteps):
    """Takes so many steps and no more: what would tidy up after a failure is not done either."""

    def __init__(self, root: Path, scripts: dict[str, str], num_steps: int) -> None:
        super().__init__(root, scripts)
        self._num_steps = num_steps

    def _take(self, verb: str, name: str) -> None:
        if len(self.taken) >= self._num_steps:
            raise Cut
        super()._take(verb, name)


# A writer of Parquet closes its file when it is collected, which is a step too far.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_retry_survives_being_cut_off_at_every_step(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    run_shards: ShardRunner,
    tmp_path: Path,
) -> None:
    scripts = load_scripts(table.redis, table)
    num_cut = 0
    spec = make_job(num_rows=NUM_ROWS, shard_rows=2)
    run_shards(spec, failing=[0, 2])
    finalize(settings, table, spec.job_id)
    before = tmp_path / "before"
    shutil.copytree(settings.data_dir, before, symlinks=True)
    while True:
        shutil.rmtree(settings.data_dir)
        shutil.copytree(before, settings.data_dir, symlinks=True)
        table.redis.flushall()
        rebuild_all(settings, table)
        steps = CutOff(tmp_path, scripts, num_cut)
        try:
            with steps.watched():
                made = retry(settings, table, spec.job_id)
            run_shards(made)
            with steps.watched():
                finalize(settings, table, made.job_id)
        except Cut:
            assert sorted(statuses(spec)) == list(range(NUM_ROWS)), f"after {steps.taken[-1:]}"
        else:
            break
        table.redis.flushall()
        rebuild_all(settings, table)
        try:
            made = retry(settings, table, spec.job_id)
            run_shards(made)
            finalize(settings, table, made.job_id)
        except InvalidJob as nothing_left:
            assert "no row to retry" in str(nothing_left)
        seen = statuses(spec)
        assert seen == dict.fromkeys(range(NUM_ROWS), "succeeded"), f"after {steps.taken[-1:]}"
        snapshot = table.snapshot(spec.job_id)
        assert snapshot is not None and snapshot.state is JobState.COMPLETED
        assert (snapshot.counts.succeeded, snapshot.counts.failed) == (NUM_ROWS, 0)
        results = ResultsDir.of(spec)
        assert results.success.exists()
        assert sorted(path.suffix for path in results.rows.iterdir()) == [".parquet"] * 2
        num_cut += 1
    assert num_cut > 30
