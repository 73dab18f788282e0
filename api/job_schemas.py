"""What clients may send to make a job. Knows no queue; whether the input fits is told later."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .body_hints import like
from .errors import InvalidRequest
from .generation_schemas import Metadata, ShortText
from .message_schemas import Role
from .strict import Strict

Priority = Annotated[int, Field(ge=-100, le=100)]


class JobInput(Strict):
    """Where the rows come from: a file that the server can read, one it keeps, or the request."""

    path: str | None = None
    """A file on the server's machine, or `s3://bucket/key`; it takes an admin's key."""
    file_id: str | None = None
    """A file that was sent to `/v1/files`; its name tells the format."""
    rows: list[dict[str, Any]] | None = None
    """The rows themselves, each an object that maps columns to values; the body may have 32 MiB."""


class JobOutput(Strict):
    """Where the rows go."""

    path: str
    """A directory on the server's machine, or `s3://bucket/prefix`; it takes an admin's key."""


class TemplateMessage(Strict):
    """One message of a conversation; its content is a template over the row's columns."""

    role: Role
    """Who says it; `developer` is another word for `system`."""
    content: str
    """A Jinja template; `row` holds the row's columns, as in `{{ row.text }}`."""


class JobRequest(Strict):
    """The body of POST /v1/jobs, or its part `request` when the rows come as an upload."""

    input: JobInput | None = None
    """Where the rows are, in one of three ways; left out beside an upload."""
    format: Literal["jsonl", "parquet", "csv", "tsv"] | None = None
    """How the input is written; null tells it from its name and its first bytes."""
    name: ShortText | None = None
    """What people call it; it means nothing to the queue."""
    model: str | None = None
    """The model that is asked; null takes the only one that is served."""
    prompt: str | None = None
    """A Jinja template over the row's columns, such as `Sum up: {{ row.text }}`; not beside
    `messages`. Without either, each row brings a column `prompt`, `messages` or `body` of its own.
    """
    messages: Annotated[list[TemplateMessage], Field(min_length=1)] | None = None
    """A conversation whose contents are templates; not beside `prompt`."""
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"] | None = None
    """What a row is: a chat, a plain continuation, or a text to embed. With null a prompt is a chat
    where the model has a chat template.
    """
    sampling: dict[str, Any] | None = None
    """How answers are sampled, under the names that completions use: `temperature`, `max_tokens`,
    `n`, `logprobs`, … Without `max_tokens` an answer may fill the context.
    """
    response_format: dict[str, Any] | None = None
    """The form of every answer, as for chats; a row's own outranks it."""
    tools: list[Any] | None = None
    """Functions that answers may call, as for chats; a row's own outrank them."""
    tool_choice: str | dict[str, Any] | None = None
    """Whether and which tools are called, as for chats."""
    parallel_tool_calls: bool | None = None
    """Whether an answer that must call may call several times; null means true."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Switches of the model's chat template, such as `{"enable_thinking": false}`."""
    dimensions: Annotated[int | None, Field(ge=1)] = None
    """Of the vectors, for `/v1/embeddings` alone; null is the model's own number."""
    id: str | None = None
    """The column whose values become the rows' `custom_id`. Null for none, but lines of OpenAI's
    batches bring their own.
    """
    priority: Priority | None = None
    """From -100 to 100, the larger first, up to the tenant's ceiling. Null means 0, or the ceiling
    where that is lower.
    """
    deadline: float | str | None = None
    """By when it has to end: seconds from now, a time such as `90s`, `30m`, `2h` or `7d`, or a
    moment in ISO 8601. What has not landed by then is not run. Not beside `completion_window`.
    """
    completion_window: Annotated[str | None, like("[0-9]{1,9}[smhd]")] = None
    """The same as a time from now, as in OpenAI's batches: `24h`."""
    max_error_rate: float | None = None
    """From 0 to 1: when a larger share of the rows that have ended failed, the job pauses; null
    never does.
    """
    error_rate_after: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    """How many rows must have ended before the share is judged; null means 100."""
    metadata: Metadata | None = None
    """Up to 16 labels: keys of up to 64 characters, values of up to 512. They come back with it."""
    idempotency_key: ShortText | None = None
    """Of two submissions with the same key only the first makes one, and both are answered with it.
    The header `Idempotency-Key` says the same.
    """
    output: JobOutput | None = None
    """Where the rows land; null for the server's own directory."""

    @model_validator(mode="after")
    def _check_task(self) -> "JobRequest":
        if self.prompt is not None and self.messages is not None:
            raise InvalidRequest("send either prompt or messages, not both", param="messages")
        if self.deadline is not None and self.completion_window is not None:
            raise InvalidRequest("send either deadline or completion_window", param="deadline")
        return self


class JobChange(Strict):
    """The body of PATCH /v1/jobs/{id}: what is not named stays, null takes a thing away."""

    name: ShortText | None = None
    """Another name."""
    priority: Priority | None = None
    """From -100 to 100, the larger first, up to the tenant's ceiling. Null means 0, or the ceiling
    where that is lower.
    """
    metadata: Metadata | None = None
    """Other labels, in place of all that there are; null for none."""
    deadline: float | str | None = None
    """Another deadline, as when it was submitted; null for none."""
    max_error_rate: float | None = None
    """Another share of failed rows at which it pauses, from 0 to 1; null for none."""


class RetryRequest(Strict):
    """The body of POST /v1/jobs/{id}/retry; all may be left out."""

    codes: (
        Annotated[
            list[ShortText],
            # Of an empty list `retry` says more than a schema can.
            Field(max_length=100, json_schema_extra={"minItems": 1}),
        ]
        | None
    ) = None
    """Only rows that failed with one of these error codes; null for all that did not succeed."""
    name: ShortText | None = None
    """A name for the retry; null calls it `retry of …`."""
    priority: Priority | None = None
    """Another priority, from -100 to 100; null takes that of the job."""
