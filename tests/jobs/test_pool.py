"""The pool on its own: Celery's protocol played by the test, the engine process real."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from celery.app.trace import build_tracer, trace_task_ret

from penstock.jobs.app import Assignment, PenstockApp, create_app
from penstock.jobs.engine_process import Loss
from penstock.jobs.frames import REQUEST_VERSION, ShardProgress
from penstock.jobs.handle import Handle
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import TaskSpec
from penstock.jobs.pool import EnginePool
from penstock.jobs.settings import Settings
from penstock.jobs.submission import RowsSource, SubmitRequest, submit
from penstock.jobs.tasks import FINALIZE, GENERATE, INTERACTIVE

from .live import wait_for

MODEL = "fake:step_ms=1,tokens=4"


class Loop:
    """As much of Celery's event loop as the pool asks for; the test turns it."""

    def __init__(self) -> None:
        self.ready: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.ready.append(callback)

    def call_repeatedly(self, every_s: float, callback: Callable[[], None]) -> None:
        self.ready.append(callback)

    def turn(self) -> None:
        ready, self.ready = self.ready, []
        for callback in ready:
            callback()


class Told:
    """What Celery was told of one task."""

    def __init__(self, pool: EnginePool, loop: Loop) -> None:
        self._pool = pool
        self._loop = loop
        self.accepted = 0
        self.results: list[Any] = []
        self.failures: list[Any] = []

    def apply(self, name: str, task_id: str = "task-1", **kwargs: Any) -> Handle:
        app: Any = self._pool.app
        request = {
            "id": task_id,
            "task": name,
            "kwargs": kwargs,
            "args": [],
            "delivery_info": {},
            "hostname": "test",
            "kwargsrepr": "",
            "root_id": task_id,
            "parent_id": None,
            "ignore_result": True,
        }
        body = [[], kwargs, {}]
        arguments = (name, task_id, request, body, None, None)

        def target(*arguments: Any) -> Any:
            return trace_task_ret(*arguments, app=app)

        return self._pool.on_apply(
            target,
            arguments,
            {},
            accept_callback=self._accept,
            callback=self.results.append,
            error_callback=self.failures.append,
            timeout_callback=None,
            soft_timeout=None,
            timeout=None,
        )

    def wait(self) -> Any:
        def probe() -> bool:
            self._loop.turn()
            return bool(self.results or self.failures)

        wait_for(probe, "the task to end")
        return self.results[0] if self.results else self.failures[0]

    def _accept(self, pid: int, at_s: float) -> None:
        self.accepted += 1


def shards_in(pool: EnginePool) -> Sequence[ShardProgress]:
    """The shards that the engine is at, by its last report."""
    progress = pool.station.engine.progress
    assert progress is not None, "the engine has not reported yet"
    return progress.shards


@pytest.fixture
def app(settings: Settings) -> Iterator[PenstockApp]:
    app = create_app(settings, assignment=Assignment(MODEL, "worker-1"))
    app.finalize()
    for name, task in app.tasks.items():
        task.__trace__ = build_tracer(name, task, app.loader, "test", app=app)
    yield app
    app.close()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def pool(app: PenstockApp, loop: Loop) -> Iterator[EnginePool]:
    pool = EnginePool(1, app=app)
    pool.start()
    pool.register_with_event_loop(loop)
    wait_for(lambda: pool.station.engine.progress, "the engine to serve")
    yield pool
    pool.terminate()


@pytest.fixture
def told(pool: EnginePool, loop: Loop) -> Callable[[], Told]:
    return lambda: Told(pool, loop)


@pytest.fixture
def job_id(settings: Settings, table: JobTable, app: PenstockApp) -> str:
    task = TaskSpec(model=MODEL, prompt="{{ row.text }}", sampling={"max_tokens": 99})
    rows = RowsSource([{"text": "quick"}, {"text": "[[long]]"}])
    return submit(settings, table, rows, SubmitRequest(task, shard_rows=1)).spec.job_id


def test_a_shard_ends_through_celerys_own_trace(told: Any, job_id: str, table: JobTable) -> None:
    mine = told()
    mine.apply(GENERATE, job_id=job_id, index=0, rows=1)
    failed, result, runtime_s = mine.wait()
    assert (failed, result, mine.accepted) == (0, "'1 rows · 4 tokens'", 1)
    assert runtime_s > 0.003  # from taken to landed, not that of the trace
    snapshot = table.snapshot(job_id)
    assert snapshot is not None and snapshot.counts.succeeded == 1
    again = told()
    again.apply(GENERATE, "task-2", job_id=job_id, index=0, rows=1)
    assert "has landed already" in again.wait()[1]


