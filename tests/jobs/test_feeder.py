import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import redis

from penstock.jobs import feeder as feeder_module
from penstock.jobs.app import PenstockApp, create_app
from penstock.jobs.ending import cancel
from penstock.jobs.feeder import LEAST_SHARDS, Feeder
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.keys import Keys
from penstock.jobs.model import JobSpec, ShardRef, TaskSpec
from penstock.jobs.part_counts import PartCounts
from penstock.jobs.sealed_json import encode_sealed
from penstock.jobs.settings import Settings
from penstock.jobs.steering import change, pause, resume
from penstock.jobs.submission import RowsSource, SubmitRequest, submit
from penstock.jobs.tenants import TenantLimits, Tenants
from penstock.jobs.workers import WorkerRegister

from .idle_workers import idle_worker

MODEL = "fake:tokens=1"
Submit = Callable[..., JobSpec]


@pytest.fixture
def app(settings: Settings) -> Iterator[PenstockApp]:
    app = create_app(settings)
    yield app
    app.close()


@pytest.fixture
def register(
    redis_client: redis.Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> WorkerRegister:
    """Whoever is announced lives as long as its test, however slow that is."""
    monkeypatch.setattr("penstock.jobs.workers.LIFETIME_MS", 600_000)
    return WorkerRegister(redis_client, keys)


@pytest.fixture
def feeder(app: PenstockApp, table: JobTable, register: WorkerRegister) -> Feeder:
    return Feeder(app, table, register)


@pytest.fixture
def make_job(settings: Settings, table: JobTable) -> Submit:
    def make(num_shards: int, model: str = MODEL, **request: object) -> JobSpec:
        rows = RowsSource([{"text": "x"}] * num_shards)
        task = TaskSpec(model=model, prompt="{{ row.text }}")
        return submit(settings, table, rows, SubmitRequest(task, shard_rows=1, **request)).spec  # type: ignore[arg-type]

    return make


def test_the_queue_stays_short(
    feeder: Feeder, app: PenstockApp, table: JobTable, register: WorkerRegister, make_job: Submit
) -> None:
    spec = make_job(100)
    lane = app.lane("bulk", MODEL).name
    assert feeder.feed() == 0, "nobody serves the model yet"
    register.announce(idle_worker("a", MODEL))
    assert feeder.feed() == LEAST_SHARDS
    assert feeder.feed() == 0
    assert table.redis.llen(lane) == table.window(spec.job_id) == LEAST_SHARDS
    register.announce(idle_worker("b", MODEL))
    register.announce(idle_worker("c", "another"))
    register.announce(idle_worker("d", MODEL, is_draining=True))
    assert feeder.feed() == LEAST_SHARDS


def test_tenants_share_alike_and_so_do_their_jobs(
    feeder: Feeder, app: PenstockApp, register: WorkerRegister, make_job: Submit, table: JobTable
) -> None:
    register.announce(replaced_slots(64 * 30))
    crowd = [make_job(100, tenant="many") for _ in range(3)]
    lone = make_job(100, tenant="one")
    feeder.feed()
    queued = {spec.job_id: table.window(spec.job_id) for spec in (*crowd, lone)}
    assert queued[lone.job_id] == 30
    assert [queued[spec.job_id] for spec in crowd] == [10, 10, 10]


def test_priority_goes_first(
    feeder: Feeder, register: WorkerRegister, make_job: Submit, table: JobTable
) -> None:
    register.announce(replaced_slots(64 * 3))
    patient, urgent = make_job(100), make_job(2, priority=5)
    assert feeder.feed() == 6
    assert (table.window(urgent.job_id), table.window(patient.job_id)) == (2, 4)


def test_a_cancelled_job_gets_no_more(
    feeder: Feeder, register: WorkerRegister, make_job: Submit, table: JobTable, settings: Settings
) -> None:
    register.announce(idle_worker("a", MODEL))
    cancelled, other = make_job(10), make_job(10)
    feeder.feed()
    cancel(settings, table, cancelled.job_id)
    feeder.feed()
    assert (table.window(cancelled.job_id), table.window(other.job_id)) == (0, 4)


def test_a_lost_message_is_issued_again(
    feeder: Feeder,
    register: WorkerRegister,
    make_job: Submit,
    table: JobTable,
    app: PenstockApp,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeder_module, "_LOST_AFTER_MS", 100)
    register.announce(idle_worker("a", MODEL))
    spec = make_job(2)
    lane = app.lane("bulk", MODEL).name
    assert feeder.feed() == 2
    time.sleep(0.15)
    assert feeder.reissue() == 0, "the messages are still in the queue"
    table.redis.rpop(lane, 2)  # as a worker does that is killed in that very moment
    assert feeder.reissue() == 2
    assert feeder.feed() == 2 and table.redis.llen(lane) == 2
    assert table.window(spec.job_id) == 2


def test_a_tick_costs_no_more_for_jobs_that_wait(
    feeder: Feeder,
    register: WorkerRegister,
    make_job: Submit,
    table: JobTable,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten thousand open jobs must not be asked one by one, ten times a second."""
    monkeypatch.setattr(feeder_module, "_LOST_AFTER_MS", 3_600_000)  # what takes turns by the clock
    monkeypatch.setattr(feeder_module, "_HEAR_ALL_S", 3_600.0)

    def cost() -> int:
        before = table.redis.info("stats")["total_commands_processed"]  # pyright: ignore
        feeder.feed()
        feeder.reissue()
        table.reap(100)
        for look in (table.agenda.landing, table.agenda.blocked):
            look(0, 100)
        table.agenda.overdue(100)
        return table.redis.info("stats")["total_commands_processed"] - before  # pyright: ignore

    register.announce(idle_worker("a", MODEL))
    make_job(10)
    for _ in range(2):
        cost()
    alone = cost()
    specs = [make_job(1) for _ in range(60)]
    for spec in specs[:20]:
        pause(settings, table, spec.job_id)
    for _ in range(2):
        cost()  # it hears of them, once
    assert cost() < alone + len(specs) / 2


def test_an_urgent_job_and_a_pause_act_at_the_next_tick(
    feeder: Feeder, register: WorkerRegister, make_job: Submit, table: JobTable, settings: Settings
) -> None:
    register.announce(idle_worker("a", MODEL))
    first, second = make_job(100), make_job(100)
    change(settings, table, first.job_id, priority=1)
    assert feeder.feed() == LEAST_SHARDS
    assert table.window(first.job_id) == LEAST_SHARDS
    change(settings, table, second.job_id, priority=2)
    claimed = [table.claim(ShardRef(first.job_id, n), "a", 60_000).status for n in range(2)]
    assert claimed == ["granted"] * 2
    assert feeder.feed() == 2
    assert (table.window(first.job_id), table.window(second.job_id)) == (2, 2)
    pause(settings, table, second.job_id)
    assert feeder.feed() == 2, "what was queued of the other is taken back"
    assert (table.window(first.job_id), table.window(second.job_id)) == (4, 0)
    resume(settings, table, second.job_id)
    table.claim(ShardRef(first.job_id, 2), "a", 60_000)
    assert feeder.feed() == 1
    assert table.window(second.job_id) == 1


def test_a_publisher_without_redis_loses_nothing(
    register: WorkerRegister, make_job: Submit, table: JobTable, settings: Settings
) -> None:
    deaf = create_app(replace(settings, redis_url="redis://127.0.0.1:1/0"), socket_timeout_s=0.5)
    feeder = Feeder(deaf, table, register)
    feeder._app.settings = settings
    register.announce(idle_worker("a", MODEL))
    spec = make_job(3)
    assert feeder.feed() == 3
    assert table.window(spec.job_id) == 3  # queued, and found missing in time
    deaf.close()


def test_long_answers_count_for_more(
    feeder: Feeder, register: WorkerRegister, make_job: Submit, table: JobTable
) -> None:
    long, short = make_job(200), make_job(200)
    for spec, num_tokens in ((long, 300), (short, 100)):
        counts = PartCounts(1, 0, 0, num_tokens, 0)
        table.rebuild(spec, {0: counts}, None)
    register.announce(replaced_slots(64 * 20))
    feeder.feed()
    assert table.window(short.job_id) == 3 * table.window(long.job_id) == 30


@pytest.fixture
def tenants(settings: Settings) -> Tenants:
    return Tenants(settings.tenants_dir)


def test_tenants_share_by_weight(
    feeder: Feeder,
    register: WorkerRegister,
    make_job: Submit,
    table: JobTable,
    tenants: Tenants,
) -> None:
    tenants.change("heavy", {"weight": 3.0})
    register.announce(replaced_slots(64 * 20))
    heavy, light = make_job(100, tenant="heavy"), make_job(100, tenant="light")
    feeder.feed()
    assert (table.window(heavy.job_id), table.window(light.job_id)) == (30, 10)


def test_a_ceiling_is_in_force_for_what_was_submitted_before(
    feeder: Feeder,
    register: WorkerRegister,
    make_job: Submit,
    table: JobTable,
    tenants: Tenants,
) -> None:
    register.announce(replaced_slots(64 * 20))
    loud, calm = make_job(100, tenant="loud", priority=9), make_job(100, tenant="calm")
    tenants.change("loud", {"priority_ceiling": 0})
    feeder.feed()
    assert (table.window(loud.job_id), table.window(calm.job_id)) == (20, 20)


@pytest.mark.parametrize("limits", [{"max_rows": 5}, {"max_queued_tokens": 5 * 256}])
@pytest.mark.parametrize("is_alone", [True, False])
def test_what_is_beyond_a_quota_waits_its_turn(
    feeder: Feeder,
    register: WorkerRegister,
    make_job: Submit,
    table: JobTable,
    tenants: Tenants,
    limits: TenantLimits,
    is_alone: bool,
) -> None:
    tenants.change("small", limits)
    register.announce(replaced_slots(64 * 20))
    jobs = [make_job(100, tenant="small").job_id for _ in range(1 if is_alone else 2)]
    others = [] if is_alone else [make_job(100, tenant="big").job_id]

    def under_way() -> int:
        return sum(table.window(job_id) for job_id in jobs)

    feeder.feed()
    assert under_way() == 5
    assert [table.window(job_id) for job_id in others] == ([] if is_alone else [35])
    feeder.feed()
    assert under_way() == 5, "what is queued counts"
    ref = ShardRef(jobs[0], 0)
    claim = table.claim(ref, "w", 60_000)
    _claim(table, others, 35)
    feeder.feed()
    assert under_way() == 4, "what is leased counts"
    table.commit(ref, claim.attempt, PartCounts(1, 0, 200, 56, 0))
    _claim(table, others, 71)
    feeder.feed()
    assert under_way() == 5, "what has landed does not"


def _claim(table: JobTable, job_ids: list[str], end: int) -> None:
    for job_id in job_ids:
        for shard in range(end):
            table.claim(ShardRef(job_id, shard), "w", 60_000)


def replaced_slots(slots: int) -> "feeder_module.WorkerInfo":

    return idle_worker("big", MODEL, slots=slots)


def test_of_a_run_the_step_nearest_to_its_end_is_fed_first(
    feeder: Feeder, table: JobTable, register: WorkerRegister, make_spec: Callable[..., JobSpec]
) -> None:
    task = TaskSpec(model=MODEL, prompt="{{ row.text }}")
    early, late = (
        make_spec(num_rows=200, shard_rows=1, job_id=f"run_01A-0{depth}-0000", task=task)
        for depth in range(2)
    )
    lone = make_spec(num_rows=200, shard_rows=1, task=task)
    for spec in (early, late, lone):
        JobDir(feeder._app.settings.jobs_dir, spec.job_id).create()
        encoded = encode_sealed(spec)
        (feeder._app.settings.jobs_dir / spec.job_id / "job.json").write_bytes(encoded)
        table.create(spec)
    register.announce(replaced_slots(64 * 20))
    feeder.feed()
    windows = [table.window(spec.job_id) for spec in (early, late, lone)]
    assert windows[0] == 0
    assert windows[1] > 0
    assert abs(windows[1] - windows[2]) <= 1, "a run is given no more than any other job"
