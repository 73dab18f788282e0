"""What clients may send to be generated: OpenAI's two requests. Knows no engine, no queue."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from ..jobs.frames import Priority
from ..jobs.response_format import structured_outputs_of
from ..jobs.tool_use import ToolUse, tool_use_of
from .body_hints import OR_TEXT, PROMPTS, within
from .errors import InvalidRequest
from .message_schemas import ChatMessage, not_too_long
from .strict import Strict

MAX_PROMPTS = 128
MAX_MESSAGES = 4096
MAX_STOP_CHARS = 1024
MAX_TOKEN_ID = 2**31 - 1
MAX_SAMPLED_TOKENS = 1 << 16  # over all samples of a prompt; a single one may fill its window

Prompt = str | tuple[int, ...]  # text, or token ids


def _as_stop_strings(value: Any) -> Any:
    """Bring the spellings of `stop` into one. Every step of the engine looks for these strings."""
    strings = [value] if isinstance(value, str) else value
    if isinstance(strings, list):
        for text in strings:
            if isinstance(text, str) and len(text) > MAX_STOP_CHARS:
                raise ValueError(f"strings may have at most {MAX_STOP_CHARS} characters")
    return strings


class StreamOptions(Strict):
    """What a stream should carry beside the text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # pads frames against eavesdroppers; we send none


ShortText = Annotated[str, Field(max_length=512)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], ShortText],
    Field(max_length=16),
]


class GenerationRequest(Strict):
    """What chat and completions have in common."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    # These reach SamplingParams under their own names; it checks the ranges told here.
    n: Annotated[int | None, within(1, 128)] = None
    temperature: Annotated[float | None, within(0, 2)] = None
    top_p: Annotated[float | None, within(above=0, high=1)] = None
    presence_penalty: Annotated[float | None, within(-2, 2)] = None
    frequency_penalty: Annotated[float | None, within(-2, 2)] = None
    seed: int | None = None
    stop: Annotated[list[str] | None, BeforeValidator(_as_stop_strings), OR_TEXT] = None
    max_tokens: Annotated[int | None, within(1)] = None
    # The same, known from vLLM.
    top_k: Annotated[int | None, within(-1)] = None
    min_p: Annotated[float | None, within(0, 1)] = None
    min_tokens: Annotated[int | None, within(0)] = None
    ignore_eos: bool | None = None
    stop_token_ids: list[int] | None = None
    repetition_penalty: Annotated[float | None, within(0.01, 10)] = None
    bad_words: list[str] | None = None
    allowed_token_ids: list[int] | None = None
    logit_bias: dict[str, float] | None = None
    structured_outputs: dict[str, Any] | None = None
    repetition_detection: dict[str, Any] | None = None
    # OpenAI's way of saying `structured_outputs`.
    response_format: dict[str, Any] | None = None

    # Labels and hints: leaving them aside changes no answer.
    user: ShortText | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    safety_identifier: ShortText | None = None
    prompt_cache_key: ShortText | None = None
    # Whoever asks for "flex" or "batch" waits with the rows of jobs, and gets no reserved room.
    service_tier: Literal["auto", "default", "flex", "batch"] | None = None

    sampling_names: ClassVar[tuple[str, ...]] = (
        "n",
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "seed",
        "stop",
        "max_tokens",
        "top_k",
        "min_p",
        "min_tokens",
        "ignore_eos",
        "stop_token_ids",
        "repetition_penalty",
        "bad_words",
        "allowed_token_ids",
        "logit_bias",
        "structured_outputs",
        "repetition_detection",
    )

    @model_validator(mode="after")
    def _check_stream(self) -> "GenerationRequest":
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("stream_options needs stream=true", param="stream_options")
        return self

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a frame that tells the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def priority(self) -> int:
        """How urgent it is among all that the engine has to do."""
        return Priority.BULK if self.tier in ("flex", "batch") else Priority.INTERACTIVE

    @property
    def tier(self) -> str | None:
        """The tier in which it is served; None where nothing was said about it."""
        return "default" if self.service_tier == "auto" else self.service_tier

    def sampling(self) -> dict[str, Any]:
        """Return what was said about sampling, under the names of SamplingParams."""
        values = {
            name: value
            for name in self.sampling_names
            if (value := getattr(self, name)) is not None
        }
        self._check_samples(self.max_tokens)
        form = structured_outputs_of(self.response_format)
        if form is not None:
            if self.structured_outputs is not None:
                raise InvalidRequest(
                    "send either response_format or structured_outputs, not both",
                    param="response_format",
                )
            values["structured_outputs"] = form
        return values

    def _check_samples(self, max_tokens: int | None) -> None:
        """Refuse many samples of great length, which hold the engine's room all together."""
        n = self.n or 1
        if n > 1 and n * (max_tokens or 1) > MAX_SAMPLED_TOKENS:
            raise InvalidRequest(
                f"n * max_tokens may be at most {MAX_SAMPLED_TOKENS}, got {n} * {max_tokens}; "
                "send several requests, or a job",
                param="n",
            )


