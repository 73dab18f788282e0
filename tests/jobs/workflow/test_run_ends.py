"""When a run has ended, and when it has not."""

from collections.abc import Iterator
from typing import Any

import pytest

from penstock.jobs.durable import StorageFull
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState
from penstock.jobs.settings import Settings
from penstock.jobs.workflow.orders.orders import orders_of
from penstock.jobs.workflow.runs.run_dir import RunDir, RunFinal
from penstock.jobs.workflow.workshop.workbench import Workbench

from .small_runs import MAX_ROUNDS, SmallRuns, in_small_shards


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> Iterator[SmallRuns]:
    with in_small_shards():
        yield SmallRuns(settings, table, lambda body: body["prompt"])


def begun(runs: SmallRuns, *steps: dict[str, Any], **fields: Any) -> str:
    document = {"name": "w", "inputs": {"rows": {}}, "defaults": {"model": "fake"}, **fields}
    rows = {"rows": [{"number": number} for number in range(7)]}
    return runs.submit({**document, "steps": list(steps)}, rows).run_id


def test_a_run_that_may_not_fail_ends_when_there_is_room_to_say_so(
    runs: SmallRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = {"id": "m", "type": "map", "set": {"x": "row.number / 0"}, "on_error": "fail"}
    run_id = begun(runs, step)
    real, tries = RunDir.write_final, [0]

    def full_twice(self: RunDir, final: RunFinal) -> RunFinal:
        tries[0] += 1
        if tries[0] <= 2:
            raise StorageFull(self.path)
        return real(self, final)

    monkeypatch.setattr(RunDir, "write_final", full_twice)
    run, bench = runs.opened(run_id), Workbench(runs.settings.data_dir)
    for _ in range(MAX_ROUNDS):
        try:
            if runs.advance(run, bench):
                break
        except StorageFull:  # the advancer would open it anew
            run = runs.opened(run_id)
    ended = runs.read(run_id)
    assert ended.state is JobState.FAILED
    assert ended.error is not None and "step m: row 0" in ended.error
    assert tries[0] == 3


def test_a_step_beside_the_outputs_path_is_finished_too(runs: SmallRuns) -> None:
    aside = {"id": "aside", "type": "generate", "from": "inputs.rows", "prompt": "{{ row.number }}"}
    out = {"id": "out", "type": "map", "from": "inputs.rows", "set": {"x": "row.number + 1"}}
    run_id = begun(runs, aside, out, output={"from": "out"})
    run = runs.finish(run_id)
    assert run.state is JobState.COMPLETED
    assert {step.id: step.rows_out for step in run.steps} == {"aside": 7, "out": 7}
    for order in orders_of(runs.settings.jobs_dir, run_id):
        job = runs.table.snapshot(order.job_id)
        assert job is not None and job.state is JobState.COMPLETED
