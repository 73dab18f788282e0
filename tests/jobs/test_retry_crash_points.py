"""A retry is cut off before each of its durable steps, one after another, and always recovers."""

import gc
import shutil
import threading
from pathlib import Path

import pytest

from penstock.jobs.errors import InvalidJob
from penstock.jobs.model import JobState
from penstock.jobs.results_dir import ResultsDir

from .durable_steps import DurableSteps, load_scripts
from .landed_rows import statuses
from .small_jobs import SmallJobs

NUM_ROWS = 4


class Cut(BaseException):
    """The process would be dead by now."""


class CutOff(DurableSteps):
    """Takes so many steps and no more: what would tidy up after a failure is not done either."""

    def __init__(self, root: Path, scripts: dict[str, str], num_steps: int) -> None:
        super().__init__(root, scripts)
        self._num_steps = num_steps
        self._thread = threading.get_ident()

    def _take(self, verb: str, name: str) -> None:
        if threading.get_ident() != self._thread:
            return  # a server of some other test has a keeper of its own
        if len(self.taken) >= self._num_steps:
            raise Cut
        super()._take(verb, name)


# A writer of Parquet closes its file when it is collected, which is a step too far.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_retry_survives_being_cut_off_at_every_step(jobs: SmallJobs, tmp_path: Path) -> None:
    scripts = load_scripts(jobs.table.redis, jobs.table)
    data_dir = jobs.settings.data_dir
    num_cut = 0
    spec = jobs.complete(failing=[0, 2], num_rows=NUM_ROWS, shard_rows=2)
    before = tmp_path / "before"
    shutil.copytree(data_dir, before, symlinks=True)
    while True:
        shutil.rmtree(data_dir)
        shutil.copytree(before, data_dir, symlinks=True)
        jobs.wipe()
        jobs.rebuild_all()
        steps = CutOff(tmp_path, scripts, num_cut)
        try:
            with steps.watched():
                made = jobs.retry(spec)
            jobs.run(made)
            with steps.watched():
                jobs.finalize(made)
        except Cut:
            assert sorted(statuses(spec)) == list(range(NUM_ROWS)), f"after {steps.taken[-1:]}"
        else:
            break
        jobs.wipe()
        jobs.rebuild_all()
        try:
            jobs.rerun(spec)
        except InvalidJob as nothing_left:
            assert "no row to retry" in str(nothing_left)
        seen = statuses(spec)
        assert seen == dict.fromkeys(range(NUM_ROWS), "succeeded"), f"after {steps.taken[-1:]}"
        snapshot = jobs.snapshot(spec)
        assert snapshot.state is JobState.COMPLETED
        assert (snapshot.counts.succeeded, snapshot.counts.failed) == (NUM_ROWS, 0)
        results = ResultsDir.of(spec)
        assert results.success.exists()
        assert sorted(path.suffix for path in results.rows.iterdir()) == [".parquet"] * 2
        num_cut += 1
    gc.collect()  # of what was cut off, nothing is collected amid another test
    assert num_cut > 30
