"""What clients may send to POST /v1/embeddings. Knows no engine."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from .body_hints import PROMPTS
from .generation_schemas import ShortText
from .prompt_schemas import Prompt, as_prompts
from .strict import Strict

MAX_INPUTS = 2048  # as at OpenAI


def _as_inputs(value: Any) -> list[Prompt]:
    return as_prompts(value, MAX_INPUTS)


class EmbeddingRequest(Strict):
    """The body of POST /v1/embeddings."""

    model: str
    """The model that is asked, as `/v1/models` names it."""
    input: Annotated[Any, BeforeValidator(_as_inputs), PROMPTS]
    """A text, a list of token ids, or up to 2,048 of either."""
    encoding_format: Literal["float", "base64"] | None = None
    """`float` for lists of numbers, which null means too; `base64` for little-endian float32."""
    dimensions: Annotated[int | None, Field(ge=1)] = None
    """How many numbers a vector has, where the model can be cut; null is its own number."""
    user: ShortText | None = None
    """A label of the client's; accepted and ignored."""
