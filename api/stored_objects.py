"""What is kept under OpenAI's names, files and batches and endpoints, for the OpenAPI document.

Knows shapes, makes none of them. What is generated: see `openai_objects`.
"""

from typing import Literal

from .described import Described
from .openai_objects import CachedTokens
from .shared_objects import Page


class File(Described):
    """A file that is kept."""

    id: str
    """By which requests name it."""
    object: Literal["file"]
    """What this is."""
    bytes: int
    """How many bytes it has."""
    created_at: int
    """When it was made, in seconds since 1970."""
    expires_at: int | None
    """Until when it is kept, in seconds since 1970; null for ever."""
    filename: str
    """What it is called."""
    purpose: str
    """What it is for; `batch_output` is what batches have made."""
    status: Literal["processed"]
    """Always `processed`."""
    status_details: None
    """Always null."""


class FileList(Page):
    """A page of files."""

    data: list[File]
    """The files of this page."""


class Upload(Described):
    """A file that arrives in parts."""

    id: str
    """By which requests name it."""
    object: Literal["upload"]
    """What this is."""
    bytes: int
    """How many bytes the whole file is to have."""
    created_at: int
    """When it was made, in seconds since 1970."""
    expires_at: int
    """Until when it can be completed, in seconds since 1970."""
    filename: str
    """What the file is called."""
    purpose: str
    """What the file is for."""
    status: Literal["pending", "completed", "cancelled", "expired"]
    """How it stands."""
    file: File | None
    """The file that it has become; null before."""


class UploadPart(Described):
    """A part of an upload, that has arrived."""

    id: str
    """By which the completion names it."""
    object: Literal["upload.part"]
    """What this is."""
    created_at: int
    """When it was made, in seconds since 1970."""
    upload_id: str
    """The upload that it belongs to."""


class BatchError(Described):
    """What is wrong with a line of the input, or with all of it."""

    code: str
    """The error's code."""
    line: int | None
    """Which line of the input, from 1; null where it is none alone."""
    message: str
    """What is wrong with it."""
    param: str | None
    """Which part of it is at fault; null where it is none alone."""


class BatchErrors(Described):
    """All that is wrong with a batch."""

    object: Literal["list"]
    """What this is."""
    data: list[BatchError]
    """The errors, up to a thousand."""


class RequestCounts(Described):
    """How many lines there are, and what came of them."""

    total: int
    """How many lines there are; 0 until they have been read."""
    completed: int
    """How many were answered."""
    failed: int
    """How many have failed."""


class ReasoningTokens(Described):
    """Tokens of thought; they are not told apart here."""

    reasoning_tokens: int
    """Always 0."""


class BatchUsage(Described):
    """What a batch took so far."""

    input_tokens: int
    """Tokens of all prompts."""
    input_tokens_details: CachedTokens
    """How many of those were known from before."""
    output_tokens: int
    """Tokens of all answers."""
    output_tokens_details: ReasoningTokens
    """How many of those were thought."""
    total_tokens: int
    """Both together."""


class BatchJobs(Described):
    """The jobs that do a batch's work."""

    job_ids: list[str]
    """Their ids, one for each model; empty until the lines have been read."""
    status_reason: str | None
    """What holds it up, a code first; null where nothing does, and once it has ended."""


class Batch(Described):
    """A batch, as it stands; times are seconds since 1970."""

    id: str
    """By which requests name it."""
    object: Literal["batch"]
    """What this is."""
    endpoint: str
    """Where every line's request goes."""
    model: str | None
    """Always null: each line names its own."""
    errors: BatchErrors | None
    """What is wrong with its input; null where nothing is."""
    input_file_id: str
    """The file with the requests."""
    completion_window: str
    """By when it had to end, as it was asked for."""
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
    """How it stands; `finalizing` never comes up here."""
    output_file_id: str | None
    """The file with the answers; null until it has ended, and where there are none."""
    error_file_id: str | None
    """The file with the requests that failed; null until it has ended, and where there are none."""
    created_at: int
    """When it was made, in seconds since 1970."""
    expires_at: int
    """By when it has to end, in seconds since 1970."""
    in_progress_at: int | None
    """When its lines had been read, and were good, in seconds since 1970; null where that is not
    so.
    """
    finalizing_at: int | None
    """When its files began to be written, in seconds since 1970; null where that is not so."""
    cancelling_at: int | None
    """When somebody cancelled it, in seconds since 1970; null where that is not so."""
    completed_at: int | None
    """When it completed, in seconds since 1970; null where that is not so."""
    failed_at: int | None
    """When it failed, in seconds since 1970; null where that is not so."""
    expired_at: int | None
    """When its time was over, in seconds since 1970; null where that is not so."""
    cancelled_at: int | None
    """When its cancellation was done with, in seconds since 1970; null where that is not so."""
    request_counts: RequestCounts
    """Its lines, by what came of them."""
    usage: BatchUsage
    """What it took so far."""
    metadata: dict[str, str] | None
    """The labels that it was given; null for none."""
    penstock: BatchJobs
    """What OpenAI's batches do not tell."""


class BatchList(Page):
    """A page of batches."""

    data: list[Batch]
    """The batches of this page."""


class WebhookEndpoint(Described):
    """Somebody who is told of events."""

    id: str
    """By which requests name it."""
    object: Literal["webhook_endpoint"]
    """What this is."""
    name: str
    """What people call it."""
    url: str
    """Where events are sent."""
    event_types: list[str]
    """Of which events it is told."""
    signing_secret_hint: str
    """How its secret begins and ends."""
    created_at: int
    """When it was made, in seconds since 1970."""
    updated_at: int
    """When it was changed last, in seconds since 1970."""


class NewWebhookEndpoint(WebhookEndpoint):
    """The same with its secret, which is told only now."""

    signing_secret: str
    """The secret, with which what is sent is signed."""


class WebhookEndpointList(Page):
    """A page of webhook endpoints."""

    data: list[WebhookEndpoint]
    """The endpoints of this page."""


class WebhookTest(Described):
    """What an endpoint answered to a sample of an event."""

    object: Literal["webhook_endpoint.test"]
    """What this is."""
    webhook_endpoint_id: str
    """Which endpoint it was."""
    event_type: str
    """Of which kind the sample was."""
    status_code: int
    """The HTTP status that it answered with."""
    success: Literal[True]
    """Always true: the sample was sent; whether it was liked, the status tells."""


class WebhookEventTypes(Described):
    """What endpoints may ask to be told of."""

    object: Literal["list"]
    """What this is."""
    data: list[str]
    """The kinds of events."""
