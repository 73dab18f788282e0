"""A job is killed before each of its durable steps, one after another, and always recovers.

Every life runs in a process of its own, which dies by SIGKILL; then the client asks again with the
same key, the keeper's chores run, a worker goes on. Each time: one job, every row once, no file
that does not belong there. The steps themselves are written down here, in their order.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from unittest import mock

import pyarrow.fs as fs
import pyarrow.parquet as pq
import pytest
import redis

from penstock.jobs import publishing
from penstock.jobs.ending import cancel
from penstock.jobs.found_part import found_counts
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.keys import Keys
from penstock.jobs.landing import land
from penstock.jobs.manifest import finalize
from penstock.jobs.model import JobSpec, JobState, ShardRef, TaskSpec
from penstock.jobs.object_store import ObjectStore, StorePlace
from penstock.jobs.publishing import store_of
from penstock.jobs.reconciler import rebuild_all, reconcile, unlisted
from penstock.jobs.redis_client import connect
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.settings import Settings
from penstock.jobs.submission import RowsSource, SubmitRequest, submit
from penstock.jobs.sweep import LEFT_BEHIND_AGE_S, sweep

from .durable_steps import DurableSteps, load_scripts
from .moto_store import CREDENTIALS, s3_server
from .small_jobs import answered

NUM_ROWS = 5
SOURCE = RowsSource([{"text": f"text {row}"} for row in range(NUM_ROWS)])
REQUEST = SubmitRequest(
    TaskSpec(model="fake", prompt="{{ row.text }}"), shard_rows=4, idempotency_key="once"
)
LEASE_MS = 1  # whoever died with a shard has lost it by the time that anybody looks

SUBMITTED = """
mkdir data
fsync .
mkdir data/jobs
fsync data
mkdir data/jobs/JOB
fsync data/jobs
symlink data/jobs/JOB/results
mkdir data/results
fsync data
mkdir data/results/JOB
fsync data/results
mkdir data/results/JOB/rows
fsync data/results/JOB
mkdir data/results/JOB/_tmp
create data/jobs/JOB/input.parquet
create data/jobs/JOB/bad_lines.jsonl
write data/jobs/JOB/input.parquet
write data/jobs/JOB/input.parquet
write the footer of data/jobs/JOB/input.parquet
mkdir data/idempotency
fsync data
create data/idempotency/KEY
write data/idempotency/KEY
fsync data/idempotency/KEY
fsync data/idempotency
fsync data/jobs/JOB/input.parquet
fsync data/jobs/JOB/bad_lines.jsonl
fsync data/jobs/JOB
create data/jobs/JOB/.job.json.tmp
write data/jobs/JOB/.job.json.tmp
fsync data/jobs/JOB/.job.json.tmp
rename data/jobs/JOB/job.json
fsync data/jobs/JOB
redis create
"""
LANDED = """
redis claim
create data/results/JOB/_tmp/.part-{0}.parquet.tmp
write data/results/JOB/_tmp/.part-{0}.parquet.tmp
fsync data/results/JOB/_tmp/.part-{0}.parquet.tmp
link data/results/JOB/rows/part-{0}.parquet
fsync data/results/JOB/rows
unlink data/results/JOB/_tmp/.part-{0}.parquet.tmp
redis commit
"""
LOCKED = """
create data/jobs/JOB/.lock
"""
SEALED = """
create data/results/JOB/._manifest.json.tmp
write data/results/JOB/._manifest.json.tmp
fsync data/results/JOB/._manifest.json.tmp
rename data/results/JOB/_manifest.json
fsync data/results/JOB
create data/results/JOB/._SUCCESS.tmp
fsync data/results/JOB/._SUCCESS.tmp
rename data/results/JOB/_SUCCESS
fsync data/results/JOB
"""
TIDIED = """
rmdir data/results/JOB/_tmp
"""
PUBLISHED = """
create data/results/JOB/_published.jsonl
s3 put rows/part-000000.parquet
write data/results/JOB/_published.jsonl
s3 put rows/part-000001.parquet
write data/results/JOB/_published.jsonl
s3 put _manifest.json
s3 put _SUCCESS
"""
ENDED = """
create data/jobs/JOB/.final.json.tmp
write data/jobs/JOB/.final.json.tmp
fsync data/jobs/JOB/.final.json.tmp
link data/jobs/JOB/final.json
fsync data/jobs/JOB
unlink data/jobs/JOB/.final.json.tmp
redis finish
"""
RUN = SUBMITTED + "redis issue" + LANDED.format("000000") + LANDED.format("000001")
RUN += "fsync data/results/JOB/rows" + LOCKED + SEALED


def run_to_the_end(settings: Settings, table: JobTable) -> None:
    """What API, worker and keeper do for a job, one after another."""
    spec = submit(settings, table, SOURCE, REQUEST).spec
    work(settings, table, spec.job_id)
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED


def cancel_in_the_middle(settings: Settings, table: JobTable) -> None:
    spec = submit(settings, table, SOURCE, REQUEST).spec
    work(settings, table, spec.job_id, limit=1)
    cancel(settings, table, spec.job_id)


@dataclass(frozen=True, slots=True)
class Life:
    """What a job may go through, and the durable steps of it. It dies at all of the last ones."""

    lead: Callable[[Settings, JobTable], None]
    steps: list[str]
    num_deaths: int
    results: str | None = None


def life(
    lead: Callable[[Settings, JobTable], None],
    text: str,
    *,
    since: str | None = None,
    results: str | None = None,
) -> Life:
    """Read the steps; before the first that is called `since` it is no different from others."""
    steps = [step for step in text.split("\n") if step]
    num_deaths = len(steps) - (0 if since is None else steps.index(since))
    return Life(lead, steps, num_deaths, results)


LIVES = {
    "completed": life(run_to_the_end, RUN + TIDIED + ENDED),
    "cancelled": life(
        cancel_in_the_middle,
        SUBMITTED
        + "redis issue"
        + LANDED.format("000000")
        + LOCKED
        + ENDED
        + TIDIED
        + "redis ZADD",
        since="redis commit",
    ),
    "copied": life(
        run_to_the_end,
        RUN + PUBLISHED + TIDIED + ENDED,
        since="rename data/results/JOB/_SUCCESS",
        results="s3://crashes/out",
    ),
}


def work(settings: Settings, table: JobTable, job_id: str, limit: int = 100) -> None:
    """What a worker does with the shards that are issued."""
    spec = JobDir(settings.jobs_dir, job_id).read_spec()
    with JobDir(settings.jobs_dir, job_id).open_input() as sealed:
        for index in table.issue(job_id, limit):
            claim = table.claim(ShardRef(job_id, index), "w1", LEASE_MS)
            assert claim.status == "granted"
            counts = found_counts(ResultsDir.of(spec), index)
            if counts is None:
                rows = [answered(row) for row in sealed.shard(index)]
                counts = land(spec, index, claim.attempt, rows)
            table.commit(ShardRef(job_id, index), claim.attempt, counts)


def live(settings: Settings, name: str, root: Path, die_at: int | None, answer: Connection) -> None:
    """Lead one life in this process, and tell its steps unless it dies."""
    os.environ.update(CREDENTIALS)
    with connect(settings) as client, mock.patch.object(publishing, "_MAX_UPLOADS", 1):
        table = JobTable(client, Keys(settings.namespace))
        steps = DurableSteps(root, load_scripts(client, table), die_at)
        with steps.watched():
            LIVES[name].lead(settings, table)
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
        process.join()
        if process.exitcode == -signal.SIGKILL and die_at is not None:
            return []
        assert process.exitcode == 0, f"{name} failed by itself"
        return receiver.recv()


@pytest.fixture(scope="module")
def crashes() -> Crashes:
    return Crashes()


def recover(settings: Settings, table: JobTable) -> str:
    """What is up again does what it always does: keeper, client, worker."""
    for job_id in unlisted(settings, table):
        reconcile(settings, table, job_id)
    job_id = submit(settings, table, SOURCE, REQUEST).spec.job_id  # nobody told the client
    while not table.list()[0].state.is_final:
        table.reap(100)
        table.reissue_stale(job_id, -1, 100)
        work(settings, table, job_id)
        finalize(settings, table, job_id)
    return job_id


def sweep_a_day_later(settings: Settings) -> None:
    long_ago = time.time() - LEFT_BEHIND_AGE_S - 10
    for path in [*settings.data_dir.rglob("*")]:
        os.utime(path, (long_ago, long_ago), follow_symlinks=False)
    sweep(settings)


def check(settings: Settings, table: JobTable, job_id: str) -> None:
    """One job, its rows exactly once, and no file that does not belong to it."""
    job_dir = JobDir(settings.jobs_dir, job_id)
    (snapshot,) = table.list()
    spec, final = job_dir.read_spec(), job_dir.read_final()
    results = ResultsDir.of(spec)
    assert final is not None and snapshot.state is final.state
    expected = {job_dir.path, job_dir.input, job_dir.bad_lines, job_dir.spec, job_dir.final}
    expected |= {job_dir.results, results.path, results.rows, *results.parts().values()}
    if final.state is JobState.COMPLETED:
        expected |= {results.manifest, results.success}
        assert len(results.parts()) == spec.num_shards == 2
    if spec.out_url is not None:
        expected.add(results.published)
        check_copy(settings, spec)
    found = {*settings.jobs_dir.rglob("*"), *settings.results_dir.rglob("*")}
    found.discard(job_dir.path / ".lock")  # there once anybody has changed or ended it
    assert found == expected
    rows = [row for part in results.parts().values() for row in pq.read_table(part).to_pylist()]
    assert [row["row_index"] for row in rows] == list(range(len(rows)))
    assert snapshot.counts.succeeded == len(rows)
    assert all(row["output"] == f"answer to text {row['row_index']}" for row in rows)
    assert len(rows) == NUM_ROWS or final.state is JobState.CANCELLED


def check_copy(settings: Settings, spec: JobSpec) -> None:
    store, results = store_of(settings, spec), ResultsDir.of(spec)
    assert store is not None
    names = ["rows/part-000000.parquet", "rows/part-000001.parquet", "_manifest.json", "_SUCCESS"]
    for name in names:
        there = ObjectStore(StorePlace.parse(f"{store.place}/{name}"), settings.s3_endpoint)
        with there.open() as file:
            assert file.read() == (results.path / name).read_bytes()


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3_server() as endpoint:
        fs.S3FileSystem(endpoint_override=endpoint, allow_bucket_creation=True).create_dir(
            "crashes"
        )
        yield replace(settings, s3_endpoint=endpoint)


@pytest.mark.parametrize("name", LIVES)
def test_these_are_the_durable_steps_in_their_order(
    settings: Settings, tmp_path: Path, crashes: Crashes, name: str
) -> None:
    """Nothing is acknowledged before it is durable, and whoever drops an fsync is told here."""
    own = replace(settings, results=LIVES[name].results)
    assert crashes.run(own, name, tmp_path, None) == LIVES[name].steps


@pytest.mark.parametrize("name", LIVES)
def test_a_job_survives_a_kill_at_every_step(
    settings: Settings, redis_client: redis.Redis, tmp_path: Path, crashes: Crashes, name: str
) -> None:
    steps, num_deaths = LIVES[name].steps, LIVES[name].num_deaths
    for die_at, step in list(enumerate(steps))[-num_deaths:]:
        root = tmp_path / f"{die_at}"
        root.mkdir()
        own = replace(
            settings,
            data=str(root / "data"),
            namespace=f"{name}{die_at}",
            results=LIVES[name].results,
        )
        table = JobTable(redis_client, Keys(own.namespace))
        table.reap(1)  # a keeper was there before, or the next one would wait until it judges
        assert crashes.run(own, name, root, die_at) == [], f"it outlived {step}"
        for job_dir in JobDir.all(own.jobs_dir):  # whatever can be seen is whole
            with job_dir.open_input() as sealed:
                spec = job_dir.read_spec()
                assert sum(len(sealed.shard(i)) for i in range(spec.num_shards)) == NUM_ROWS
        job_id = recover(own, table)
        sweep_a_day_later(own)
        check(own, table, job_id)
        redis_client.flushall()  # Redis is wiped as well: the disk says the same
        rebuild_all(own, table)
        check(own, table, job_id)
