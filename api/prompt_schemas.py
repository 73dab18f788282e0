"""The spellings of a prompt, each as text or as token ids. Knows no request that has one."""

from typing import Any

from .message_schemas import not_too_long

MAX_TOKEN_ID = 2**31 - 1

Prompt = str | tuple[int, ...]  # text, or token ids


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
