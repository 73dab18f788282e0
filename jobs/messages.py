"""What is put into the queues: hints of a few bytes, and requests that somebody waits for.

Knows what each message says to the task that takes it, and what people are shown of it (never a
prompt). Knows no worker.
"""

from collections.abc import Sequence

import msgspec
from kombu.messaging import Producer

from .app import PenstockApp
from .frames import InteractiveRequest
from .landing import num_shard_rows
from .model import JobSpec
from .tasks import FINALIZE, GENERATE, INTERACTIVE


def send_shards(
    app: PenstockApp, spec: JobSpec, indexes: Sequence[int], producer: Producer | None = None
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


def send_request(app: PenstockApp, request: InteractiveRequest, reply_to: str) -> None:
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


def send_finalize(app: PenstockApp, job_id: str) -> None:
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
