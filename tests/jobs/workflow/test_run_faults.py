"""What may befall a run in its middle, one thing at a time: it goes on, and its rows are right."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.jobs.ending import cancel
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState
from penstock.jobs.settings import Settings
from penstock.jobs.workflow.orders.orders import orders_of
from penstock.jobs.workflow.runs.run_dir import RunDir
from penstock.jobs.workflow.runs.runs import RunSnapshot, pause_run, resume_run
from penstock.jobs.workflow.workshop.workbench import Workbench

from ..conftest import flipped
from .small_runs import MAX_ROUNDS, SmallRuns, in_small_shards

ROWS = [{"topic": f"topic {n % 3}", "number": n} for n in range(7)]
STEPS: list[dict[str, Any]] = [
    {"id": "idea", "type": "generate", "n": 2, "prompt": "{{ row.topic }}"},
    {"id": "good", "type": "filter", "where": "row.number != 1"},
    {"id": "once", "type": "dedupe", "key": "{{ row.number }} {{ row.idea }}"},
    {"id": "praise", "type": "generate", "prompt": "praise {{ row.idea }}"},
    {"id": "kept", "type": "reduce", "agg": {"ideas": "count()"}},
]


def echo(body: dict[str, Any]) -> str:
    return f"<{body['prompt']} {body['seed'] % 2}>"


def workflow(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    defaults = {"model": "fake", "sampling": {"max_tokens": 8}}
    document = {"name": "w", "inputs": {"rows": {}}, "defaults": defaults, **fields}
    return {**document, "steps": list(steps or STEPS)}


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> Iterator[SmallRuns]:
    with in_small_shards():
        yield SmallRuns(settings, table, echo)


@pytest.fixture
def undisturbed(runs: SmallRuns) -> list[dict[str, Any]]:
    return completed(runs, begun(runs, 0))


def begun(runs: SmallRuns, rounds: int, *steps: dict[str, Any], **fields: Any) -> str:
    """Submit a run, and lead it for some turns."""
    run_id = runs.submit(workflow(*steps, **fields), {"rows": ROWS}).run_id
    assert not runs.lead(run_id, rounds)
    return run_id


def ended(runs: SmallRuns, run_id: str) -> RunSnapshot:
    return runs.finish(run_id)


def completed(runs: SmallRuns, run_id: str) -> list[dict[str, Any]]:
    run = runs.finish(run_id)
    assert run.state is JobState.COMPLETED, run.error
    return runs.output(run_id)


def rot(path: Path, place: float) -> None:
    data = path.read_bytes()
    if data:
        path.write_bytes(flipped(data, int(place * (len(data) - 1))))


# What a flipped byte hits: the rows, or the footer with its seal.
@pytest.mark.parametrize("place", [0.3, 0.97])
@pytest.mark.parametrize("what", ["steps/idea", "steps/once", "steps/praise", "asks"])
def test_what_has_rotted_is_made_again(
    runs: SmallRuns, undisturbed: list[dict[str, Any]], what: str, place: float
) -> None:
    run_id = begun(runs, 0)
    found = until_there(runs, run_id, f"{what}/**/rows/part-*.parquet")
    for path in found:
        rot(path, place)
    assert completed(runs, run_id) == undisturbed


def until_there(runs: SmallRuns, run_id: str, pattern: str) -> list[Path]:
    """Lead a run until it has made some files, but no further."""
    run, bench = runs.opened(run_id), Workbench(runs.settings.data_dir)
    for _ in range(MAX_ROUNDS):
        found = sorted(runs.results(run_id).path.glob(pattern))
        if found:
            return found
        runs.serve(run_id)
        found = sorted(runs.results(run_id).path.glob(pattern))
        if found:
            return found
        assert not runs.advance(run, bench), f"it was over before there was {pattern}"
    raise AssertionError(f"it hangs before there is {pattern}")


def test_a_rotten_number_of_shards_is_not_believed(
    runs: SmallRuns, undisturbed: list[dict[str, Any]]
) -> None:
    run_id = begun(runs, 0)
    (noted,) = until_there(runs, run_id, "steps/once/gathered.json")
    content = noted.read_bytes()
    place = next(at for at, byte in enumerate(content) if bytes([byte]).isdigit())
    noted.write_bytes(content[:place] + b"1" + content[place + 1 :])
    assert completed(runs, run_id) == undisturbed


def test_rows_are_counted_once_though_a_shard_was_made_twice(runs: SmallRuns) -> None:
    run_id = begun(runs, 0)
    run, bench = runs.opened(run_id), Workbench(runs.settings.data_dir)
    part = runs.results(run_id).step("idea").part(0)
    is_rotten = False
    for _ in range(200):
        runs.serve(run_id)
        if runs.advance(run, bench):
            break
        if part.exists() and not is_rotten:
            rot(part, 0.3)
            is_rotten = True
    assert {step.id: step.rows_in for step in runs.read(run_id).steps} == {
        "idea": 7,
        "good": 14,
        "once": 12,
        "praise": 9,
        "kept": 9,
    }


def test_a_run_that_was_resumed_while_nobody_led_goes_on(runs: SmallRuns) -> None:
    run_id = begun(runs, 3)
    pause_run(runs.settings, runs.table, run_id)
    assert not runs.lead(run_id, 5)
    resume_run(runs.settings, runs.table, run_id)
    assert len(completed(runs, run_id)) == 6


def test_a_paused_run_still_pauses_with_the_next_leader(runs: SmallRuns) -> None:
    run_id = begun(runs, 3)
    pause_run(runs.settings, runs.table, run_id)
    asked = runs.asked(run_id)
    assert not runs.lead(run_id, 20)
    assert not runs.lead(run_id, 20)
    assert runs.asked(run_id) == asked
    paused = runs.read(run_id)
    assert paused.state is JobState.PAUSED
    assert (paused.status_reason or "").startswith("paused_by_user: "), "as a job says it"
    assert resume_run(runs.settings, runs.table, run_id).status_reason is None
    assert len(completed(runs, run_id)) == 6


FATAL = [
    {"id": "bad", "type": "map", "set": {"x": "1 / (row.number - 3)"}, "on_error": "fail"},
    {"id": "more", "type": "map", "set": {"y": "row.bad.x"}},
]


def test_a_fault_that_ends_a_run_is_not_forgotten_by_who_takes_over(runs: SmallRuns) -> None:
    run_id = begun(runs, 0, *FATAL)
    part = runs.results(run_id).step("bad").part(1)
    bench = Workbench(runs.settings.data_dir)
    run = runs.opened(run_id)
    for _ in range(MAX_ROUNDS):
        if part.exists():
            break
        run.look_after()
        work = run.next_work()
        assert work is not None
        outcome = bench.do(work)
        if not part.exists():
            run.take(work, outcome)
    failed = ended(runs, run_id)
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert "step bad: row 3:" in failed.error


def test_a_fault_of_a_step_that_gathers_ends_the_run(runs: SmallRuns) -> None:
    bad = {"id": "bad", "type": "dedupe", "key": "{{ 1 / (row.number - 3) }}", "on_error": "fail"}
    failed = ended(runs, begun(runs, 0, bad))
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert "step bad: row 3:" in failed.error


def test_a_cancelled_order_fails_its_run_and_says_so(runs: SmallRuns) -> None:
    run_id = begun(runs, 0)
    assert not runs.lead(run_id, 2)
    (order,) = orders_of(runs.settings.jobs_dir, run_id)
    cancel(runs.settings, runs.table, order.job_id)
    failed = ended(runs, run_id)
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert order.job_id in failed.error


def test_zero_rows_after_a_filter_are_an_empty_output(runs: SmallRuns) -> None:
    none = {"id": "good", "type": "filter", "where": "row.number > 100"}
    run_id = begun(runs, 0, STEPS[0], none, *STEPS[2:])
    assert completed(runs, run_id) == []
    assert runs.read(run_id).output_rows == 0
    assert runs.results(run_id).output.success.exists()


def test_two_inputs_are_joined_whatever_comes_between(runs: SmallRuns) -> None:
    steps = [
        {"id": "a", "type": "generate", "from": "inputs.rows", "prompt": "{{ row.topic }}"},
        {"id": "both", "type": "join", "from": ["a", "inputs.names"], "on": "number"},
        {"id": "x", "type": "map", "set": {"it": "row.both.name"}},
    ]
    inputs = {"rows": {}, "names": {}}
    names = [{"number": n, "name": f"name {n}"} for n in range(7)]
    document = workflow(*steps, inputs=inputs)
    run_id = runs.submit(document, {"rows": ROWS, "names": names}).run_id
    for _ in range(30):  # every other turn another leader
        if runs.lead(run_id, 2):
            break
    rows = completed(runs, run_id)
    named = {row["number"]: msgspec.json.decode(row["x"])["it"] for row in rows}
    assert named == {n: f"name {n}" for n in range(7)}
    assert len(rows) == 7


@pytest.mark.parametrize("offset", range(3))
def test_two_advancers_of_one_run_do_no_harm(
    runs: SmallRuns, undisturbed: list[dict[str, Any]], offset: int
) -> None:
    run_id = begun(runs, 0)
    both = [(runs.opened(run_id), Workbench(runs.settings.data_dir)) for _ in range(2)]
    over: set[int] = set()
    for turn in range(400):
        runs.serve(run_id)
        number = turn % 2 if offset == 0 else (turn // (3 * offset)) % 2
        if number not in over and runs.advance(*both[number]):
            over.add(number)
        if len(over) == 2:
            break
    assert len(over) == 2, "it hangs"
    assert completed(runs, run_id) == undisturbed
    assert RunDir.unsettled(runs.settings.runs_dir) == []
