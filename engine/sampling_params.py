"""How one request wants its tokens chosen. Knows no tensors, so that the API can check with it."""

from dataclasses import dataclass, field, fields
from typing import Any, Self

from .repetition import RepetitionDetection
from .sampling_checks import (
    MAX_INTEGER,
    InvalidSampling,
    check_flag,
    check_integer,
    check_real,
    check_texts,
    items,
    shown,
)
from .structured_outputs import StructuredOutputs

__all__ = ["InvalidSampling", "RepetitionDetection", "SamplingParams", "StructuredOutputs"]

MAX_N = 128
MAX_STOP_STRINGS = 16
MAX_LOGPROBS = 20
MAX_LOGIT_BIASES = 1024
MAX_BAD_WORDS = 1024
MAX_ALLOWED_TOKENS = 1 << 20
MAX_MAX_TOKENS = 2**63 - 1  # too long for any context, which says so in better words
GREEDY_EPSILON = 1e-5  # below this a temperature means "take the most likely token"
_NESTED: dict[str, type[StructuredOutputs] | type[RepetitionDetection]] = {
    "structured_outputs": StructuredOutputs,
    "repetition_detection": RepetitionDetection,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Sampling parameters under the names that OpenAI and vLLM use.

    Checked once, when made: an instance is always valid. `top_k=0` and `top_p=1.0` switch a filter
    off, `max_tokens=None` means "up to the context window", `logprobs=k` returns the chosen
    token's log-probability and those of the k most likely ones, `prompt_logprobs=k` the same for
    the tokens of the prompt.

    `logit_bias` adds to the logits of some tokens, `bad_words` are never completed in the output,
    `allowed_token_ids` are the only ones that may be drawn (with the end-of-text token among them,
    or the output ends at `max_tokens`), `structured_outputs` is the form that the output has, and
    `repetition_detection` ends an output that goes round in circles. Wherever these are at odds
    until no token is left, the row fails and says so.

    Raises:
        InvalidSampling: a value is out of range, of the wrong type, or at odds with another.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    max_tokens: int | None = 16
    min_tokens: int = 0
    ignore_eos: bool = False
    logprobs: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    prompt_logprobs: int | None = None
    logit_bias: dict[int, float] | None = field(default=None, hash=False)
    bad_words: tuple[str, ...] = ()
    allowed_token_ids: tuple[int, ...] | None = None
    structured_outputs: StructuredOutputs | None = None
    repetition_detection: RepetitionDetection | None = None

    def __post_init__(self) -> None:
        """Check every value, and bring sequences to tuples."""
        stop = (self.stop,) if isinstance(self.stop, str) else items("stop", self.stop)
        object.__setattr__(self, "stop", stop)
        stop_token_ids = items("stop_token_ids", self.stop_token_ids)
        object.__setattr__(self, "stop_token_ids", stop_token_ids)
        check_integer("n", self.n, low=1, high=MAX_N)
        check_real("temperature", self.temperature, low=0.0, high=2.0)
        check_real("top_p", self.top_p, low=0.0, high=1.0, open_low=True)
        object.__setattr__(self, "top_k", 0 if self.top_k == -1 else self.top_k)
        check_integer("top_k", self.top_k, low=0, high=MAX_INTEGER)
        check_real("min_p", self.min_p, low=0.0, high=1.0)
        if self.seed is not None:
            check_integer("seed", self.seed, low=-(2**63), high=2**63 - 1)
        if self.max_tokens is not None:
            check_integer("max_tokens", self.max_tokens, low=1, high=MAX_MAX_TOKENS)
        check_integer("min_tokens", self.min_tokens, low=0, high=MAX_INTEGER)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidSampling(
                "min_tokens",
                f"must not exceed max_tokens={self.max_tokens}, got {shown(self.min_tokens)}",
            )
        check_flag("ignore_eos", self.ignore_eos)
        for name in ("logprobs", "prompt_logprobs"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), low=0, high=MAX_LOGPROBS)
        check_real("presence_penalty", self.presence_penalty, low=-2.0, high=2.0)
        check_real("frequency_penalty", self.frequency_penalty, low=-2.0, high=2.0)
        # Any smaller and it makes infinite logits of finite ones.
        check_real("repetition_penalty", self.repetition_penalty, low=0.01, high=10.0)
        check_texts("stop", stop, at_most=MAX_STOP_STRINGS)
        for token_id in self.stop_token_ids:
            check_integer("stop_token_ids", token_id, low=0, high=MAX_INTEGER)
        self._check_choice_of_tokens()

    def _check_choice_of_tokens(self) -> None:
        """Check what allows and forbids tokens, and bring it to one form."""
        if self.logit_bias is not None:
            object.__setattr__(self, "logit_bias", _biases(self.logit_bias))
        object.__setattr__(self, "bad_words", items("bad_words", self.bad_words))
        check_texts("bad_words", self.bad_words, at_most=MAX_BAD_WORDS)
        for word in self.bad_words:
            if not word.strip():
                raise InvalidSampling("bad_words", f"must hold more than spaces, got {shown(word)}")
        if self.allowed_token_ids is not None:
            allowed = items("allowed_token_ids", self.allowed_token_ids)
            object.__setattr__(self, "allowed_token_ids", allowed)
            if not 1 <= len(allowed) <= MAX_ALLOWED_TOKENS:
                raise InvalidSampling(
                    "allowed_token_ids",
                    f"takes from 1 to {MAX_ALLOWED_TOKENS} tokens, got {len(allowed)}",
                )
            for token_id in allowed:
                check_integer("allowed_token_ids", token_id, low=0, high=MAX_INTEGER)
        for name, kind in _NESTED.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                object.__setattr__(self, name, kind.from_mapping(value))

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is taken at every step."""
        return self.temperature < GREEDY_EPSILON

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> Self:
        """Build from plain data, as it arrives in JSON.

        Raises:
            InvalidSampling: a value is wrong, or a name is not a sampling parameter.
        """
        known = {each.name for each in fields(cls)}
        for name in values:
            if name not in known:
                raise InvalidSampling(
                    name, f"is not a sampling parameter; known: {', '.join(sorted(known))}"
                )
        return cls(**values)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data that `from_mapping` reads back to an equal instance."""
        values: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, tuple):
                value = list(value)
            elif isinstance(value, dict):  # JSON's keys are strings
                value = {str(key): item for key, item in value.items()}
            elif isinstance(value, StructuredOutputs | RepetitionDetection):
                value = value.to_mapping()
            values[each.name] = value
        return values


def _biases(values: object) -> dict[int, float] | None:
    """Return biases by token id; JSON spells the ids as strings."""
    name = "logit_bias"
    if not isinstance(values, dict):
        raise InvalidSampling(name, f"must map token ids to numbers, got {shown(values)}")
    if len(values) > MAX_LOGIT_BIASES:
        raise InvalidSampling(name, f"takes at most {MAX_LOGIT_BIASES} tokens, got {len(values)}")
    biases: dict[int, float] = {}
    for key, bias in values.items():
        is_number = isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) <= 18
        token_id: Any = int(key) if is_number else key
        if isinstance(token_id, bool) or not isinstance(token_id, int):
            raise InvalidSampling(name, f"must have token ids as keys, got {shown(key)}")
        check_integer(f"{name}.{token_id}", token_id, low=0, high=MAX_INTEGER)
        check_real(f"{name}.{token_id}", bias, low=-100.0, high=100.0)
        if token_id in biases:
            raise InvalidSampling(name, f"must name each token once, got {token_id} twice")
        biases[token_id] = bias
    return biases or None
