"""One key makes one job, whoever dies and whatever becomes of Redis."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from penstock.jobs.idempotency import IdempotencyKey
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.settings import Settings
from penstock.jobs.sweep import LEFT_BEHIND_AGE_S, sweep

from .conftest import JobMaker, flipped


@pytest.fixture
def key(settings: Settings) -> IdempotencyKey:
    return IdempotencyKey.of(settings, "default", "k")


def name_of(job_dir: JobDir | None) -> str | None:
    return None if job_dir is None else job_dir.job_id


def grow_old(*paths: Path) -> None:
    then_s = paths[0].stat().st_mtime - LEFT_BEHIND_AGE_S - 10
    for path in paths:
        os.utime(path, (then_s, then_s))


def test_keys_of_tenants_are_their_own(settings: Settings) -> None:
    named = [("a", "b:c"), ("a:b", "c"), ("a", "b"), ("", "a"), ("a", "")]
    assert len({IdempotencyKey.of(settings, *each).path for each in named}) == len(named)


def test_a_key_leads_to_its_job_once_that_is_sealed(
    settings: Settings, key: IdempotencyKey, make_job: JobMaker
) -> None:
    assert key.made() is None
    with key.lock() as held:
        held.bind("job_dead")  # and its maker dies here
    assert key.made() is None
    spec = make_job(idempotency_key="k")
    assert name_of(key.made()) == spec.job_id
    assert make_job(idempotency_key="k") == spec
    assert list(IdempotencyKey.all(settings)) == [key]


def test_no_byte_of_a_key_can_rot_and_make_a_second_job(
    settings: Settings, table: JobTable, key: IdempotencyKey, make_job: JobMaker
) -> None:
    spec = make_job(idempotency_key="k")
    make_job(idempotency_key="another")
    content = key.path.read_bytes()
    for place in range(len(content)):
        key.path.write_bytes(flipped(content, place))
        assert name_of(key.made()) == spec.job_id
    grow_old(key.path)
    assert sweep(settings) == 0  # it is damaged, and not nobody's
    assert make_job(idempotency_key="k") == spec
    assert len(table.list()) == 2


def test_whoever_asks_waits_for_the_job_that_is_being_made(
    key: IdempotencyKey, make_job: JobMaker
) -> None:
    answers: list[str | None] = []
    asking = threading.Thread(target=lambda: answers.append(name_of(key.made())))
    spec = make_job()
    with key.lock() as held:
        asking.start()
        held.bind(spec.job_id)
        asking.join(0.1)
        assert answers == []
    asking.join()
    assert answers == [spec.job_id]


def test_a_removed_file_is_no_lock_any_more(key: IdempotencyKey) -> None:
    """Whoever waited for it would hold a file of its own beside the next one's."""
    bound: list[bool] = []

    def bind() -> None:
        with key.lock() as held:
            held.bind("job_next")
            bound.append(key.path.exists())

    waiting = threading.Thread(target=bind)
    with key.lock() as held:
        waiting.start()
        waiting.join(0.1)
        held.free()
    waiting.join()
    assert bound == [True]


def hold_until_killed(key: IdempotencyKey, ready: Connection) -> None:
    with key.lock() as held:
        held.bind("job_dead")
        ready.send(None)
        signal.pause()


@pytest.fixture
def killed_holder(key: IdempotencyKey) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=hold_until_killed, args=(key, sender))
    process.start()
    receiver.recv()
    process.kill()
    process.join()
    yield


@pytest.mark.usefixtures("killed_holder")
def test_a_key_whose_holder_was_killed_is_free_at_once(
    key: IdempotencyKey, make_job: JobMaker
) -> None:
    assert key.path.exists()
    spec = make_job(idempotency_key="k")
    assert name_of(key.made()) == spec.job_id


def test_a_key_is_swept_with_its_job(settings: Settings, make_job: JobMaker) -> None:
    kept, removed = make_job(idempotency_key="kept"), make_job(idempotency_key="removed")
    with IdempotencyKey.of(settings, "default", "never bound").lock():
        pass
    young = IdempotencyKey.of(settings, "default", "young")
    with young.lock() as held:
        held.bind("job_dead")
    JobDir(settings.jobs_dir, removed.job_id).remove()
    grow_old(*(each.path for each in IdempotencyKey.all(settings) if each != young))
    assert sweep(settings) == 2
    left = {name_of(each.made()) for each in IdempotencyKey.all(settings)}
    assert left == {kept.job_id, None}
    assert young.path.exists()
