"""Many runs at once: the advancer goes round among them, and its work waits for no whole round."""

from collections.abc import Iterator

import pytest

from penstock.jobs.events import JobEvents
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState
from penstock.jobs.settings import Settings
from penstock.jobs.workflow import advancer as advancing
from penstock.jobs.workflow.advancer import Advancer
from penstock.jobs.workflow.runs.run_at_work import RunAtWork
from penstock.jobs.workflow.runs.run_dir import RunDir

from ..live import wait_for
from .small_runs import SmallRuns, in_small_shards

NUM_RUNS = 6
WORKFLOW = {
    "name": "w",
    "inputs": {"rows": {}},
    "steps": [{"id": "twice", "type": "map", "set": {"number": "row.number * 2"}}],
}


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> Iterator[SmallRuns]:
    with in_small_shards():
        yield SmallRuns(settings, table, lambda body: body["prompt"])


@pytest.fixture
def advancer(runs: SmallRuns) -> Iterator[Advancer]:
    made = Advancer(runs.settings, runs.table, JobEvents(runs.table.redis, runs.table.keys))
    yield made
    made.close()


def lead_until_settled(runs: SmallRuns, advancer: Advancer, num_left: int = 0) -> None:
    def are_settled() -> bool:
        advancer.lead()
        return len(RunDir.unsettled(runs.settings.runs_dir)) <= num_left

    wait_for(are_settled, "all runs to end", 120)


def submitted(runs: SmallRuns) -> list[str]:
    rows = {"rows": [{"number": n} for n in range(4)]}
    return [runs.submit(WORKFLOW, rows).run_id for _ in range(NUM_RUNS)]


def test_work_begins_between_two_looks(
    runs: SmallRuns, advancer: Advancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_ids = submitted(runs)
    looks, most = [0], [0]
    real_look, real_begin = RunAtWork.look_after, Advancer._begin_work

    def look(run: RunAtWork) -> bool:
        looks[0] += 1
        most[0] = max(most[0], looks[0])
        return real_look(run)

    def begin(advancer: Advancer) -> None:
        looks[0] = 0
        real_begin(advancer)

    monkeypatch.setattr(advancing, "_LOOK_AT_A_TIME_S", 0.0)  # looks take longer than they may
    monkeypatch.setattr(RunAtWork, "look_after", look)
    monkeypatch.setattr(Advancer, "_begin_work", begin)
    lead_until_settled(runs, advancer)
    assert most == [1]
    assert {runs.read(run_id).state for run_id in run_ids} == {JobState.COMPLETED}


def test_a_run_that_cannot_be_opened_holds_up_no_other(
    runs: SmallRuns, advancer: Advancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, *good = submitted(runs)
    real_open = RunAtWork.__init__

    def opened(run: RunAtWork, settings: Settings, *rest: object) -> None:
        directory = next(each for each in rest if isinstance(each, RunDir))
        if directory.run_id == bad:
            raise RuntimeError("this one is beyond us")
        real_open(run, settings, *rest)  # pyright: ignore[reportArgumentType]  # as it was called

    monkeypatch.setattr(RunAtWork, "__init__", opened)
    lead_until_settled(runs, advancer, num_left=1)
    assert {runs.read(run_id).state for run_id in good} == {JobState.COMPLETED}
    assert RunDir.unsettled(runs.settings.runs_dir) == [bad]
