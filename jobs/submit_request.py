"""What a submission says beside its input, and what speaks against it. Knows no input, no disk."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from .errors import InvalidJob, OverContext
from .job_limits import check_deadline, check_error_rate
from .model import DEFAULT_PRIORITY, EMBED, ERROR_RATE_AFTER, RejectedLine, TaskSpec
from .schema_words import check_words
from .templates import TemplateError, task_columns

MAX_COLUMNS = 1_000  # of an input
_ENDPOINTS = (None, "/v1/chat/completions", "/v1/completions", EMBED)


@dataclass(frozen=True, slots=True)
class SubmitRequest:
    """All that a submission says beside its input."""

    task: TaskSpec
    name: str | None = None
    id_column: str | None = None
    tenant: str = "default"
    priority: int = DEFAULT_PRIORITY
    out: str | None = None  # a directory or s3://bucket/prefix; default: $data/results
    metadata: dict[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    format: str | None = None
    shard_rows: int | None = None  # default: by the size of the input
    deadline_ms: int | None = None  # see `JobSpec`, for these three
    max_error_rate: float | None = None
    error_rate_after: int = ERROR_RATE_AFTER
    context_window: int | None = None  # tokens, as the model's workers say; None: there are none


def check_request(request: SubmitRequest) -> dict[str, frozenset[str]]:
    """Check what needs no input; return the columns that each template uses.

    Raises:
        InvalidJob: naming the part at fault.
        InvalidSampling: as InvalidJob, for a sampling parameter.
    """
    task = request.task
    if not task.model:
        raise InvalidJob("model", "model must be named")
    if task.prompt is not None and task.messages is not None:
        raise InvalidJob("messages", "a job takes either prompt or messages, not both")
    if task.messages is not None and not task.messages:
        raise InvalidJob("messages", "messages must hold at least one message")
    if task.endpoint not in _ENDPOINTS:
        known = ", ".join(filter(None, _ENDPOINTS))
        raise InvalidJob("endpoint", f"endpoint must be one of {known}, got {task.endpoint!r}")
    if task.endpoint == EMBED:
        _check_embedding(task)
    elif task.dimensions is not None:
        raise InvalidJob("dimensions", f"dimensions has no meaning but for {EMBED}; leave it out")
    if request.shard_rows is not None and request.shard_rows < 1:
        raise InvalidJob("shard_rows", f"shard_rows must be at least 1, got {request.shard_rows}")
    check_deadline(request.deadline_ms)
    check_error_rate(request.max_error_rate)
    params = task.sampling_params()
    if params.prompt_logprobs is not None:
        raise InvalidJob("prompt_logprobs", "prompt_logprobs cannot be landed; leave it out")
    schema = task.document_schema()
    if schema is not None:
        check_words("response_format" if task.response_format else "structured_outputs", schema)
    try:
        return task_columns(task)
    except TemplateError as error:
        param = "prompt" if task.prompt is not None else "messages"
        raise InvalidJob(param, f"the template cannot be used: {error}") from error


def check_context(request: SubmitRequest) -> None:
    """Hold the answers' length against the context, if a worker has told it.

    Raises:
        OverContext: not even an empty prompt would leave room for the longest answer.
    """
    longest, window = longest_answer(request.task), request.context_window
    if window is not None and longest is not None and longest >= window:
        raise OverContext(request.task.model, longest, window)


def longest_answer(task: TaskSpec) -> int | None:
    """Return how many tokens an answer may have; None if its context alone bounds it."""
    return None if task.endpoint == EMBED else task.sampling_params().max_tokens


def check_columns(
    request: SubmitRequest, templates: dict[str, frozenset[str]], columns: list[str]
) -> None:
    """Hold the request against the columns that the input turned out to have.

    Raises:
        InvalidJob: it names one that is not there, or there is nothing to make a prompt of.
    """
    shown = ", ".join(columns[:30]) + (", …" if len(columns) > 30 else "")
    for param, used in templates.items():
        for column in sorted(used.difference(columns)):
            raise InvalidJob(
                param,
                f"the template uses row.{column}, but the input has no column {column!r} "
                f"(columns: {shown})",
            )
    if request.id_column is not None and request.id_column not in columns:
        raise InvalidJob(
            "id", f"the input has no column {request.id_column!r} for the id (columns: {shown})"
        )
    task = request.task
    has_own = not {"prompt", "messages", "body"}.isdisjoint(columns)
    if task.prompt is None and task.messages is None and not has_own:
        raise InvalidJob(
            "prompt",
            "give a prompt or messages template, or an input with a column prompt, messages or "
            f"body (columns: {shown})",
        )


def no_usable_rows(first_rejected: RejectedLine | None) -> InvalidJob:
    """Say why no job can be made of an input that has no row; a bad line may be the cause."""
    if first_rejected is None:
        return InvalidJob(
            "input", "the input has no rows: blank lines, and the header of CSV, are none"
        )
    line, message = first_rejected.line, first_rejected.message
    return InvalidJob("input", f"the input has no usable rows: line {line} {message}")


def custom_id_of(request: SubmitRequest, row: dict[str, Any]) -> str | None:
    """Return what the row is called; one that is a batch's line says so itself."""
    if request.id_column is not None:
        return _id_text(row.get(request.id_column))
    return _id_text(row.get("custom_id")) if isinstance(row.get("body"), dict) else None


def _id_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _check_embedding(task: TaskSpec) -> None:
    """Refuse what only answers have, where vectors are asked for."""
    for name in ("messages", "sampling", "response_format", "tools", "template_options"):
        if getattr(task, name):
            raise InvalidJob(name, f"{name} has no meaning for {EMBED}; leave it out")
    if task.dimensions is not None and task.dimensions < 1:
        raise InvalidJob("dimensions", f"dimensions must be at least 1, got {task.dimensions}")
