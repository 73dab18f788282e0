"""Log-probabilities as OpenAI's clients expect them: of chats as objects, of completions as lists.

A token here is a mapping with `token`, `logprob` and the likeliest ones in `top`. Knows no engine.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Token = Mapping[str, Any]


def token_entry(token: Token) -> dict[str, Any]:
    """Return OpenAI's object for one token; the bytes of half a character are not known here."""
    text = token["token"]
    is_whole = "\ufffd" not in text
    return {
        "token": text,
        "logprob": token["logprob"],
        "bytes": list(text.encode("utf-8")) if is_whole else None,
    }


def chat_logprobs(tokens: Sequence[Token] | None) -> dict[str, Any] | None:
    """Return what a choice of a chat has under `logprobs`; None if they were not asked for."""
    if tokens is None:
        return None
    content = [
        {**token_entry(token), "top_logprobs": [token_entry(top) for top in token["top"]]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(tokens: Sequence[Token] | None, offset: int = 0) -> dict[str, Any] | None:
    """Return the four parallel lists that completions have; text begins at character `offset`."""
    if tokens is None:
        return None
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token["token"])
    return {
        "tokens": [token["token"] for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [
            {top["token"]: top["logprob"] for top in token["top"]} or None for token in tokens
        ],
        "text_offset": offsets,
    }
