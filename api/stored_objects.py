"""What is kept under OpenAI's names, files and batches and endpoints, for the OpenAPI document.

Knows shapes, makes none of them. What is generated: see `openai_objects`.
"""

from typing import Literal

from pydantic import BaseModel

from .openai_objects import CachedTokens, Page


class File(BaseModel):
    """A file that is kept."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"]
    status_details: None


class FileList(Page):
    """A page of files."""

    data: list[File]


class Upload(BaseModel):
    """A file that arrives in parts."""

    id: str
    object: Literal["upload"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: File | None


class UploadPart(BaseModel):
    """A part of an upload, that has arrived."""

    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str


class BatchError(BaseModel):
    """What is wrong with a line of the input, or with all of it."""

    code: str
    line: int | None
    message: str
    param: str | None


class BatchErrors(BaseModel):
    """All that is wrong with a batch."""

    object: Literal["list"]
    data: list[BatchError]


class RequestCounts(BaseModel):
    """How many lines there are, and what came of them."""

    total: int
    completed: int
    failed: int


class ReasoningTokens(BaseModel):
    """Tokens of thought; they are not told apart here."""

    reasoning_tokens: int


class BatchUsage(BaseModel):
    """What a batch took so far."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class BatchJobs(BaseModel):
    """The jobs that do a batch's work."""

    job_ids: list[str]


class Batch(BaseModel):
    """A batch, as it stands; times are seconds since 1970."""

    id: str
    object: Literal["batch"]
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating",
        "failed",
        "in_progress",
        "finalizing",
        "completed",
        "expired",
        "cancelling",
        "cancelled",
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    expires_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    cancelling_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None
    penstock: BatchJobs


class BatchList(Page):
    """A page of batches."""

    data: list[Batch]


class WebhookEndpoint(BaseModel):
    """Somebody who is told of events."""

    id: str
    object: Literal["webhook_endpoint"]
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str
    created_at: int
    updated_at: int


class NewWebhookEndpoint(WebhookEndpoint):
    """The same with its secret, which is told only now."""

    signing_secret: str


class WebhookEndpointList(Page):
    """A page of webhook endpoints."""

    data: list[WebhookEndpoint]


class WebhookTest(BaseModel):
    """What an endpoint answered to a sample of an event."""

    object: Literal["webhook_endpoint.test"]
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True]


class WebhookEventTypes(BaseModel):
    """What endpoints may ask to be told of."""

    object: Literal["list"]
    data: list[str]