class ChatRequest(GenerationRequest):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    tools: list[Any] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    # vLLM's: switches of the model's own template, such as {"enable_thinking": false}.
    chat_template_kwargs: dict[str, Any] | None = None

    not_supported: ClassVar = {
        "audio": (),
        "function_call": ("none",),
        "functions": ([],),
        "modalities": (["text"],),
        "prediction": (),
        "reasoning_effort": ("none",),
        "verbosity": ("medium",),
        "web_search_options": (),
    }

    def tool_use(self) -> ToolUse | None:
        """Return what was said about tools.

        Raises:
            InvalidSampling: something about it is wrong.
        """
        return tool_use_of(self.tools, self.tool_choice, self.parallel_tool_calls)

    def sampling(self) -> dict[str, Any]:
        """Return what was said about sampling; without a limit the answer may fill the window."""
        values = {"max_tokens": None, **super().sampling()}
        if self.max_completion_tokens is not None:
            if self.max_tokens not in (None, self.max_completion_tokens):
                raise InvalidRequest(
                    "max_tokens and max_completion_tokens differ; send only one of them",
                    param="max_tokens",
                )
            values["max_tokens"] = self.max_completion_tokens
            self._check_samples(self.max_completion_tokens)
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs needs logprobs=true", param="top_logprobs")
        if self.logprobs:
            values["logprobs"] = self.top_logprobs or 0
        return values


def as_prompts(value: Any, limit: int) -> list[Prompt]:
    """Bring OpenAI's four spellings of `prompt` into a list of texts and token ids."""
    if isinstance(value, str):
        return [not_too_long(value)]
    if not isinstance(value, list) or not value:
        raise ValueError("must be a string, a list of strings, token ids, or a list of those")
    items = [value] if all(_is_int(item) for item in value) else value
    if len(items) > limit:
        raise ValueError(f"may hold at most {limit} prompts, use a job for {len(items)}")
    return [_as_prompt(item) for item in items]


def _as_prompts(value: Any) -> list[Prompt]:
    return as_prompts(value, MAX_PROMPTS)


def _as_prompt(item: Any) -> Prompt:
    if isinstance(item, str):
        return not_too_long(item)
    if not isinstance(item, list) or not item or not all(_is_int(token) for token in item):
        raise ValueError("must be a string, a list of strings, token ids, or a list of those")
    if min(item) < 0 or max(item) > MAX_TOKEN_ID:
        raise ValueError("holds a number that is no token id")
    return tuple(item)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class CompletionRequest(GenerationRequest):
    """The body of POST /v1/completions."""

    prompt: Annotated[Any, BeforeValidator(_as_prompts), PROMPTS]
    logprobs: Annotated[int | None, Field(ge=0, le=5)] = None
    echo: bool | None = None

    not_supported: ClassVar = {
        "best_of": (1,),
        "parallel_tool_calls": (True, False),
        "suffix": ("",),
    }

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts, each as text or as token ids."""
        return self.prompt

    def sampling(self) -> dict[str, Any]:
        """Return what was said about sampling; here `logprobs` is a number already."""
        values = super().sampling()
        if self.logprobs is None:
            return values
        values["logprobs"] = self.logprobs
        if self.echo:
            if (self.n or 1) > 1:
                raise InvalidRequest("echo with logprobs takes n=1", param="n")
            values["prompt_logprobs"] = self.logprobs
        return values
