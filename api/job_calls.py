"""What is said about jobs. Knows the REST paths and their answers; does no IO (see `talk`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias, TypedDict
from uuid import uuid4

import httpx2

from ..jobs.model import JobState, SamplingParams
from .address import in_header
from .client_errors import JobPaused
from .option_values import check_names, plain_options
from .patient_wait import wait_for_end
from .payloads import Remote, Upload
from .records import JobRecord
from .rest_paths import path_to
from .retry_policy import RetryPolicy
from .talk import Send, Talk, ask, post

OnRecord: TypeAlias = Callable[[JobRecord], None]

_ENDS_WITH_ROOM = "storage_full"  # the reason of a pause that ends by itself
_SEALING_S = 3600.0  # the server reads and checks the whole input before it answers


class SubmitOptions(TypedDict, total=False):
    """What may be said about a job beside its rows.

    Attributes:
        model: which model; may be left out where only one is served.
        prompt: a template over the row's columns, as in `Classify: {{ row.text }}`.
        messages: chat messages whose contents are templates; instead of `prompt`.
        endpoint: `/v1/completions` keeps the prompt out of the model's chat template;
            `/v1/embeddings` lands the prompt's vector in a column `embedding`.
        sampling: `SamplingParams` or fields of them, such as
            `{"temperature": 0, "max_tokens": 64}`.
        schema: a JSON Schema, or a pydantic model, that every answer follows; fills `parsed`.
        response_format: OpenAI's way of saying the same.
        tools: OpenAI's tools, which answers may call; fills `tool_calls`.
        tool_choice: `auto`, `none`, `required` or one function.
        parallel_tool_calls: whether an answer may call several times.
        chat_template_kwargs: switches of the model's chat template, such as
            `{"enable_thinking": False}`.
        dimensions: how many numbers a vector has; the model's own unless told; for
            `/v1/embeddings`.
        id: the column that becomes `custom_id`.
        name: a name for people.
        metadata: whatever the caller wants to find again.
        priority: larger is served first.
        deadline: seconds from now, a time such as `2h`, or a moment; what is late is not run.
        completion_window: the same as OpenAI says it: `24h`.
        max_error_rate: the job pauses when more of its rows failed, as in `0.05`.
        error_rate_after: how many rows must have landed before that is judged; 100 unless told.
        format: `jsonl`, `csv`, `tsv` or `parquet`, where the file's name does not tell.
        output: what receives `<job_id>/rows`: a directory of the server's machine, or
            `s3://bucket/prefix`.
        idempotency_key: the same key never makes a second job; made up if left out.
    """

    model: str | None
    prompt: str | None
    messages: Sequence[Mapping[str, str]] | None
    endpoint: str | None
    sampling: Mapping[str, Any] | SamplingParams | None
    schema: Mapping[str, Any] | type | None
    response_format: Mapping[str, Any] | None
    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    chat_template_kwargs: Mapping[str, Any] | None
    dimensions: int | None
    id: str | None
    name: str | None
    metadata: Mapping[str, str] | None
    priority: int | None
    deadline: float | str | timedelta | datetime | None
    completion_window: str | None
    max_error_rate: float | None
    error_rate_after: int | None
    format: str | None
    output: str | Path | None
    idempotency_key: str | None


def submit_job(
    rows: Upload | Remote, options: SubmitOptions, retry: RetryPolicy
) -> Talk[JobRecord]:
    """Send the rows and what to do with them; returns when the server has them on disk."""
    body = job_body(options)
    key = in_header("idempotency_key", body.pop("idempotency_key", None) or uuid4().hex)
    if isinstance(rows, Remote):
        body["input"] = {"path": rows.url}
    return (
        yield from ask(
            Send(
                "POST",
                "/v1/jobs",
                headers={"Idempotency-Key": key},
                body=body,
                upload=None if isinstance(rows, Remote) else rows,
                read_timeout_s=_SEALING_S,
            ),
            retry,
            lambda response: JobRecord.from_json(response.json()),
        )
    )


def model_of(schema: Any) -> Any:
    """Return a schema that is a pydantic model; None if it is none."""
    return schema if isinstance(schema, type) and hasattr(schema, "model_validate_json") else None


def job_body(options: SubmitOptions) -> dict[str, Any]:
    """Write options as the body of a request, which names no rows yet.

    Raises:
        TypeError: there is no such option, JSON cannot say it, or two of them say the same.
    """
    check_names(options, SubmitOptions)
    body: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    if "schema" in body:
        if "response_format" in body:
            raise TypeError("a job takes either schema or response_format, not both")
        body["response_format"] = _response_format(body.pop("schema"))
    if "output" in body:
        body["output"] = {"path": str(body["output"])}  # the server's, so not ours to resolve
    return plain_options(body)


def _response_format(schema: Any) -> dict[str, Any]:
    """Ask for documents of a schema; a pydantic model brings its own."""
    if isinstance(schema, type) and hasattr(schema, "model_json_schema"):
        name, schema = schema.__name__, schema.model_json_schema()  # pyright: ignore
    elif isinstance(schema, Mapping):
        name, schema = str(schema.get("title", "document")), dict(schema)
    else:
        raise TypeError(
            f"schema must be a JSON Schema or a pydantic model, got {type(schema).__name__}"
        )
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


def get_job(job_id: str, retry: RetryPolicy) -> Talk[JobRecord]:
    """Look at a job once."""
    return (yield from ask(Send("GET", path_to("jobs", job_id)), retry, _read_job))


def cancel_job(job_id: str, retry: RetryPolicy) -> Talk[JobRecord]:
    """Stop a job; what has landed stays."""
    return (yield from ask(post(path_to("jobs", job_id, "cancel")), retry, _read_job))


def pause_job(job_id: str, retry: RetryPolicy) -> Talk[JobRecord]:
    """Begin nothing more of a job; what runs goes on to its end."""
    return (yield from ask(post(path_to("jobs", job_id, "pause")), retry, _read_job))


def resume_job(job_id: str, retry: RetryPolicy) -> Talk[JobRecord]:
    """Let a paused job go on."""
    return (yield from ask(post(path_to("jobs", job_id, "resume")), retry, _read_job))


def delete_job(job_id: str, retry: RetryPolicy) -> Talk[None]:
    """Remove a job that has ended, with its input and its rows."""
    return (yield from ask(Send("DELETE", path_to("jobs", job_id)), retry, lambda response: None))


class JobChanges(TypedDict, total=False):
    """What can be changed about a job; None takes a name, a deadline or a rate away."""

    name: str | None
    """A name for people."""
    priority: int
    """Larger is served first."""
    metadata: Mapping[str, str]
    """Replaces what there was."""
    deadline: float | str | timedelta | datetime | None
    """Seconds from now, a time such as `2h`, or a moment."""
    max_error_rate: float | None
    """The job pauses when more of its rows failed."""


def change_job(job_id: str, changes: JobChanges, retry: RetryPolicy) -> Talk[JobRecord]:
    """Change a job; it acts at once."""
    unknown = set(changes) - set(JobChanges.__annotations__)
    if unknown:
        known = ", ".join(JobChanges.__annotations__)
        raise TypeError(f"{min(unknown)!r} of a job cannot be changed; these can: {known}")
    send = Send("PATCH", path_to("jobs", job_id), body=plain_options(changes))
    return (yield from ask(send, retry, _read_job))


def retry_job(job_id: str, codes: Sequence[str] | None, retry: RetryPolicy) -> Talk[JobRecord]:
    """Run again what failed of a job that has ended."""
    body: dict[str, list[str]] = {}
    if codes is not None:  # an empty list is no wish for every row: the server refuses it
        body["codes"] = [codes] if isinstance(codes, str) else list(codes)
    send = replace(post(path_to("jobs", job_id, "retry")), body=body, read_timeout_s=_SEALING_S)
    return (yield from ask(send, retry, _read_job))


def list_jobs(
    limit: int, after: str | None, retry: RetryPolicy, *, status: str | Sequence[str] = ()
) -> Talk[list[JobRecord]]:
    """List jobs, newest first; with `status`, only those in one of these states."""
    params: dict[str, str | int | float | list[str]] = {"limit": limit}
    params |= {"after": after} if after else {}
    params |= {"status": [status] if isinstance(status, str) else list(status)} if status else {}
    return (
        yield from ask(
            Send("GET", "/v1/jobs", params=params),
            retry,
            lambda response: [JobRecord.from_json(item) for item in response.json()["data"]],
        )
    )


def wait_for_job(
    job_id: str,
    retry: RetryPolicy,
    *,
    timeout_s: float | None = None,
    through_pauses: bool = False,
    on_record: OnRecord | None = None,
) -> Talk[JobRecord]:
    """Look at a job until it has ended. A server that is away for two minutes is borne.

    Raises:
        WaitTimedOut: the time is up; the job goes on, or pauses.
        JobPaused: it stands still until somebody resumes it, unless that is to be waited for.
    """

    def told(record: JobRecord) -> None:
        if on_record is not None:
            on_record(record)
        if pauses_for_somebody(record) and not through_pauses:
            raise JobPaused(
                f"job {job_id} pauses ({record.status_reason}): resume it, or wait with "
                "through_pauses=True",
                job_id,
            )

    def timed_out(record: JobRecord | None) -> str:
        goes_on = _how_it_goes_on(record) if record else "the server does not tell how it stands"
        return f"job {job_id} has not ended after {timeout_s:g} s; {goes_on}"

    return (
        yield from wait_for_end(
            path_to("jobs", job_id),
            _read_job,
            retry,
            timeout_s=timeout_s,
            on_look=told,
            how_it_goes_on=timed_out,
        )
    )


def pauses_for_somebody(record: JobRecord) -> bool:
    """Tell whether a job stands still, and only somebody who resumes it lets it go on."""
    is_still = record.status is JobState.PAUSED and not record.counts.running
    return is_still and not (record.status_reason or "").startswith(_ENDS_WITH_ROOM)


def _how_it_goes_on(record: JobRecord) -> str:
    if record.status is JobState.PAUSED:
        return f"it pauses ({record.status_reason})"
    return "it goes on"


def job_errors(
    job_id: str, retry: RetryPolicy, *, limit: int | None = None, code: str | None = None
) -> Talk[list[dict[str, Any]]]:
    """Fetch the rejected lines and the failed rows, of one code or of all; `limit` of either."""
    said = {"limit": limit, "code": code}
    params = {name: value for name, value in said.items() if value is not None}
    send = Send("GET", path_to("jobs", job_id, "errors"), params=params)
    return (yield from ask(send, retry, lambda response: response.json()["data"]))


def open_events(job_id: str, last_id: str | None, retry: RetryPolicy) -> Talk[httpx2.Response]:
    """Open the stream of a job's events, behind the last one seen."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    send = Send("GET", path_to("jobs", job_id, "events"), headers=headers, stream=True)
    return (yield from ask(send, retry, lambda response: response))


def _read_job(response: httpx2.Response) -> JobRecord:
    return JobRecord.from_json(response.json())
