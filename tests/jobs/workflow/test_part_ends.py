"""Pages of a run's rows: each row once, in order, and no footer is read again for the next page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs.job_table import JobTable
from penstock.jobs.settings import Settings
from penstock.jobs.workflow.runs import part_ends
from penstock.jobs.workflow.runs.part_ends import PartEnds
from penstock.jobs.workflow.runs.runs import cancel_run, step_rows, step_table
from penstock.jobs.workflow.workshop.shard_report import ShardReport
from penstock.jobs.workflow.workshop.workbench import Workbench

from .small_runs import SmallRuns, in_small_shards

NUM_ROWS = 20
STEPS: list[dict[str, Any]] = [  # of rows 6 to 11 nothing is left: two parts have no rows
    {"id": "kept", "type": "filter", "where": "row.n < 6 or row.n > 11"},
]


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> Iterator[SmallRuns]:
    with in_small_shards(run_rows=3):
        yield SmallRuns(settings, table, lambda _: "")


@pytest.fixture
def footers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the parts whose footers are read."""
    read: list[str] = []
    real = part_ends.read_report

    def read_report(path: Path) -> ShardReport:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(part_ends, "read_report", read_report)
    return read


def submitted(runs: SmallRuns) -> str:
    rows = {"rows": [{"n": number} for number in range(NUM_ROWS)]}
    workflow = {"name": "w", "inputs": {"rows": {}}, "steps": STEPS}
    return runs.submit(workflow, rows).run_id


def ended(runs: SmallRuns) -> str:
    return runs.finish(submitted(runs)).run_id


def landed(runs: SmallRuns) -> str:
    """Land all rows of a run that has not ended yet."""
    run_id = submitted(runs)
    run, bench = runs.opened(run_id), Workbench(runs.settings.data_dir)
    while len(runs.results(run_id).output.parts()) < 7:
        assert not runs.advance(run, bench)
    return run_id


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_pages_hold_every_row_once_and_read_each_footer_once(
    runs: SmallRuns, footers: list[str], size: int
) -> None:
    run_id, ends = ended(runs), PartEnds()
    found: list[int] = []
    while page := list(step_rows(runs.settings, run_id, after=len(found), limit=size, ends=ends)):
        table = step_table(runs.settings, run_id, after=len(found), limit=size, ends=ends)
        assert table.column("n").to_pylist() == [row["n"] for row in page]
        found += [row["n"] for row in page]
    assert found == [number for number in range(NUM_ROWS) if not 6 <= number <= 11]
    assert len(footers) == len(set(footers)) == 7


def test_what_lands_later_is_found_behind_what_was_known(runs: SmallRuns) -> None:
    run_id, ends = landed(runs), PartEnds()
    output = runs.results(run_id).output
    late = output.part(5).rename(output.path / "late")
    assert ends.find(output, 9) == ends.find(output, 9) == (5, 0)
    assert list(step_rows(runs.settings, run_id, after=9, limit=9, ends=ends)) == []
    late.rename(output.part(5))
    assert [ends.find(output, row) for row in (0, 1, 3, 6, 9, 10, 13, 14)] == [
        (0, 0), (0, 1), (1, 0), (4, 0), (5, 0), (5, 1), (6, 1), (7, 0)
    ]  # fmt: skip
    after = [row["n"] for row in step_rows(runs.settings, run_id, after=9, limit=2, ends=ends)]
    assert after == [15, 16]


@pytest.mark.parametrize("size", [1, 2, 100])
def test_what_has_not_landed_is_passed_over_when_the_run_has_ended(
    runs: SmallRuns, size: int
) -> None:
    run_id = landed(runs)
    kept = runs.results(run_id).step("kept")
    for lost in (0, 4):
        kept.part(lost).unlink()

    def pages() -> list[int]:
        ends, found = PartEnds(), list[int]()
        read = {"step_id": "kept", "limit": size, "ends": ends}
        while page := list(step_rows(runs.settings, run_id, after=len(found), **read)):
            table = step_table(runs.settings, run_id, after=len(found), **read)
            assert table.column("n").to_pylist() == [row["n"] for row in page]
            found += [row["n"] for row in page]
        return found

    assert pages() == []
    cancel_run(runs.settings, runs.table, run_id)
    assert pages() == [3, 4, 5, 15, 16, 17, 18, 19]
