"""The three tasks that workers know, and how they end. `messages` has how each is sent."""

from typing import Any

from celery import Celery, Task

from .events import DONE, STATUS, JobEvents
from .job_table import JobTable
from .manifest import finalize
from .model import ShardRef
from .redis_client import connect
from .settings import Settings

GENERATE = "penstock.generate"
INTERACTIVE = "penstock.interactive"
FINALIZE = "penstock.finalize"
ENGINE_TASKS = frozenset({GENERATE, INTERACTIVE})  # the engine runs them, no thread of the pool


class ShardReturned(Exception):
    """This worker gives a shard back unfinished; it is going to run again, here or elsewhere."""


class ShardBroken(Exception):
    """A shard cannot be run as a whole, and trying again would not help."""


class RequestFailed(Exception):
    """An interactive request ended in an error, which its caller was told."""


def register_tasks(app: Celery) -> None:
    """Make the tasks known to an application."""
    expected = (ShardReturned, RequestFailed)  # told in one line, without a traceback
    app.task(_engine_task, bind=True, name=GENERATE, throws=expected)
    app.task(_engine_task, bind=True, name=INTERACTIVE, throws=expected)
    app.task(_finalize_task, bind=True, name=FINALIZE, ignore_result=True)


def shard_of(kwargs: dict[str, Any]) -> ShardRef:
    """Read a shard's name from the arguments of `penstock.generate`."""
    return ShardRef(job_id=str(kwargs["job_id"]), index=int(kwargs["index"]))


def _engine_task(task: Task, **_: Any) -> Any:
    """Return, or raise, what the engine made of this task: it has run already."""
    app: Any = task.app
    try:
        outcome = app.outcomes.pop(task.request.id)
    except (AttributeError, KeyError):
        raise RuntimeError(
            f"{task.name} runs in the engine only: start workers with `penstock worker`"
        ) from None
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _finalize_task(task: Task, job_id: str) -> str:
    """Seal a job whose shards have all landed: manifest, `_SUCCESS`, final state. Idempotent."""
    app: Any = task.app
    with connect(app.settings) as client:
        return complete(app.settings, JobTable(client, app.keys), job_id)


def complete(settings: Settings, table: JobTable, job_id: str) -> str:
    """Seal a job if all its shards have landed, and tell its followers; returns what it is now."""
    before = table.snapshot(job_id)
    finalize(settings, table, job_id)
    snapshot = table.snapshot(job_id)
    if snapshot is None or not snapshot.state.is_final:
        return "not complete yet"
    if before is None or not before.state.is_final:
        events = JobEvents(table.redis, table.keys)
        events.publish(job_id, STATUS, {"status": snapshot.state})
        events.publish(job_id, DONE, {"status": snapshot.state})
    return str(snapshot.state)
