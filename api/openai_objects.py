"""What we answer under OpenAI's names, for the OpenAPI document. Knows shapes, makes none of them.

Fields that are null at times say so; none is ever left out, but those with a default here.
"""

from typing import Any, Literal

from pydantic import BaseModel


class ErrorDetail(BaseModel):
    """What was wrong, and where; `code` is for programs, `message` for people."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(BaseModel):
    """Every answer with a status of 400 or more."""

    error: ErrorDetail


class CachedTokens(BaseModel):
    """Tokens of the prompt that the engine had computed before."""

    cached_tokens: int


class TokenUsage(BaseModel):
    """What a chat or a completion took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


FinishReason = Literal["stop", "length", "tool_calls"]


class ToolCallFunction(BaseModel):
    """What the model called; the arguments are JSON text."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """A call that the model wants made."""

    id: str
    type: Literal["function"]
    function: ToolCallFunction


class ChatAnswerMessage(BaseModel):
    """What the assistant said; without content, what it called."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCall] = []


class TopLogprob(BaseModel):
    """A token and its log probability."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token of the answer, and what else might have stood there."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """The log probabilities of an answer."""

    content: list[TokenLogprob]
    refusal: None


class ChatChoice(BaseModel):
    """One of `n` answers."""

    index: int
    message: ChatAnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """The answer to a chat; a stream tells the same in `chat.completion.chunk` objects."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage
    service_tier: Literal["default", "flex", "batch"] = "default"


class CompletionLogprobs(BaseModel):
    """Four lists side by side; the first token of an echoed prompt has no probability."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One continuation of one prompt."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason


class Completion(BaseModel):
    """The continuations of all prompts; a stream tells the same in pieces."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: TokenUsage


class Embedding(BaseModel):
    """The vector of one input: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """What the vectors took."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """The vectors, in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class Model(BaseModel):
    """A model that jobs and chats may name."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int | None
    workers: int


class ModelList(BaseModel):
    """All models that are served."""

    object: Literal["list"]
    data: list[Model]
    has_more: bool


class Page(BaseModel):
    """A part of a list; `after=<last_id>` asks for what follows."""

    object: Literal["list"]
    data: list[Any]
    first_id: str | None
    last_id: str | None
    has_more: bool


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


class Deleted(BaseModel):
    """What was there, and is not any more."""

    id: str
    object: str
    deleted: Literal[True]


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


class ModelResponse(BaseModel):
    """OpenAI's response object; its `output` holds messages and calls."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    model: str
    output: list[dict[str, Any]]
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    usage: dict[str, Any] | None
    metadata: dict[str, str] | None


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
