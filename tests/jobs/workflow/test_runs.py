"""Whole runs against a real Redis and real workers, whose engine says what it is told to."""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from penstock.jobs.errors import InvalidJob, UnknownJob
from penstock.jobs.model import JobState
from penstock.jobs.sources import RowsSource
from penstock.jobs.sweep import sweep
from penstock.jobs.workflow.checks.problems import InvalidWorkflow
from penstock.jobs.workflow.orders.orders import orders_of
from penstock.jobs.workflow.runs.run_dir import RunDir
from penstock.jobs.workflow.runs.run_removal import remove_run
from penstock.jobs.workflow.runs.run_results import RunResults
from penstock.jobs.workflow.runs.run_submission import RunRequest, submit_run
from penstock.jobs.workflow.runs.runs import (
    RunSnapshot,
    cancel_run,
    pause_run,
    read_run,
    resume_run,
    step_rows,
)
from penstock.jobs.workflow.runs.tracing import trace_row
from penstock.jobs.workflow.spec import Workflow

from ..live import Live, live_queue, wait_for

FAST = "fake:step_ms=1,tokens=64"
SLOW = "fake:step_ms=30,tokens=6"

VERDICT = '[[say]]{"score": {{ row.number % 5 }}, "reason": "x"}'
KEPT = {"ideas": "count()", "best": "max(row.verdict.score)"}
JUDGED: dict[str, Any] = {
    "name": "judged",
    "inputs": {"topics": {}},
    "defaults": {"model": FAST, "sampling": {"max_tokens": 64}},
    "steps": [
        {"id": "idea", "type": "generate", "n": 2, "prompt": "[[say]]{{ row.topic }}!"},
        {"id": "verdict", "type": "judge", "prompt": VERDICT},
        {"id": "good", "type": "filter", "where": "row.verdict.score >= 2"},
        {"id": "kept", "type": "reduce", "agg": KEPT},
    ],
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_queue(tmp_path_factory.mktemp("runs")) as live:
        live.start_worker(FAST)
        yield live


def topics(count: int) -> RowsSource:
    return RowsSource([{"topic": f"topic {n}", "number": n} for n in range(count)])


def submit(live: Live, workflow: dict[str, Any], count: int, **request: Any) -> RunSnapshot:
    read = msgspec.convert(workflow, Workflow)
    return submit_run(
        live.settings, live.table, RunRequest(read, {"topics": topics(count)}, **request)
    )


def ended(live: Live, run: RunSnapshot, patience_s: float = 60.0) -> RunSnapshot:
    def probe() -> RunSnapshot | None:
        now = read_run(live.settings, live.table, run.run_id)
        is_settled = run.run_id not in RunDir.unsettled(live.settings.runs_dir)
        return now if now.state.is_final and is_settled else None

    return wait_for(probe, f"{run.run_id} to end", patience_s)


def output(live: Live, run: RunSnapshot) -> list[dict[str, Any]]:
    return list(step_rows(live.settings, run.run_id, limit=1_000_000))


def check_judged(live: Live, run: RunSnapshot, count: int) -> None:
    """Each topic with a good verdict has landed exactly once, with both of its ideas."""
    rows = output(live, run)
    good = [n for n in range(count) if n % 5 >= 2]
    assert Counter(row["row_id"] for row in rows) == Counter(map(str, good))
    for row in rows:
        number = int(row["row_id"])
        assert (row["topic"], row["number"]) == (f"topic {number}", number)
        assert msgspec.json.decode(row["kept"]) == {"ideas": 2, "best": number % 5}


def test_rows_go_through_every_step(live: Live) -> None:
    run = ended(live, submit(live, JUDGED, 300))
    assert run.state is JobState.COMPLETED, run.error
    check_judged(live, run, 300)
    idea, verdict, good, kept = run.steps
    assert (idea.rows_in, idea.rows_out, idea.asked) == (300, 600, 600)
    assert (verdict.rows_in, verdict.rows_out, verdict.failed) == (600, 600, 0)
    assert (good.rows_out, good.dropped, kept.rows_out) == (360, 240, 180)
    assert run.output_rows == 180
    assert {step.state for step in run.steps} == {"completed"}
    ideas = list(step_rows(live.settings, run.run_id, "idea", limit=10_000))
    assert {row["row_id"]: row["idea"] for row in ideas} == {
        f"{n}/idea#{sample}": f"topic {n}!" for n in range(300) for sample in range(2)
    }
    assert {row["parent_id"] for row in ideas} == {str(n) for n in range(300)}
    results = RunResults(Path(run.out).parent, run.run_id).output
    assert results.success.exists()
    assert pq.read_table(results.rows).num_rows == 180
    assert not list(Path(run.out).rglob("_tmp"))


def test_what_was_answered_is_not_asked_again(live: Live) -> None:
    first = ended(live, submit(live, JUDGED, 40, tenant="cached"))
    edited = msgspec.json.decode(msgspec.json.encode(JUDGED))
    edited["steps"][2]["where"] = "row.verdict.score >= 4"
    second = ended(live, submit(live, edited, 60, tenant="cached"))
    assert [step.cached_rows for step in first.steps[:2]] == [0, 0]
    assert [step.cached_rows for step in second.steps[:2]] == [80, 80]
    assert second.output_rows == 12
    assert second.steps[0].prompt_tokens < first.steps[0].prompt_tokens
    anew = ended(live, submit(live, edited, 60, tenant="cached", use_cache=False))
    assert [step.cached_rows for step in anew.steps[:2]] == [0, 0]
    edited["steps"][1]["cache"] = False
    partly = ended(live, submit(live, edited, 60, tenant="cached"))
    assert [step.cached_rows for step in partly.steps[:2]] == [120, 0]


def test_a_fault_that_may_not_be_ends_the_run_and_names_its_row(live: Live) -> None:
    steps = [
        {"id": "x", "type": "generate", "prompt": "{% if row.number == 7 %}[[fail]]{% endif %}a",
         "on_error": "fail"},
    ]  # fmt: skip
    run = ended(live, submit(live, {**JUDGED, "steps": steps}, 20))
    assert run.state is JobState.FAILED
    assert run.error is not None
    assert "step x: row 7:" in run.error


def test_a_bad_row_fails_alone(live: Live) -> None:
    steps = [
        {"id": "x", "type": "generate", "prompt": "{% if row.number == 7 %}[[fail]]{% endif %}a",
         "on_error": "drop"},
    ]  # fmt: skip
    run = ended(live, submit(live, {**JUDGED, "steps": steps}, 20))
    assert run.state is JobState.COMPLETED_WITH_ERRORS
    assert {row["row_id"] for row in output(live, run)} == {str(n) for n in range(20) if n != 7}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Live]:
    with live_queue(tmp_path) as live:
        yield live


