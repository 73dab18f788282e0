"""Whether a request can run at all. Knows the model's limits, refuses to know who runs."""

from .foreign_architecture import Architecture
from .outputs import Request, RequestError
from .pooling import Pooling, PoolingKind


def refusal_of(
    request: Request, *, architecture: Architecture, context_window: int, is_taken: bool
) -> RequestError | None:
    """Return what is wrong with a request; None if nothing is.

    Args:
        request: whose parameters have been checked by themselves.
        architecture: the model's.
        context_window: tokens that one sample can reach, prompt included.
        is_taken: whether another request lives under its id.
    """
    prompt, vocab_size = request.prompt_token_ids, architecture.vocab_size
    if is_taken:
        return _refused(f"must be unique, {request.request_id!r} is running", "request_id")
    if not prompt:
        return _refused("must hold at least one token, got none")
    if min(prompt) < 0 or max(prompt) >= vocab_size:
        strange = next(i for i in prompt if not 0 <= i < vocab_size)
        return _refused(f"must hold token ids from 0 to {vocab_size - 1}, got {strange}")
    return _pooling_refusal(request.pooling, architecture) or _length_refusal(
        request, architecture, context_window
    )


def _length_refusal(
    request: Request, architecture: Architecture, context_window: int
) -> RequestError | None:
    num_tokens = len(request.prompt_token_ids)
    room_for_output = int(request.pooling is None)
    max_prompt = context_window - room_for_output
    if num_tokens <= max_prompt:
        return None
    is_models = context_window == architecture.max_position_embeddings
    by_whom = "" if is_models else " (by max_model_len or the key-value cache)"
    wish = "must leave room for an output" if room_for_output else "is too long"
    return _refused(
        # OpenAI's words, by which other people's clients know the case.
        f"{wish}: this model's maximum context length is {context_window} tokens{by_whom}, "
        f"got {num_tokens}",
        code="context_length_exceeded",
    )


def _pooling_refusal(pooling: Pooling | None, architecture: Architecture) -> RequestError | None:
    if pooling is None and architecture.num_labels:
        return _refused("must ask for scores: the model is a classifier", "pooling")
    if pooling is None:
        return None
    if pooling.kind is PoolingKind.SCORE and not architecture.num_labels:
        return _refused("must not ask for scores: the model is no classifier", "pooling")
    most = architecture.hidden_size
    if pooling.dimensions is not None and pooling.dimensions > most:
        return _refused(f"must be at most {most}, got {pooling.dimensions}", "dimensions")
    return None


def _refused(message: str, param: str = "prompt", *, code: str = "invalid_request") -> RequestError:
    return RequestError(code=code, message=f"{param} {message}", param=param, stage="validate")
