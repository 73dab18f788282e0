"""What a run asks of models pauses and goes on with it, whatever the job table knows just then."""

from collections.abc import Iterator

import pytest

from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState
from penstock.jobs.settings import Settings
from penstock.jobs.workflow.orders.orders import orders_of
from penstock.jobs.workflow.runs.runs import pause_run, resume_run
from penstock.jobs.workflow.workshop.workbench import Workbench

from .small_runs import SmallRuns, in_small_shards

WORKFLOW = {
    "name": "w",
    "inputs": {"rows": {}},
    "defaults": {"model": "fake", "sampling": {"max_tokens": 8}},
    "steps": [{"id": "said", "type": "generate", "prompt": "say {{ row.n }}"}],
}
ROWS = {"rows": [{"n": number} for number in range(3)]}


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> Iterator[SmallRuns]:
    with in_small_shards():
        yield SmallRuns(settings, table, lambda _: "said")


def test_an_order_that_the_table_had_forgotten_pauses_when_it_is_known_again(
    runs: SmallRuns,
) -> None:
    run_id = runs.submit(WORKFLOW, ROWS).run_id
    run, bench = runs.opened(run_id), Workbench(runs.settings.data_dir)
    while not (found := list(orders_of(runs.settings.jobs_dir, run_id))):
        runs.advance(run, bench)
    job_id = found[0].job_id
    job = runs.table.snapshot(job_id)
    assert job is not None
    runs.table.forget(job)
    pause_run(runs.settings, runs.table, run_id)
    run.look_after()
    runs.keep()
    run.look_after()
    paused = runs.table.snapshot(job_id)
    assert paused is not None
    assert paused.state is JobState.PAUSED
    resume_run(runs.settings, runs.table, run_id)
    assert runs.finish(run_id).state is JobState.COMPLETED