SLOWLY = msgspec.json.decode(msgspec.json.encode(JUDGED).replace(FAST.encode(), SLOW.encode()))


def some_landed(live: Live, run: RunSnapshot) -> bool:
    orders = list(orders_of(live.settings.jobs_dir, run.run_id))
    snapshots = live.table.snapshots([order.job_id for order in orders])
    return any(job is not None and job.shards_landed for job in snapshots)


@pytest.mark.parametrize("wipe", [False, True], ids=["killed", "killed and Redis wiped"])
def test_a_killed_run_goes_on_where_it_was(own: Live, wipe: bool) -> None:
    worker = own.start_worker(SLOW)
    run = submit(own, SLOWLY, 150)
    wait_for(lambda: some_landed(own, run), "something to land")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    own.workers.remove(worker)
    before = read_run(own.settings, own.table, run.run_id)
    assert not before.state.is_final
    if wipe:
        own.redis.flushall()
    asked = sum(order.num_rows for order in orders_of(own.settings.jobs_dir, run.run_id))
    own.start_worker(SLOW)
    after = ended(own, run, 90)
    assert after.state is JobState.COMPLETED, after.error
    check_judged(own, after, 150)
    orders = list(orders_of(own.settings.jobs_dir, run.run_id))
    assert sum(order.num_rows for order in orders) == 600, "nothing was asked twice"
    assert 0 < asked <= 600


def test_a_run_pauses_goes_on_and_is_cancelled(own: Live) -> None:
    own.start_worker(SLOW)
    run = submit(own, SLOWLY, 1_000)
    wait_for(lambda: some_landed(own, run), "something to land")
    assert pause_run(own.settings, own.table, run.run_id).state is JobState.PAUSED

    def is_still() -> bool:
        jobs = [order.job_id for order in orders_of(own.settings.jobs_dir, run.run_id)]
        found = [job for job in own.table.snapshots(jobs) if job is not None]
        return all(job.state is JobState.PAUSED or job.state.is_final for job in found)

    wait_for(is_still, "its orders to pause")
    assert resume_run(own.settings, own.table, run.run_id).state is JobState.RUNNING
    wait_for(lambda: not is_still(), "its orders to go on")
    assert cancel_run(own.settings, own.table, run.run_id).state is JobState.CANCELLED
    over = ended(own, run)
    assert over.state is JobState.CANCELLED
    for order in orders_of(own.settings.jobs_dir, run.run_id):
        job = own.table.snapshot(order.job_id)
        assert job is not None
        assert job.state.is_final
    assert cancel_run(own.settings, own.table, run.run_id).state is JobState.CANCELLED


