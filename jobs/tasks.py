"""The three tasks, and how each is sent. Knows what goes into a message: references, no prompts of
bulk jobs, and nothing of either that Flower would show.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from celery import Task

from .events import DONE, STATUS, JobEvents
from .frames import InteractiveRequest
from .job_table import JobTable
from .landing import num_shard_rows
from .manifest import finalize
from .model import JobSpec, ShardRef
from .redis_client import connect
from .settings import Settings

if TYPE_CHECKING:
    from kombu.messaging import Producer

    from .app import PenstockApp

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


def register_tasks(app: "PenstockApp") -> None:
    """Make the tasks known to an application."""
    expected = (ShardReturned, RequestFailed)  # told in one line, without a traceback
    app.task(_engine_task, bind=True, name=GENERATE, throws=expected)
    app.task(_engine_task, bind=True, name=INTERACTIVE, throws=expected)
    app.task(_finalize_task, bind=True, name=FINALIZE, ignore_result=True)


def send_shards(
    app: "PenstockApp", spec: JobSpec, indexes: Sequence[int], producer: "Producer | None" = None
) -> None:
    """Publish one hint per shard to the bulk lane of the job's model."""
    lane = app.lane("bulk", spec.task.model)
    for index in indexes:
        app.send_task(
            GENERATE,
            kwargs={
                "job_id": spec.job_id,
                "index": index,
                "rows": num_shard_rows(spec, index),  # what it takes of a worker's credit
            },
            queue=lane,
            argsrepr="",
            kwargsrepr=shard_title(spec, index),
            producer=producer,
        )


def send_request(app: "PenstockApp", request: InteractiveRequest, reply_to: str) -> None:
    """Publish an interactive request; its task id is the request's id."""
    app.send_task(
        INTERACTIVE,
        kwargs={"request": msgspec.to_builtins(request), "reply_to": reply_to},
        task_id=request.request_id,
        queue=app.lane("interactive", request.model),
        argsrepr="",
        kwargsrepr=f"{request.request_id} for {request.model}",
        expires=60,
    )


def send_finalize(app: "PenstockApp", job_id: str) -> None:
    """Hint that all shards of a job have landed."""
    app.send_task(
        FINALIZE,
        kwargs={"job_id": job_id},
        queue=app.control_lane,
        argsrepr="",
        kwargsrepr=job_id,
        expires=60,  # the keeper has done it by then
    )


def shard_title(spec: JobSpec, index: int) -> str:
    """Say for people which rows a shard holds."""
    first = index * spec.shard_rows
    last = first + num_shard_rows(spec, index) - 1
    return f"{spec.job_id} shard {index + 1}/{spec.num_shards} rows {first}..{last}"


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
