"""What a run still waits for, and what becomes of orders that nobody will answer any more."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.settings import Settings
from penstock.jobs.workflow.orders.orders import Order, orders_of
from penstock.jobs.workflow.runs import run_at_work
from penstock.jobs.workflow.runs.run_at_work import RunAtWork
from penstock.jobs.workflow.workshop.workbench import Workbench

from .small_runs import MAX_ROUNDS, SmallRuns, in_small_shards

ROWS = [{"number": n} for n in range(7)]
WORKFLOW: dict[str, Any] = {
    "name": "w",
    "inputs": {"rows": {}},
    "defaults": {"model": "fake"},
    "steps": [{"id": "said", "type": "generate", "prompt": "say {{ row.number }}"}],
}


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> Iterator[SmallRuns]:
    with in_small_shards():
        yield SmallRuns(settings, table, lambda body: f"<{body['prompt']}>")


def ordered(runs: SmallRuns) -> tuple[str, RunAtWork, Workbench, Order]:
    """Begin a run, and lead it until it has placed its first order."""
    run_id = runs.submit(WORKFLOW, {"rows": ROWS}).run_id
    run, bench = runs.opened(run_id), Workbench(runs.settings.data_dir)
    for _ in range(MAX_ROUNDS):
        assert not runs.advance(run, bench)
        for order in orders_of(runs.settings.jobs_dir, run_id):
            return run_id, run, bench, order
    raise AssertionError("it asks nothing")


def remove_order(runs: SmallRuns, order: Order) -> None:
    """Remove all of an order, as by hand."""
    job = runs.table.snapshot(order.job_id)
    assert job is not None
    directory = JobDir(runs.settings.jobs_dir, order.job_id)
    results = directory.linked_results()
    assert results is not None
    ResultsDir(results).remove()
    shutil.rmtree(directory.path)
    runs.table.forget(job)


def test_a_step_asks_no_more_than_may_be_open(
    runs: SmallRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_at_work, "WINDOW_ROWS", 4)
    run_id, run, bench, _ = ordered(runs)
    for _ in range(10):  # while nobody answers
        assert not runs.advance(run, bench)
    assert len(runs.asked(run_id)) == 6, "two shards of three: the first left room for one row"
    assert runs.finish(run_id).state is JobState.COMPLETED


@pytest.mark.parametrize("has_landed", [False, True])
def test_what_an_order_had_not_answered_when_it_was_removed_is_asked_again(
    runs: SmallRuns, has_landed: bool
) -> None:
    run_id, run, bench, order = ordered(runs)
    if has_landed:
        runs.serve(run_id)
    remove_order(runs, order)
    for _ in range(MAX_ROUNDS):
        runs.serve(run_id)
        if runs.advance(run, bench):
            break
    over = runs.read(run_id)
    assert over.state is JobState.COMPLETED, over
    said = {row["number"]: row["said"] for row in runs.output(run_id)}
    assert said == {n: f"<say {n}>" for n in range(7)}


def test_an_order_that_the_table_alone_has_lost_is_waited_for(runs: SmallRuns) -> None:
    run_id, run, bench, order = ordered(runs)
    job = runs.table.snapshot(order.job_id)
    assert job is not None
    runs.table.forget(job)
    for _ in range(20):
        assert not runs.advance(run, bench)
    asked = runs.asked(run_id)
    assert len(set(asked)) == len(asked), "nothing is asked twice"
    assert runs.finish(run_id).state is JobState.COMPLETED
