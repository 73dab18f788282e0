from pathlib import Path

import pytest

from penstock.jobs.job_table import JobTable
from penstock.jobs.settings import Settings
from penstock.jobs.workflow.orders.order_names import depth_of, number_of, order_name, run_of
from penstock.jobs.workflow.orders.order_numbers import OrderNumbers
from penstock.jobs.workflow.runs.run_dir import RunDir
from penstock.jobs.workflow.runs.run_results import RunResults
from penstock.jobs.workflow.runs.run_spec import RunSpec

from .small_runs import SmallRuns

WORKFLOW = {
    "name": "w",
    "inputs": {"rows": {}},
    "defaults": {"model": "fake"},
    "steps": [{"id": "said", "type": "generate", "prompt": "say {{ row.number }}"}],
}


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> SmallRuns:
    return SmallRuns(settings, table, lambda body: body["prompt"])


@pytest.fixture
def run(runs: SmallRuns) -> RunSpec:
    run_id = runs.submit(WORKFLOW, {"rows": [{"number": n} for n in range(7)]}).run_id
    return RunDir(runs.settings.runs_dir, run_id).read()


@pytest.fixture
def jobs_dir(settings: Settings) -> Path:
    settings.jobs_dir.mkdir(parents=True, exist_ok=True)
    return settings.jobs_dir


def test_a_name_tells_whom_an_order_serves() -> None:
    name = order_name("run_1", 2, 123_456)
    assert name == "run_1-02-123456"
    assert (run_of(name), depth_of(name), number_of(name)) == ("run_1", 2, 123_456)
    assert (run_of("job_1"), number_of("job_1")) == (None, None)


def test_numbers_count_up_step_by_step(jobs_dir: Path, run: RunSpec) -> None:
    numbers = OrderNumbers(jobs_dir, run)
    made = [numbers.create(place).job_id for place in (1, 1, 12, 1)]
    assert [name.partition("-")[2] for name in made] == [
        "01-000000",
        "01-000001",
        "12-000000",
        "01-000002",
    ]
    assert OrderNumbers(jobs_dir, run).create(1).job_id.endswith("-01-000003"), "who leads next"


def test_two_leaders_never_share_a_number(jobs_dir: Path, run: RunSpec) -> None:
    both = OrderNumbers(jobs_dir, run), OrderNumbers(jobs_dir, run)
    made = [both[turn % 2].create(0).job_id for turn in range(6)]
    assert len(set(made)) == 6


def test_a_number_whose_rows_are_still_there_is_not_given_again(
    jobs_dir: Path, run: RunSpec
) -> None:
    (RunResults.of(run).asks / order_name(run.run_id, 0, 4)).mkdir(parents=True)
    assert OrderNumbers(jobs_dir, run).create(0).job_id == order_name(run.run_id, 0, 5)


def test_all_jobs_are_listed_once(
    jobs_dir: Path, run: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []
    plain = Path.glob

    def counted(path: Path, pattern: str) -> object:
        listed.append(pattern)
        return plain(path, pattern)

    monkeypatch.setattr(Path, "glob", counted)
    numbers = OrderNumbers(jobs_dir, run)
    for place in (0, 0, 1, 2):
        numbers.create(place)
    assert listed == [f"{run.run_id}-*"]
