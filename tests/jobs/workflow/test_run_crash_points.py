"""A run is killed before each of its durable steps, one after another, and always recovers.

Every life runs in a process of its own, which dies by SIGKILL; then the client asks again with the
same key, the keeper's chores run, an advancer that knows nothing takes the run up. Each time: one
run, every row once with the right values, nothing asked twice, and no file that does not belong
there.
"""

import multiprocessing
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.jobs.job_table import JobTable
from penstock.jobs.keys import Keys
from penstock.jobs.model import JobState
from penstock.jobs.reconciler import rebuild_all
from penstock.jobs.redis_client import connect
from penstock.jobs.settings import Settings
from penstock.jobs.sweep import LEFT_BEHIND_AGE_S, sweep
from penstock.jobs.workflow.orders.orders import orders_of
from penstock.jobs.workflow.runs.report import StepProgress
from penstock.jobs.workflow.runs.run_dir import RunDir
from penstock.jobs.workflow.runs.runs import RunSnapshot

from ..durable_steps import DurableSteps, load_scripts
from .small_runs import SmallRuns, in_small_shards

DEFAULTS = {"model": "fake", "sampling": {"max_tokens": 8}}
KEPT = {"ideas": "count()", "best": "max(row.verdict.score)"}
SCORED = {
    "type": "object",
    "properties": {"score": {"type": "integer"}},
    "required": ["score"],
}
WORKFLOWS: dict[str, dict[str, Any]] = {
    "gathered": {
        "name": "gathered",
        "inputs": {"topics": {}},
        "defaults": DEFAULTS,
        "steps": [
            {"id": "idea", "type": "generate", "n": 2, "prompt": "name {{ row.topic }}"},
            {"id": "good", "type": "filter", "where": "row.number != 1"},
            {"id": "once", "type": "dedupe", "key": "{{ row.idea }}"},
            {"id": "again", "type": "generate", "prompt": "praise {{ row.idea }}"},
            {"id": "kept", "type": "reduce", "agg": {"ideas": "count()"}},
        ],
    },
    "tried again": {
        "name": "tried-again",
        "inputs": {"topics": {}},
        "defaults": DEFAULTS,
        "steps": [
            {
                "id": "verdict",
                "type": "judge",
                "prompt": "score {{ row.number }}",
                "schema": SCORED,
                "retries": {"invalid_output": 1},
            },
            {"id": "next", "type": "map", "set": {"number": "row.verdict.score + 1"}},
        ],
    },
}
TOPICS = {"topics": [{"topic": f"topic {n % 3}", "number": n} for n in range(5)]}
OUTPUT: dict[str, tuple[str, dict[int, Any]]] = {  # by number; of equal ideas the first stays
    "gathered": ("kept", {n: {"ideas": ideas} for n, ideas in ((0, 1), (2, 2), (3, 1), (4, 2))}),
    "tried again": ("next", {n: {"number": n + 1} for n in range(5)}),
}
NUM_ASKED = {"gathered": 16, "tried again": 8}
NUM_KINDS = {"gathered": 187, "tried again": 141}
SAMPLED = 12  # deaths of each workflow that every build tries; `soak` tries them all

_RUN_ID = re.compile(r"run_[0-9A-HJKMNP-TV-Z]{26}")
_NUMBER = re.compile(r"-\d\d-\d{6}|-\d{6}")
_SCRATCH = re.compile(r"tmp\w{8}\.sqlite")


def says(body: dict[str, Any]) -> str:
    """Answer as a model might; what is even is no document unless it has to be one."""
    prompt = body["prompt"]
    word, _, rest = prompt.partition(" ")
    if word != "score":
        return f"{prompt}, {body['seed'] % 2}" if word == "name" else f"{prompt}!"
    is_free = "response_format" not in body
    return "well" if is_free and int(rest) % 2 == 0 else f'{{"score": {rest}}}'


class RunSteps(DurableSteps):
    """Calls a step alike in every run."""

    def _name(self, path: Any) -> str | None:
        name = super()._name(path)
        return None if name is None else _SCRATCH.sub("SCRATCH", _RUN_ID.sub("RUN", name))


def kind(step: str) -> str:
    """Name a step, or a file, alike for every shard and every order."""
    return _NUMBER.sub("-N", step)


def live(settings: Settings, name: str, root: Path, die_at: int | None, answer: Connection) -> None:
    """Lead a run from its submission to its end in this process; tell its steps unless it dies."""
    with connect(settings) as client, in_small_shards():
        table = JobTable(client, Keys(settings.namespace))
        steps = RunSteps(root, load_scripts(client, table), die_at)
        runs = SmallRuns(settings, table, says)
        with steps.watched():
            run = runs.submit(WORKFLOWS[name], TOPICS, idempotency_key="once")
            assert runs.lead(run.run_id)
    answer.send(steps.taken)


class Crashes:
    """Starts lives as forks of a process that has imported everything: an import takes a second."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, "pytest", "pandas"])  # Arrow looks for it

    def run(self, settings: Settings, name: str, root: Path, die_at: int | None) -> list[str]:
        """Return the steps of a life; none when it died, as it should with `die_at`."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=live, args=(settings, name, root, die_at, sender))
        process.start()
        sender.close()
        try:
            taken = receiver.recv()
        except EOFError:
            taken = []
        process.join()
        if process.exitcode == -signal.SIGKILL and die_at is not None:
            return []
        assert process.exitcode == 0, f"{name} failed by itself"
        return taken


