"""What clients may send to make a job. Knows no queue; whether the input fits is told later."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .body_hints import like
from .errors import InvalidRequest
from .message_schemas import Role
from .schemas import Metadata, ShortText
from .strict import Strict

Priority = Annotated[int, Field(ge=-100, le=100)]


class JobInput(Strict):
    """Where the rows come from: a file that the server can read, one it keeps, or the request."""

    path: str | None = None
    file_id: str | None = None
    rows: list[dict[str, Any]] | None = None


class JobOutput(Strict):
    """Where the rows go."""

    path: str


class TemplateMessage(Strict):
    """One message of a conversation; its content is a template over the row's columns."""

    role: Role
    content: str


class JobRequest(Strict):
    """The body of POST /v1/jobs, or its part `request` when the rows come as an upload."""

    input: JobInput | None = None
    format: Literal["jsonl", "parquet", "csv"] | None = None
    name: ShortText | None = None
    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[TemplateMessage], Field(min_length=1)] | None = None
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"] | None = None
    sampling: dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[Any] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    dimensions: Annotated[int | None, Field(ge=1)] = None
    id: str | None = None
    priority: Priority | None = None
    deadline: float | str | None = None
    completion_window: Annotated[str | None, like("[0-9]{1,9}[smhd]")] = None
    max_error_rate: float | None = None
    error_rate_after: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    metadata: Metadata | None = None
    idempotency_key: ShortText | None = None
    output: JobOutput | None = None

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
    priority: Priority | None = None
    metadata: Metadata | None = None
    deadline: float | str | None = None
    max_error_rate: float | None = None


class RetryRequest(Strict):
    """The body of POST /v1/jobs/{id}/retry; all may be left out."""

    codes: Annotated[list[ShortText], Field(min_length=1, max_length=100)] | None = None
    name: ShortText | None = None
    priority: Priority | None = None
