"""The five example workflows, killed in mid-run: what comes out is what comes out undisturbed."""

import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from penstock.engine.model_place import DEMO_MODEL
from penstock.jobs.model import JobState
from penstock.jobs.sources import RowsSource
from penstock.jobs.workflow.orders.orders import orders_of
from penstock.jobs.workflow.runs.run_dir import RunDir
from penstock.jobs.workflow.runs.run_submission import RunRequest, submit_run
from penstock.jobs.workflow.runs.runs import RunSnapshot, read_run, step_rows
from penstock.jobs.workflow.spec import Workflow

from ..live import Live, live_queue, wait_for

WORKFLOWS = Path(__file__).parents[2] / "workflows"
PATIENCE_S = 180.0


def pairs(count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [{"a": rng.randint(2, 99), "b": rng.randint(2, 99)} for _ in range(count)]


INPUTS: dict[str, list[dict[str, Any]]] = {
    "synthetic": pairs(150, seed=1),
    "best_of_n": pairs(100, seed=2),
    "extraction": [
        {"text": f"Ada Stone ordered {n} blue lamps for delivery to Oslo."} for n in range(2, 82)
    ],
    "split_merge": [
        {"title": f"account {n}", "text": f"{n % 20 + 2} + 3\n{n % 20 + 2} + 4\n5 + {n % 9}"}
        for n in range(120)
    ],
    "evaluation": [
        {"kind": "add", "question": f"Add {each['a']} and {each['b']}.", "gold": "x"}
        for each in pairs(200, seed=3)
    ],
}


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with live_queue(tmp_path, device="cpu", dtype="float32", max_num_seqs=32) as live:
        yield live


def begin(live: Live) -> dict[str, RunSnapshot]:
    runs: dict[str, RunSnapshot] = {}
    for name, rows in INPUTS.items():
        document = yaml.safe_load((WORKFLOWS / f"{name}.yaml").read_text(encoding="utf-8"))
        workflow = msgspec.convert(document, Workflow)
        (dataset,) = workflow.inputs
        request = RunRequest(workflow, {dataset: RowsSource(rows)}, use_cache=False)
        runs[name] = submit_run(live.settings, live.table, request)
    return runs


def outputs(live: Live, runs: dict[str, RunSnapshot]) -> dict[str, list[dict[str, Any]]]:
    """Wait until all runs have ended, and read what came out of each."""

    def ended() -> bool:
        settled = set(RunDir.unsettled(live.settings.runs_dir))
        return settled.isdisjoint(run.run_id for run in runs.values())

    wait_for(ended, "all runs to end", PATIENCE_S)
    for name, run in runs.items():
        state = read_run(live.settings, live.table, run.run_id)
        assert state.state in (JobState.COMPLETED, JobState.COMPLETED_WITH_ERRORS), (name, state)
    return {
        name: list(step_rows(live.settings, run.run_id, limit=100_000))
        for name, run in runs.items()
    }


def num_asked(live: Live, runs: dict[str, RunSnapshot]) -> Counter[str]:
    return Counter(
        {
            name: sum(order.num_rows for order in orders_of(live.settings.jobs_dir, run.run_id))
            for name, run in runs.items()
        }
    )


def test_killed_workflows_end_as_if_nothing_had_happened(live: Live) -> None:
    worker = live.start_worker(DEMO_MODEL)
    undisturbed = begin(live)
    expected = outputs(live, undisturbed)
    runs = begin(live)
    for num_landed in (3, 9):

        def is_under_way(at_least: int = num_landed) -> bool:
            jobs = [
                order.job_id
                for run in runs.values()
                for order in orders_of(live.settings.jobs_dir, run.run_id)
            ]
            snapshots = [job for job in live.table.snapshots(jobs) if job is not None]
            return sum(job.shards_landed for job in snapshots) >= at_least

        wait_for(is_under_way, "some of it to land")
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        live.workers.remove(worker)
        assert RunDir.unsettled(live.settings.runs_dir), "it was over before it was killed"
        worker = live.start_worker(DEMO_MODEL)
    found = outputs(live, runs)
    for name, rows in expected.items():
        times = Counter(row["row_id"] for row in found[name])
        assert set(times.values()) == {1}, f"{name}: rows are doubled"
        assert found[name] == rows, name
    assert num_asked(live, runs) == num_asked(live, undisturbed), "asked twice, or not at all"
