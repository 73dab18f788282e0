"""What chats and completions have in common: how tokens are drawn, and in which form they come.

Knows neither of the two, no engine and no queue.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from ..jobs.frames import Priority
from ..jobs.response_format import structured_outputs_of
from .body_hints import OR_TEXT, within
from .errors import InvalidRequest
from .strict import Strict

MAX_STOP_CHARS = 1024
MAX_SAMPLED_TOKENS = 1 << 16  # over all samples of a prompt; a single one may fill its window


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
    """Whether a last frame before `[DONE]` tells the usage; null means false."""
    include_obfuscation: bool | None = None  # pads frames against eavesdroppers; we send none
    """Accepted and ignored: it pads frames against eavesdroppers, and we send no padding."""


ShortText = Annotated[str, Field(max_length=512)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], ShortText],
    Field(max_length=16),
]


class GenerationRequest(Strict):
    """What chat and completions have in common."""

    model: str
    """The model that is asked, as `/v1/models` names it."""
    stream: bool | None = None
    """Whether the answer comes as server-sent events while it is made; null means false."""
    stream_options: StreamOptions | None = None
    """What a stream carries beside the text; it needs `stream`."""

    # These reach SamplingParams under their own names; it checks the ranges told here.
    n: Annotated[int | None, within(1, 128)] = None
    """How many answers to each prompt; null means 1. `n * max_tokens` may be at most 65,536 where n
    is above 1.
    """
    temperature: Annotated[float | None, within(0, 2)] = None
    """How freely tokens are drawn; 0 takes the likeliest, null means 1."""
    top_p: Annotated[float | None, within(above=0, high=1)] = None
    """Draw only from the likeliest tokens that together have this probability; null means 1, all of
    them.
    """
    presence_penalty: Annotated[float | None, within(-2, 2)] = None
    """Taken off the logit of each token that the answer holds already; null means 0."""
    frequency_penalty: Annotated[float | None, within(-2, 2)] = None
    """Taken off the logit of a token as often as the answer holds it; null means 0."""
    seed: int | None = None
    """Makes what is drawn repeatable; null draws anew each time."""
    stop: Annotated[list[str] | None, BeforeValidator(_as_stop_strings), OR_TEXT] = None
    """Up to 16 texts of up to 1,024 characters; the answer ends before the first that comes up."""
    max_tokens: Annotated[int | None, within(1)] = None
    """The most tokens of each answer. Null is the rest of the context for chats, and 16 for
    completions.
    """
    # The same, known from vLLM.
    top_k: Annotated[int | None, within(-1)] = None
    """Draw only from so many of the likeliest tokens; null, 0 and -1 mean all of them."""
    min_p: Annotated[float | None, within(0, 1)] = None
    """Draw only tokens with at least this share of the likeliest one's probability; null means 0.
    """
    min_tokens: Annotated[int | None, within(0)] = None
    """How many tokens come before an answer may end by itself; null means 0."""
    ignore_eos: bool | None = None
    """Whether to go on behind the token that ends a text; null means false."""
    stop_token_ids: list[int] | None = None
    """Tokens that end the answer, like the model's own."""
    repetition_penalty: Annotated[float | None, within(0.01, 10)] = None
    """Above 1, makes tokens of the prompt and of the answer less likely; null means 1."""
    bad_words: list[str] | None = None
    """Up to 1,024 texts that the answer never completes."""
    allowed_token_ids: list[int] | None = None
    """The only tokens that may be drawn, up to 1,048,576 of them; null means all."""
    logit_bias: dict[str, float] | None = None
    """Token ids, as strings, to numbers from -100 to 100 that are added to their logits; up to
    1,024.
    """
    structured_outputs: dict[str, Any] | None = None
    """The form of the answer, as in vLLM: one of `json`, `regex`, `choice`, `grammar` and
    `json_object`. Not beside `response_format`.
    """
    repetition_detection: dict[str, Any] | None = None
    """Ends an answer that goes round in circles, as in vLLM: `max_pattern_size`, `min_pattern_size`
    and `min_count`, in tokens and times.
    """
    # OpenAI's way of saying `structured_outputs`.
    response_format: dict[str, Any] | None = None
    """The form of the answer, as at OpenAI: an object of type `text`, `json_object` or
    `json_schema`.
    """

    # Labels and hints: leaving them aside changes no answer.
    user: ShortText | None = None
    """A label of the client's; accepted and ignored."""
    metadata: Metadata | None = None
    """Labels of the client's; accepted and ignored."""
    store: bool | None = None
    """Accepted and ignored: chats and completions are not kept."""
    safety_identifier: ShortText | None = None
    """A label of the client's; accepted and ignored."""
    prompt_cache_key: ShortText | None = None
    """Accepted and ignored: what prompts share is found without it."""
    # Whoever asks for "flex" or "batch" waits with the rows of jobs, and gets no reserved room.
    service_tier: Literal["auto", "default", "flex", "batch"] | None = None
    """With `flex` or `batch` it waits with the rows of jobs; null, `auto` and `default` go before
    them.
    """

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
