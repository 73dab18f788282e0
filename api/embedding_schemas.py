"""What clients may send to POST /v1/embeddings. Knows no engine."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from .body_hints import PROMPTS
from .schemas import Prompt, ShortText, as_prompts
from .strict import Strict

MAX_INPUTS = 2048  # as at OpenAI


def _as_inputs(value: Any) -> list[Prompt]:
    return as_prompts(value, MAX_INPUTS)


class EmbeddingRequest(Strict):
    """The body of POST /v1/embeddings."""

    model: str
    input: Annotated[Any, BeforeValidator(_as_inputs), PROMPTS]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int | None, Field(ge=1)] = None
    user: ShortText | None = None
