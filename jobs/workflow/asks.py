"""What a step asks of models, and what it is answered. Shapes only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..model import RequestError


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. `key` is unique within a step's shard; the answer comes back under it.

    `body` is what `/v1/chat/completions`, `/v1/completions` or `/v1/embeddings` take (`url` says
    which), with `model` and a `seed` of its own, so that equal asks are answered alike.
    """

    key: str
    url: str
    model: str
    body: Mapping[str, Any]
    cache_key: str = ""  # of the content, where an earlier answer to it may stand; see `cache`


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered, or why there is no answer."""

    text: str | None = None
    error: RequestError | None = None
    finish_reason: str | None = None
    vector: bytes | None = None  # float32, little-endian
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    attempts: int = 0
    is_cached: bool = False  # an earlier run's, taken for an equal request


Answers = Mapping[str, Answer]
