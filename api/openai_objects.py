"""What is generated under OpenAI's names, for the OpenAPI document, and what all objects share.

Knows shapes, makes none of them. What is kept: see `stored_objects`.
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


class Deleted(BaseModel):
    """What was there, and is not any more."""

    id: str
    object: str
    deleted: Literal[True]


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
