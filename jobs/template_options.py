"""What a request may tell the model's chat template: its switches, by name. Knows no template.

A switch is a plain value, such as `enable_thinking: false`. What the renderer itself puts in (the
messages, the special tokens, another template) is not for requests to say: that way around checks
on `messages` has been found in other servers (CVE-2025-61620 and its kin).
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from ..engine.sampling_params import InvalidSampling

MAX_OPTIONS = 16
MAX_TEXT_CHARS = 256
PARAM = "chat_template_kwargs"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_RESERVED = frozenset(
    {
        *("messages", "tools", "documents", "add_generation_prompt", "continue_final_message"),
        *("conversation", "chat_template", "tokenize", "padding", "truncation", "max_length"),
        *("return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs"),
        *("raise_exception", "strftime_now"),
    }
)


def template_options_of(given: object) -> dict[str, Any]:
    """Return what `chat_template_kwargs` says; None says nothing.

    Raises:
        InvalidSampling: it is no object of switches, or names what is not its to set.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise _wrong(f"must be an object, got {type(given).__name__}")
    if len(given) > MAX_OPTIONS:
        raise _wrong(f"may hold at most {MAX_OPTIONS} switches, got {len(given)}")
    for name, value in given.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _wrong(f"holds {str(name)[:80]!r}, which is no name of a switch")
        if name in _RESERVED or name.endswith("_token"):
            raise _wrong(f"must not set {name}: the server does")
        if not _is_plain(value):
            raise _wrong(
                f"{name} must be true, false, null, a number, or text of at most "
                f"{MAX_TEXT_CHARS} characters"
            )
    return dict(given)


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_TEXT_CHARS
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int)


def _wrong(message: str) -> InvalidSampling:
    return InvalidSampling(PARAM, message)