@pytest.fixture(scope="module")
def crashes() -> Crashes:
    return Crashes()


def sweep_a_day_later(settings: Settings) -> None:
    long_ago = time.time() - LEFT_BEHIND_AGE_S - 10
    for path in [*settings.data_dir.rglob("*")]:
        os.utime(path, (long_ago, long_ago), follow_symlinks=False)
    sweep(settings)


def kinds_of_files(settings: Settings) -> set[str]:
    """Name all that lies below the data directory; locks and the cache outlive every run."""
    data = settings.data_dir
    found = {str(path.relative_to(data)) for path in data.rglob("*")}
    return {
        kind(_RUN_ID.sub("RUN", name))
        for name in found
        if not name.endswith(".lock") and not name.startswith("cache")
    }


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """What came of a run that nobody has killed, and the steps that it took."""

    steps: list[str]
    output: list[dict[str, Any]]
    progress: tuple[StepProgress, ...]
    asked: list[str]
    files: set[str]


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> Iterator[SmallRuns]:
    with in_small_shards():
        yield SmallRuns(settings, table, says)


def undisturbed(runs: SmallRuns, name: str, root: Path, crashes: Crashes) -> Undisturbed:
    own = runs.elsewhere(data=str(root / "undisturbed" / "data"))
    Path(own.settings.data).parent.mkdir(parents=True)
    steps = crashes.run(own.settings, name, root / "undisturbed", None)
    (run_id,) = RunDir.all(own.settings.runs_dir)
    run = own.read(run_id)
    assert run.state is JobState.COMPLETED
    output, asked, left = own.output(run_id), own.asked(run_id), kinds_of_files(own.settings)
    return Undisturbed(steps, output, run.steps, asked, left)


def recover(runs: SmallRuns, name: str) -> RunSnapshot:
    """What is up again does what it always does: client, keeper, advancer, worker."""
    run = runs.submit(WORKFLOWS[name], TOPICS, idempotency_key="once")  # nobody told the client
    return runs.finish(run.run_id)


def check(runs: SmallRuns, run_id: str, expected: Undisturbed) -> None:
    """One run, as if nothing had happened, and no file that does not belong to it."""
    assert list(RunDir.all(runs.settings.runs_dir)) == [run_id]
    assert RunDir.unsettled(runs.settings.runs_dir) == []
    run = runs.read(run_id)
    assert run.state is JobState.COMPLETED, run.error
    assert runs.output(run_id) == expected.output
    assert run.steps == expected.progress
    assert runs.asked(run_id) == expected.asked
    orders = {order.job_id for order in orders_of(runs.settings.jobs_dir, run_id)}
    assert {path.name for path in runs.settings.jobs_dir.iterdir()} == orders
    assert {path.name for path in runs.results(run_id).asks.iterdir()} == orders
    assert {path.name for path in runs.settings.results_dir.iterdir()} == {run_id}
    assert kinds_of_files(runs.settings) == expected.files


def survive(
    runs: SmallRuns, name: str, root: Path, crashes: Crashes, expected: Undisturbed, die_at: int
) -> None:
    """Die before one step, and go on."""
    root.mkdir()
    own = runs.elsewhere(data=str(root / "data"))
    own.table.redis.flushall()
    own.table.reap(1)  # a keeper was there before, or the next one would wait until it judges
    taken = crashes.run(own.settings, name, root, die_at)
    assert len(taken) <= die_at, "it outlived its death"  # it tells its news a little less often
    run = recover(own, name)
    sweep_a_day_later(own.settings)
    check(own, run.run_id, expected)
    own.table.redis.flushall()  # Redis is wiped as well: the disk says the same
    rebuild_all(own.settings, own.table)
    check(own, run.run_id, expected)
    shutil.rmtree(root)


def deaths_of(steps: list[str], every: bool) -> list[int]:
    """Choose before which steps to die: all, or some from the first to the last."""
    stride = 1 if every else len(steps) // SAMPLED
    return list(range(0, len(steps), stride))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_recovered_runs_are_held_to_is_right(
    runs: SmallRuns, tmp_path: Path, crashes: Crashes, name: str
) -> None:
    """The kinds of steps are counted: whoever drops an fsync is told here."""
    found = undisturbed(runs, name, tmp_path, crashes)
    column, values = OUTPUT[name]
    rows = {row["number"]: msgspec.json.decode(row[column]) for row in found.output}
    assert rows == values
    assert len(found.output) == len(values)
    assert len({kind(step) for step in found.steps}) == NUM_KINDS[name]
    assert len(found.asked) == len(set(found.asked)) == NUM_ASKED[name]


@pytest.mark.parametrize("every", [pytest.param(True, marks=pytest.mark.soak), False])
@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_run_survives_a_kill_at_every_step(
    runs: SmallRuns, tmp_path: Path, crashes: Crashes, name: str, every: bool
) -> None:
    expected = undisturbed(runs, name, tmp_path, crashes)
    for die_at in deaths_of(expected.steps, every):
        try:
            survive(runs, name, tmp_path / f"{die_at}", crashes, expected, die_at)
        except AssertionError as error:
            error.add_note(f"after a death before step {die_at}: {expected.steps[die_at]}")
            raise