def test_a_damaged_shard_is_made_again(own: Live) -> None:
    steps = [
        {"id": "same", "type": "map", "set": {"x": "row.number + 1"}},
        {"id": "slow", "type": "generate", "prompt": "[[say]]{{ row.same.x }}"},
        {"id": "last", "type": "map", "set": {"y": "row.same.x * 2"}},
    ]
    workflow = {**SLOWLY, "steps": steps}
    run = submit(own, workflow, 100)
    results = RunResults(Path(run.out).parent, run.run_id)
    worker = own.start_worker(SLOW)
    wait_for(lambda: some_landed(own, run), "something to land")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    own.workers.remove(worker)
    part = results.step("same").part(0)
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(bytes(data))
    own.start_worker(SLOW)
    assert ended(own, run).state is JobState.COMPLETED
    rows = output(own, run)
    assert {row["row_id"]: msgspec.json.decode(row["last"])["y"] for row in rows} == {
        str(n): 2 * (n + 1) for n in range(100)
    }


def test_a_row_can_be_followed_through_the_steps(live: Live) -> None:
    run = ended(live, submit(live, JUDGED, 8, use_cache=False))
    traces = trace_row(live.settings, run.run_id, "4/idea#1")
    assert [(trace.step, trace.row_id) for trace in traces] == [
        ("idea", "4/idea#1"),
        ("verdict", "4/idea#1"),
        ("good", "4/idea#1"),
        ("kept", "4"),
    ]
    idea, verdict, *_ = traces
    (request,) = idea.requests
    assert request["prompt"] == "[[say]]topic 4!"
    assert [answer.text for answer in idea.answers] == ["topic 4!"]
    assert idea.value == "topic 4!"
    assert verdict.value == {"score": 4, "reason": "x"}
    assert verdict.meta["status"] == "succeeded"
    with pytest.raises(UnknownJob):
        trace_row(live.settings, run.run_id, "99")


def test_a_run_that_has_ended_can_be_removed_with_all_that_served_it(live: Live) -> None:
    endless = submit(live, {**JUDGED, "defaults": {"model": "served by nobody"}}, 1)
    with pytest.raises(InvalidJob, match="has not ended"):
        remove_run(live.settings, live.table, endless.run_id)
    cancel_run(live.settings, live.table, endless.run_id)
    run = ended(live, submit(live, JUDGED, 8, use_cache=False))
    orders = [order.job_id for order in orders_of(live.settings.jobs_dir, run.run_id)]
    assert orders
    remove_run(live.settings, live.table, run.run_id)
    assert live.table.snapshots(orders) == [None] * len(orders)
    assert not list(live.settings.jobs_dir.glob(f"{run.run_id}*"))
    assert not Path(run.out).exists()
    with pytest.raises(UnknownJob):
        read_run(live.settings, live.table, run.run_id)


def test_one_idempotency_key_makes_one_run(live: Live) -> None:
    first = submit(live, JUDGED, 3, idempotency_key="once")
    again = submit(live, JUDGED, 3, idempotency_key="once")
    other = submit(live, JUDGED, 3, idempotency_key="once", tenant="another")
    assert again.run_id == first.run_id != other.run_id
    with pytest.raises(InvalidJob, match="another workflow or has other params"):
        submit(live, {**JUDGED, "name": "changed"}, 3, idempotency_key="once")
    for count in (2, 4):
        with pytest.raises(InvalidJob, match="of other rows"):
            submit(live, JUDGED, count, idempotency_key="once")
    for run in (first, other):
        ended(live, run)


def test_what_was_begun_and_never_sealed_is_swept(own: Live) -> None:
    half = RunDir(own.settings.runs_dir, "run_01HALF")
    half.create()
    assert sweep(own.settings) == 0
    assert sweep(own.settings, older_than_s=-1.0) == 1
    assert not half.path.exists()


def test_an_input_must_be_there_and_have_the_columns_it_promises(own: Live) -> None:
    promised = {**JUDGED, "inputs": {"topics": {"columns": {"number": "string"}}}}
    with pytest.raises(InvalidWorkflow, match="promised as string, but the data has int64"):
        submit(own, promised, 3)
    with pytest.raises(InvalidJob, match="input 'topics' is missing"):
        request = RunRequest(msgspec.convert(JUDGED, Workflow), {})
        submit_run(own.settings, own.table, request)
    step = {"id": "said", "type": "generate", "prompt": "hi"}
    fixed = {"name": "w", "inputs": {"rows": {}}, "defaults": {"model": "m"}, "steps": [step]}
    for rows, problem in (
        ([], "no usable rows"),
        ([dict.fromkeys(map(str, range(1001)), 0)], "has more than 1000 columns"),
    ):
        with pytest.raises(InvalidJob, match=problem):
            request = RunRequest(msgspec.convert(fixed, Workflow), {"rows": RowsSource(rows)})
            submit_run(own.settings, own.table, request)
    assert list(own.settings.runs_dir.iterdir()) == []
