"""Translates what the queue raises into answers over HTTP. Knows no route."""

import redis

from ..jobs.batch_record import UnknownBatch
from ..jobs.durable import StorageFull, is_disk_trouble
from ..jobs.errors import CorruptJob, InvalidJob, JobBusy, OverContext, UnknownJob
from ..jobs.file_store import UnknownFile
from ..jobs.inputs import UnreadableInput
from ..jobs.interactive import NoWorker, QueueUnavailable
from ..jobs.landing import CorruptPart
from ..jobs.model import InvalidSampling
from ..jobs.part_uploads import InvalidUpload, UnknownUpload
from ..jobs.public_address import RefusedAddress
from ..jobs.results import InvalidCursor
from ..jobs.webhook_endpoints import UnknownEndpoint
from .errors import (
    ApiError,
    InvalidRequest,
    JobDamaged,
    JobNotFound,
    NotFound,
    OutOfStorage,
    Unavailable,
    shown,
)

NO_WORKER_RETRY_S = 5

# What routes let pass, because it is told here.
TRANSLATED: tuple[type[Exception], ...] = (
    ApiError,
    CorruptJob,
    CorruptPart,
    InvalidCursor,
    InvalidJob,
    InvalidSampling,
    InvalidUpload,
    JobBusy,
    NoWorker,
    OSError,
    QueueUnavailable,
    StorageFull,
    RefusedAddress,
    UnknownBatch,
    UnknownEndpoint,
    UnknownFile,
    UnknownJob,
    UnknownUpload,
    UnreadableInput,
    redis.RedisError,
)


def refusal_for(error: Exception) -> ApiError:
    """Return the answer that an exception deserves; what nobody foresaw is a plain 500."""
    match error:
        case ApiError():
            return error
        case OverContext():
            return InvalidRequest(str(error), param=error.param, code="context_length_exceeded")
        case InvalidSampling() | InvalidJob() | InvalidCursor() | InvalidUpload():
            return InvalidRequest(str(error), param=error.param)
        case UnreadableInput():
            return InvalidRequest(str(error), param="input", code="unreadable_input")
        case UnknownJob():
            return JobNotFound(error.job_id)
        case UnknownBatch():
            message = f"No batch found with id {shown(error.batch_id)}."
            return NotFound(message, param="batch_id")
        case UnknownEndpoint():
            message = f"there is no webhook endpoint {shown(error.endpoint_id)}"
            return NotFound(message, param="webhook_endpoint_id")
        case RefusedAddress():
            return InvalidRequest(f"url: {error}", param="url")
        case UnknownFile():
            return NotFound(f"there is no file {shown(error.file_id)}", param="file_id")
        case UnknownUpload():
            return NotFound(f"there is no upload {shown(error.upload_id)}", param="upload_id")
        case JobBusy():
            return Unavailable(str(error), code="job_busy")
        case CorruptJob() | CorruptPart():
            return JobDamaged(str(error))
        case NoWorker():
            return Unavailable(str(error), code="no_worker", retry_after_s=NO_WORKER_RETRY_S)
        case redis.RedisError() | QueueUnavailable():
            # The library's text may name hosts, ports and paths; the log has it.
            return Unavailable(
                "the queue does not answer; try again soon", code="queue_unavailable"
            )
        case StorageFull():
            return OutOfStorage("the disk under the data directory is full; nothing was accepted")
        case OSError() if is_disk_trouble(error):
            return Unavailable(
                "the disk under the data directory does not answer; try again soon",
                code="storage_unavailable",
            )
        case _:
            return ApiError("internal error; the server's log tells more")