def test_a_message_delivered_again_is_adopted(
    told: Any, job_id: str, pool: EnginePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.jobs.custody.KEPT_S", 0.0)
    first, second = told(), told()
    handle = first.apply(GENERATE, job_id=job_id, index=1, rows=1)
    wait_for(lambda: shards_in(pool), "the shard to run")
    assert second.apply(GENERATE, job_id=job_id, index=1, rows=1) is handle
    assert second.accepted == 1
    wait_for(lambda: len(shards_in(pool)) == 1, "one run")
    pool.station.engine.stop()
    pool.station.custody.engine_lost(Loss("test"))
    assert second.wait()[0] == 1 and not first.results


def test_another_message_for_a_shard_that_runs_here_is_dropped(told: Any, job_id: str) -> None:
    first, second = told(), told()
    first.apply(GENERATE, "task-1", job_id=job_id, index=1, rows=1)
    second.apply(GENERATE, "task-2", job_id=job_id, index=1, rows=1)
    assert "this worker has it already" in second.wait()[1]
    assert not first.results


def test_an_aborted_shard_goes_back(
    told: Any, job_id: str, pool: EnginePool, table: JobTable
) -> None:
    mine = told()
    handle = mine.apply(GENERATE, job_id=job_id, index=1, rows=1)
    wait_for(lambda: shards_in(pool), "the shard to run")
    handle.terminate(15)

    def is_back() -> bool:
        snapshot = table.snapshot(job_id)
        return snapshot is not None and snapshot.counts.running == 0

    wait_for(is_back, "the shard to be handed back")
    snapshot = table.snapshot(job_id)
    assert snapshot is not None and snapshot.counts.pending == 2
    assert not mine.results and not mine.failures  # Celery knows: it asked for it
    wait_for(lambda: not shards_in(pool), "the engine to be free")


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        (GENERATE, {}),
        (GENERATE, {"job_id": "job_1", "index": "many"}),
        (INTERACTIVE, {"request": {"colour": 3}}),
    ],
)
def test_a_message_nobody_understands_fails_and_is_over(
    told: Any, name: str, kwargs: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    mine = told()
    mine.apply(name, **kwargs)
    assert mine.wait()[0] == 1 and mine.accepted == 1


def test_a_request_that_cannot_be_passed_on_is_over_and_its_caller_told(
    told: Any, pool: EnginePool, app: PenstockApp, table: JobTable
) -> None:
    request = {"request_id": "chat_1", "model": MODEL, "prompt": "p", "sampling": {"top_k": 2**70}}
    mine = told()
    mine.apply(INTERACTIVE, "chat_1", request=request, reply_to="api")
    assert mine.wait()[0] == 1

    def tail() -> str:
        return str(table.redis.xrange(app.keys.tail("chat_1")))

    wait_for(lambda: "cannot be passed to the engine" in tail(), "the answer")
    wait_for(lambda: not pool.station.replies.is_busy, "the stream to be over")
    assert '"invalid_request"' in tail()


@pytest.mark.parametrize(
    "request_",
    [{"colour": 3}, {"request_id": "chat_1", "model": MODEL, "version": REQUEST_VERSION + 1}],
)
def test_who_sent_a_request_of_a_newer_version_is_told_to_try_again(
    told: Any, app: PenstockApp, table: JobTable, request_: dict[str, Any]
) -> None:
    mine = told()
    mine.apply(INTERACTIVE, "chat_1", request=request_, reply_to="api")
    assert mine.wait()[0] == 1
    tail = wait_for(lambda: table.redis.xrange(app.keys.tail("chat_1")), "the answer")
    assert "this worker" in str(tail) and '"retryable":true' in str(tail)


def test_a_hint_from_a_newer_version_is_taken_for_what_is_known_of_it(
    told: Any, job_id: str
) -> None:
    mine = told()
    mine.apply(GENERATE, job_id=job_id, index=0, rows=1, colour=3)
    assert mine.wait()[0] == 0


def test_an_unknown_job_is_over_at_once(told: Any) -> None:
    mine = told()
    mine.apply(GENERATE, job_id="job_nowhere", index=0, rows=1)
    assert "no such job" in mine.wait()[1]


def test_chores_run_beside_the_engine(told: Any, job_id: str) -> None:
    mine = told()
    mine.apply(FINALIZE, job_id=job_id)
    assert mine.wait()[:2] == (0, "'not complete yet'")


def test_credit_is_counted_in_rows(told: Any, job_id: str, pool: EnginePool) -> None:
    assert pool.has_bulk_room() and pool.has_express_room()
    told().apply(GENERATE, "task-1", job_id=job_id, index=1, rows=200)
    assert pool.has_bulk_room()  # two shards at least, whatever their size
    told().apply(GENERATE, "task-2", job_id="job_nowhere", index=0, rows=1)
    assert not pool.has_bulk_room()
    assert pool.has_express_room()
    pool.station.engine.ready = None
    assert not pool.has_bulk_room() and not pool.has_express_room()


def test_flower_sees_how_the_engine_fares(pool: EnginePool) -> None:
    info = pool.info
    assert info["model"] == MODEL and info["rows running"] == 0
    assert Path(f"/proc/{info['processes'][0]}").exists()
