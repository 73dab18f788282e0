"""A page of runs costs what it shows, however many there are behind it, or of other tenants."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.jobs.job_table import JobTable
from penstock.jobs.settings import Settings
from penstock.jobs.workflow.runs import run_dir, runs as runs_module
from penstock.jobs.workflow.runs.runs import list_runs

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


def test_a_page_looks_at_no_older_runs_and_no_further_into_those_of_others(
    runs: SmallRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenants = {
        runs.submit(WORKFLOW, ROWS, tenant=tenant).run_id: tenant
        for tenant in ("mine", "mine", "other", "mine", "other", "mine")
    }
    newest, *behind = sorted(tenants, reverse=True)
    mine = [run_id for run_id in behind if tenants[run_id] == "mine"][:2]
    found: list[str] = []
    told: list[str] = []
    real_exist, real_news = run_dir.may_exist, runs_module.read_news

    def may_exist(path: Path) -> bool:
        found.append(path.parent.name)
        return real_exist(path)

    def read_news(table: JobTable, run_id: str) -> object:
        told.append(run_id)
        return real_news(table, run_id)

    monkeypatch.setattr(run_dir, "may_exist", may_exist)
    monkeypatch.setattr(runs_module, "read_news", read_news)
    page = list_runs(runs.settings, runs.table, tenant="mine", after=newest, limit=2)
    assert [run.run_id for run in page] == told == mine
    assert found == behind[: behind.index(mine[1]) + 1]
