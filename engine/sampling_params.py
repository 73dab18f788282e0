"""How one request wants its tokens chosen. Knows no tensors, so that the API can check with it."""

from dataclasses import dataclass, fields
from math import isfinite
from typing import Any, Self

MAX_N = 128
MAX_STOP_STRINGS = 16
MAX_LOGPROBS = 20
GREEDY_EPSILON = 1e-5  # below this a temperature means "take the most likely token"


class InvalidSampling(ValueError):
    """A sampling parameter is out of range; `param` names it."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(f"{param} {message}")
        self.param = param


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Sampling parameters under the names that OpenAI and vLLM use.

    Checked once, when made: an instance is always valid. `top_k=0` and `top_p=1.0` switch a filter
    off, `max_tokens=None` means "up to the context window", `logprobs=k` returns the chosen
    token's log-probability and those of the k most likely ones.

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

    def __post_init__(self) -> None:
        """Check every value, and bring sequences to tuples."""
        stop = (self.stop,) if isinstance(self.stop, str) else _items("stop", self.stop)
        object.__setattr__(self, "stop", stop)
        stop_token_ids = _items("stop_token_ids", self.stop_token_ids)
        object.__setattr__(self, "stop_token_ids", stop_token_ids)
        _integer("n", self.n, low=1, high=MAX_N)
        _real("temperature", self.temperature, low=0.0, high=2.0)
        _real("top_p", self.top_p, low=0.0, high=1.0, open_low=True)
        object.__setattr__(self, "top_k", 0 if self.top_k == -1 else self.top_k)
        _integer("top_k", self.top_k, low=0)
        _real("min_p", self.min_p, low=0.0, high=1.0)
        if self.seed is not None:
            _integer("seed", self.seed, low=-(2**63), high=2**63 - 1)
        if self.max_tokens is not None:
            _integer("max_tokens", self.max_tokens, low=1)
        _integer("min_tokens", self.min_tokens, low=0)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidSampling(
                "min_tokens",
                f"must not exceed max_tokens={self.max_tokens}, got {_shown(self.min_tokens)}",
            )
        if not isinstance(self.ignore_eos, bool):
            raise InvalidSampling(
                "ignore_eos", f"must be true or false, got {_shown(self.ignore_eos)}"
            )
        if self.logprobs is not None:
            _integer("logprobs", self.logprobs, low=0, high=MAX_LOGPROBS)
        _real("presence_penalty", self.presence_penalty, low=-2.0, high=2.0)
        _real("frequency_penalty", self.frequency_penalty, low=-2.0, high=2.0)
        # Any smaller and it makes infinite logits of finite ones.
        _real("repetition_penalty", self.repetition_penalty, low=0.01, high=10.0)
        if len(stop) > MAX_STOP_STRINGS:
            raise InvalidSampling(
                "stop", f"takes at most {MAX_STOP_STRINGS} strings, got {len(stop)}"
            )
        for text in stop:
            if not isinstance(text, str) or not text:
                raise InvalidSampling("stop", f"must hold non-empty strings, got {_shown(text)}")
        for token_id in self.stop_token_ids:
            _integer("stop_token_ids", token_id, low=0)

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
        known = {field.name for field in fields(cls)}
        for name in values:
            if name not in known:
                raise InvalidSampling(
                    name, f"is not a sampling parameter; known: {', '.join(sorted(known))}"
                )
        return cls(**values)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data that `from_mapping` reads back to an equal instance."""
        values: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            values[field.name] = list(value) if isinstance(value, tuple) else value
        return values


def _items(name: str, value: object) -> tuple[Any, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise InvalidSampling(name, f"must be a list, got {_shown(value)}")
    return tuple(value)


def _integer(name: str, value: object, *, low: int, high: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidSampling(name, f"must be an integer, got {_shown(value)}")
    if value < low:
        raise InvalidSampling(name, f"must be at least {low}, got {_shown(value)}")
    if high is not None and value > high:
        raise InvalidSampling(name, f"must be at most {high}, got {_shown(value)}")


def _real(name: str, value: object, *, low: float, high: float, open_low: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidSampling(name, f"must be a number, got {_shown(value)}")
    if isinstance(value, float) and not isfinite(value):
        raise InvalidSampling(name, f"must be finite, got {value}")
    if value > high or value < low or (open_low and value == low):
        span = f"above {low:g} and at most {high:g}" if open_low else f"from {low:g} to {high:g}"
        raise InvalidSampling(name, f"must be {span}, got {_shown(value)}")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes out no integer of more than 4300 digits
        return "a number too long to show"
    return text if len(text) <= 40 else text[:37] + "..."
