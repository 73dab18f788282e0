"""Bytes on disk as a quota: whoever stores too much gets nothing more begun, until it may again."""

import time
from collections.abc import Iterator

import msgspec
import pytest

from penstock.jobs.app import PenstockApp, create_app
from penstock.jobs.feeder import Feeder
from penstock.jobs.job_table import JobTable
from penstock.jobs.keeper import Keeper
from penstock.jobs.quotas import QuotaWatch
from penstock.jobs.settings import Settings
from penstock.jobs.stored_bytes import StoredBytes
from penstock.jobs.tenants import Tenants
from penstock.jobs.workers import WorkerRegister

from .idle_workers import idle_worker
from .live import wait_for
from .small_jobs import SmallJobs


@pytest.fixture
def app(settings: Settings) -> Iterator[PenstockApp]:
    app = create_app(settings)
    yield app
    app.close()


@pytest.fixture
def register(table: JobTable, monkeypatch: pytest.MonkeyPatch) -> WorkerRegister:
    """Whoever is announced lives as long as its test, however slow that is."""
    monkeypatch.setattr("penstock.jobs.workers.LIFETIME_MS", 600_000)
    register = WorkerRegister(table.redis, table.keys)
    register.announce(idle_worker("a", "fake"))
    return register


@pytest.fixture
def tenants(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Tenants:
    for module in ("tenants", "stored_bytes", "quotas"):
        monkeypatch.setattr(f"penstock.jobs.{module}._MAX_AGE_S", -1.0)
    return Tenants(settings.tenants_dir)


def test_who_stores_too_much_waits_until_it_may_have_more(
    app: PenstockApp, register: WorkerRegister, jobs: SmallJobs, tenants: Tenants
) -> None:
    feeder, table = Feeder(app, jobs.table, register), jobs.table
    tenants.change("small", {"max_stored_bytes": 1})
    first = jobs.make(40, tenant="small")
    feeder.feed()
    assert table.window(first.job_id) == 4, "nothing is held up until something is known"
    feeder.measure_stored()
    register.announce(msgspec.structs.replace(idle_worker("b", "fake"), slots=640))
    late, free = jobs.make(tenant="small"), jobs.make(tenant="free")
    feeder.feed()
    windows = [table.window(spec.job_id) for spec in (first, late, free)]
    assert windows == [4, 0, 3]
    watch = QuotaWatch(table, tenants, StoredBytes(jobs.settings, table))
    assert (watch.reason(jobs.snapshot(late)) or "").startswith("quota_bytes: the tenant small")
    assert watch.reason(jobs.snapshot(free)) is None
    tenants.change("small", {"max_stored_bytes": 10**9})
    feeder.feed()
    assert (table.window(first.job_id), table.window(late.job_id)) == (10, 3)
    assert watch.reason(jobs.snapshot(late)) is None
    assert watch.load("small").rows == 40 + 3 * 4, "shards count as whole ones"


def test_no_disk_is_looked_at_for_those_who_may_store_anything(
    jobs: SmallJobs, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = StoredBytes(jobs.settings, jobs.table)
    watch = QuotaWatch(jobs.table, tenants, stored)
    tenants.change("quick", {"max_rows": 4})
    jobs.table.issue(jobs.make(tenant="quick").job_id, 1)
    monkeypatch.setattr(stored, "of", lambda *_: pytest.fail("it is measured"))
    assert watch.load("quick").rows == 4


def test_the_keeper_looks_how_much_is_stored(
    settings: Settings, register: WorkerRegister, jobs: SmallJobs, tenants: Tenants
) -> None:
    tenants.change("small", {"max_stored_bytes": 1})
    jobs.make(100, shard_rows=1, tenant="small")  # some of it is always left
    keeper = Keeper(settings, "k")

    def has_looked() -> bool:
        register.announce(idle_worker("a", "fake"))
        keeper.step()
        time.sleep(0.01)
        return keeper._feeder._stored.known("small") > 0

    try:
        wait_for(has_looked, "a look at what is stored")
    finally:
        keeper.stop()
