"""Who advances runs holds no run up because of another, and lets go of nothing that took hours."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs.events import JobEvents
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState
from penstock.jobs.settings import Settings
from penstock.jobs.workflow import advancer as advancing
from penstock.jobs.workflow.advancer import Advancer
from penstock.jobs.workflow.runs.run_at_work import RunAtWork
from penstock.jobs.workflow.runs.run_dir import RunDir
from penstock.jobs.workflow.runs.run_removal import remove_run
from penstock.jobs.workflow.runs.runs import cancel_run
from penstock.jobs.workflow.work import Work

from ..live import wait_for
from .small_runs import SmallRuns, in_small_shards

ACTING = """
import os, time
from pathlib import Path
from penstock.jobs.workflow.computing import gather

HERE = Path(__file__).parent
real = gather.gather

def act(row):
    (HERE / f"began-{time.monotonic_ns()}").write_text(str(os.getpid()))
    while not (HERE / "release").exists():
        time.sleep(0.01)
    return 1

def slowly(*arguments):
    act({})
    return real(*arguments)

gather.gather = slowly
"""
ONCE = {"id": "once", "type": "dedupe", "key": "{{ row.number }}"}
ACT = {"id": "acted", "type": "map", "op": "act"}
TWICE = {"id": "twice", "type": "map", "set": {"number": "row.number * 2"}}


@pytest.fixture
def runs(
    settings: Settings, table: JobTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SmallRuns]:
    """Pieces that gather, or perform `act`, begin and then wait to be released."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "acting.py").write_text(ACTING, encoding="utf-8")
    runs = SmallRuns(settings, table, lambda body: body["prompt"])
    with in_small_shards():
        yield runs.elsewhere(workflow_ops=("act=acting:act",))


@pytest.fixture
def advancer(runs: SmallRuns) -> Iterator[Advancer]:
    made = Advancer(runs.settings, runs.table, JobEvents(runs.table.redis, runs.table.keys))
    yield made
    made.close()


def submitted(runs: SmallRuns, step: dict[str, Any]) -> str:
    rows = {"rows": [{"number": n} for n in range(3)]}
    return runs.submit({"name": "w", "inputs": {"rows": {}}, "steps": [step]}, rows).run_id


def lead_until(advancer: Advancer, probe: Callable[[], object], what: str) -> None:
    def is_so() -> bool:
        advancer.lead()
        return bool(probe())

    wait_for(is_so, what, 120)


def is_settled(runs: SmallRuns, run_id: str) -> bool:
    return run_id not in RunDir.unsettled(runs.settings.runs_dir)


def begun(directory: Path) -> list[int]:
    """Find the processes that have begun something which waits, in order."""
    texts = [path.read_text() for path in sorted(directory.glob("began-*"))]
    return [int(text) for text in texts if text]


@pytest.mark.parametrize("step", [ONCE, ACT])
def test_what_is_under_way_outlives_a_moment_without_the_lead(
    runs: SmallRuns,
    advancer: Advancer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: dict[str, Any],
) -> None:
    monkeypatch.setattr(advancing, "LEAD_S", 0.3)
    run_id = submitted(runs, step)
    lead_until(advancer, lambda: begun(tmp_path), "a piece to begin")
    wait_for(lambda: not advancer._runs, "the advancer to lose the lead")
    monkeypatch.setattr(advancing, "LEAD_S", 60.0)
    lead_until(advancer, lambda: run_id in advancer._runs, "the run to be opened anew")
    (tmp_path / "release").touch()
    lead_until(advancer, lambda: is_settled(runs, run_id), "the run to end")
    assert runs.read(run_id).state is JobState.COMPLETED
    assert len(set(begun(tmp_path))) == 1
    assert len(runs.output(run_id)) == 3


def test_without_the_lead_nothing_goes_on_for_ever(
    runs: SmallRuns, advancer: Advancer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted(runs, ACT)
    lead_until(advancer, lambda: begun(tmp_path), "a piece to begin")
    monkeypatch.setattr(advancing, "LEAD_S", 0.0)
    monkeypatch.setattr(advancing, "PATIENCE_S", 0.1)
    (pid,) = begun(tmp_path)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "its process to end")


@pytest.mark.parametrize("step", [ONCE, ACT])
def test_a_run_that_was_cancelled_is_not_settled_while_a_piece_of_it_is_under_way(
    runs: SmallRuns, advancer: Advancer, tmp_path: Path, step: dict[str, Any]
) -> None:
    run_id = submitted(runs, step)
    lead_until(advancer, lambda: begun(tmp_path), "a piece to begin")
    results = runs.results(run_id).path
    cancel_run(runs.settings, runs.table, run_id)
    lead_until(advancer, lambda: is_settled(runs, run_id), "the run to be settled")
    (pid,) = begun(tmp_path)
    assert not Path(f"/proc/{pid}").exists()
    remove_run(runs.settings, runs.table, run_id)
    assert not results.exists()


def test_a_cancelled_run_ends_its_pieces_also_without_the_lead(
    runs: SmallRuns, advancer: Advancer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = submitted(runs, ACT)
    lead_until(advancer, lambda: begun(tmp_path), "a piece to begin")
    monkeypatch.setattr(advancing, "LEAD_S", 0.0)
    cancel_run(runs.settings, runs.table, run_id)
    (pid,) = begun(tmp_path)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "its process to end")


def test_runs_that_gather_hold_up_no_other(
    runs: SmallRuns, advancer: Advancer, tmp_path: Path
) -> None:
    gathering = [submitted(runs, ONCE) for _ in range(6)]
    lead_until(advancer, lambda: begun(tmp_path), "one to gather")
    other = submitted(runs, TWICE)
    lead_until(advancer, lambda: is_settled(runs, other), "the other run to end")
    assert runs.read(other).state is JobState.COMPLETED
    assert not any(is_settled(runs, run_id) for run_id in gathering)
    (tmp_path / "release").touch()
    lead_until(advancer, lambda: not RunDir.unsettled(runs.settings.runs_dir), "all to end")
    assert {runs.read(run_id).state for run_id in gathering} == {JobState.COMPLETED}


def test_a_run_of_which_no_work_can_be_chosen_holds_up_no_other(
    runs: SmallRuns, advancer: Advancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = submitted(runs, TWICE)
    good = submitted(runs, TWICE)
    real = RunAtWork.next_work

    def next_work(run: RunAtWork) -> Work | None:
        if run.run_id == bad:
            raise KeyError("what nobody thought of")
        return real(run)

    monkeypatch.setattr(RunAtWork, "next_work", next_work)
    lead_until(advancer, lambda: is_settled(runs, good), "the good run to end")
    assert runs.read(good).state is JobState.COMPLETED
    assert not is_settled(runs, bad)
