"""What is generated under OpenAI's names, for the OpenAPI document.

Knows shapes, makes none of them. What is kept: see `stored_objects`.
Fields that are null at times say so; none is ever left out, but those with a default here.
"""

from typing import Any, Literal

from pydantic import Field

from .described import Described


class CachedTokens(Described):
    """Tokens of the prompt that the engine had computed before."""

    cached_tokens: int
    """How many there are."""


class TokenUsage(Described):
    """What a chat or a completion took."""

    prompt_tokens: int
    """Tokens of all prompts."""
    completion_tokens: int
    """Tokens of all answers."""
    total_tokens: int
    """Both together."""
    prompt_tokens_details: CachedTokens
    """How many of the prompts' tokens were known from before."""


FinishReason = Literal["stop", "length", "tool_calls"]


class ToolCallFunction(Described):
    """What the model called; the arguments are JSON text."""

    name: str
    """The function's name."""
    arguments: str
    """The arguments, as JSON text."""


class ToolCall(Described):
    """A call that the model wants made."""

    id: str
    """By which the message with the result names the call."""
    type: Literal["function"]
    """There are no others."""
    function: ToolCallFunction
    """What is called."""


class ChatAnswerMessage(Described):
    """What the assistant said; without content, what it called."""

    role: Literal["assistant"]
    """Who says it."""
    content: str | None
    """The text; null where the answer is nothing but calls."""
    refusal: None
    """Always null: what a model refuses, it says in the text."""
    tool_calls: list[ToolCall] = Field(default_factory=list)
    """What is called; left out where nothing is."""


class TopLogprob(Described):
    """A token and its log probability."""

    token: str
    """The token's text."""
    logprob: float
    """The natural logarithm of its probability."""
    bytes: list[int] | None
    """Its text in UTF-8, as numbers; null where it is a part of a character."""


class TokenLogprob(TopLogprob):
    """A token of the answer, and what else might have stood there."""

    top_logprobs: list[TopLogprob]
    """The likeliest tokens at this place, as many as were asked for."""


class ChatLogprobs(Described):
    """The log probabilities of an answer."""

    content: list[TokenLogprob]
    """The tokens, in their order."""
    refusal: None
    """Always null."""


class ChatChoice(Described):
    """One of `n` answers."""

    index: int
    """Which of the answers it is, from 0."""
    message: ChatAnswerMessage
    """The answer."""
    logprobs: ChatLogprobs | None
    """Log probabilities; null where they were not asked for."""
    finish_reason: FinishReason
    """Why it ended: by itself or at a `stop`, at a limit of length, or to have tools called."""


class ChatCompletion(Described):
    """The answer to a chat; a stream tells the same in `chat.completion.chunk` objects."""

    id: str
    """The answer's name."""
    object: Literal["chat.completion"]
    """What this is."""
    created: int
    """When it was made, in seconds since 1970."""
    model: str
    """The model that answered."""
    choices: list[ChatChoice]
    """The answers, `n` of them."""
    usage: TokenUsage
    """What it took."""
    service_tier: Literal["default", "flex", "batch"] = "default"
    """How it was served; left out where the request said nothing of it."""


class CompletionLogprobs(Described):
    """Four lists side by side; the first token of an echoed prompt has no probability."""

    tokens: list[str]
    """The tokens' texts."""
    token_logprobs: list[float | None]
    """The natural logarithms of their probabilities."""
    top_logprobs: list[dict[str, float] | None]
    """The likeliest tokens at each place, with theirs; null where none were asked for."""
    text_offset: list[int]
    """At which character of the text each token begins."""


class CompletionChoice(Described):
    """One continuation of one prompt."""

    index: int
    """Which of the answers it is, from 0; those to one prompt stand together."""
    text: str
    """The continuation; behind its prompt, where `echo` was said."""
    logprobs: CompletionLogprobs | None
    """Log probabilities; null where they were not asked for."""
    finish_reason: FinishReason
    """Why it ended: by itself or at a `stop`, at a limit of length, or to have tools called."""


class Completion(Described):
    """The continuations of all prompts; a stream tells the same in pieces."""

    id: str
    """The answer's name."""
    object: Literal["text_completion"]
    """What this is."""
    created: int
    """When it was made, in seconds since 1970."""
    model: str
    """The model that answered."""
    choices: list[CompletionChoice]
    """The continuations, `n` of each prompt."""
    usage: TokenUsage
    """What it took."""


class Embedding(Described):
    """The vector of one input: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"]
    """What this is."""
    index: int
    """Which of the inputs it is, from 0."""
    embedding: list[float] | str
    """The vector, in the form that was asked for."""


class EmbeddingUsage(Described):
    """What the vectors took."""

    prompt_tokens: int
    """Tokens of all inputs."""
    total_tokens: int
    """The same."""


class EmbeddingList(Described):
    """The vectors, in the order of the inputs."""

    object: Literal["list"]
    """What this is."""
    data: list[Embedding]
    """The vectors."""
    model: str
    """The model that answered."""
    usage: EmbeddingUsage
    """What they took."""


class Model(Described):
    """A model that jobs and chats may name."""

    id: str
    """By which requests name it."""
    object: Literal["model"]
    """What this is."""
    created: int
    """Since when its oldest worker runs, in seconds since 1970; 0 where none does."""
    owned_by: str
    """Always `penstock`."""
    max_model_len: int | None
    """Tokens of prompt and answer that it has room for; null where nobody knows it."""
    workers: int
    """How many workers serve it now."""


class ModelList(Described):
    """All models that are served."""

    object: Literal["list"]
    """What this is."""
    data: list[Model]
    """The models."""
    has_more: bool
    """Always false: the list is whole."""


class ModelResponse(Described):
    """OpenAI's response object; its `output` holds messages and calls."""

    id: str
    """By which it is retrieved."""
    object: Literal["response"]
    """What this is."""
    created_at: int
    """When it was made, in seconds since 1970."""
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    """How it stands; `incomplete` is one that was cut off at `max_output_tokens`, or by the
    context.
    """
    model: str
    """The model that answered."""
    output: list[dict[str, Any]]
    """Items of type `message` and `function_call`, in OpenAI's form."""
    error: dict[str, Any] | None
    """Its `code` and `message`, where it failed; else null."""
    incomplete_details: dict[str, Any] | None
    """The `reason` why it was cut off; null where it was not."""
    usage: dict[str, Any] | None
    """The tokens of input and output, in OpenAI's form; null until it has ended."""
    metadata: dict[str, str] | None
    """The client's labels."""
