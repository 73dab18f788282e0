"""What goes into the engine and what comes out of it, as frozen records. Knows no tensors."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from .sampling_params import SamplingParams

if TYPE_CHECKING:
    from .pooling import Pooling  # loads numpy, which clients do without


class FinishReason(StrEnum):
    """Why a sequence ended."""

    STOP = "stop"  # an end-of-text token, a stop string or a stop token
    LENGTH = "length"  # max_tokens, or the context window is full
    ABORT = "abort"  # somebody took the request back
    ERROR = "error"  # this row failed; `StepOutput.error` says how


class Priority:
    """Smaller is more urgent: interactive requests overtake bulk rows."""

    INTERACTIVE = 0
    BULK = 100


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt on its way into the engine. `request_id` is unique among live requests.

    `stream_interval` is the number of tokens between outputs: 1 tells of every token, 0 waits for
    the end, which costs the engine least. Rows of one `job` are like each other: they are put in
    an order in which they share the most, and the lengths of some foretell those of the others.
    With `pooling` a vector is asked for in place of an output, and `params` do not matter.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    params: SamplingParams
    priority: int = Priority.BULK
    cache_salt: str = ""  # prompts share cached blocks only under the same salt
    stream_interval: int = 1
    job: str = ""
    pooling: "Pooling | None" = None


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probabilities at one position; `top` holds the most likely tokens, best first."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class RequestError:
    """Why one row failed. `code` is stable for programs, `message` is for people."""

    code: str  # context_length_exceeded | invalid_request | template_error | engine_error | ...
    message: str
    param: str | None = None
    retryable: bool = False
    stage: str = "engine"  # validate | render | tokenize | engine | parse | land


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What one step added to one sample of one request. Text comes in whole characters only.

    The last output of a sample carries `finish_reason`; nothing follows it. Token counts are the
    running totals of this sample.

    Attributes:
        prompt_logprobs: one record per token of the prompt, None for the first, which nothing comes
            before. They come once, with the first output of sample 0, if they were asked for.
        stop_reason: the stop string or token id that matched, or "repetition_detected".
        pooled: the vector that was asked for in place of an output.
    """

    request_id: str
    sample_index: int
    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    error: RequestError | None = None
    num_prompt_tokens: int = 0
    num_completion_tokens: int = 0
    num_cached_tokens: int = 0  # prompt tokens that were found in the prefix cache
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None
    pooled: tuple[float, ...] | None = None
