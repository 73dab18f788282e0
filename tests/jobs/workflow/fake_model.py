"""A model that is a function: what it says follows from what it is asked, the seed, and the try."""

import json
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, TypeAlias

from penstock.jobs.model import RequestError
from penstock.jobs.workflow.asks import Answer, Ask

Held: TypeAlias = tuple[str, ...] | Literal["document"] | None  # all that it may say


@dataclass(frozen=True)
class Said:
    text: str
    error: str | None = None
    is_transient: bool = False


def say(prompt: str, seed: int, number: int, held: Held) -> Said:
    digest = blake2b(f"{prompt}|{seed}|{number}".encode(), digest_size=8).digest()
    fate, dice = divmod(int.from_bytes(digest, "little"), 12)
    if dice == 0:
        return Said("", "engine_error", is_transient=True)
    if dice == 1:
        return Said("", "context_length_exceeded")
    score = fate % 5
    if held == "document":
        return Said(json.dumps({"score": score}))
    if held is not None:
        return Said(held[fate % len(held)])
    free = (f'{{"score": {score}}}', '{"score": "high"}', f"word {score}", "first", "red", "?")
    return Said(free[fate % len(free)])


def answer(ask: Ask) -> Answer:
    """Answer as an engine would."""
    held: Held = None
    if "response_format" in ask.body:
        held = "document"
    elif "structured_outputs" in ask.body:
        held = tuple(ask.body["structured_outputs"]["choice"])
    number = int(ask.key.partition("~")[2] or 0)
    said = say(ask.body["prompt"], ask.body["seed"], number, held)
    if said.error is not None:
        return Answer(error=RequestError(said.error, "", retryable=said.is_transient))
    return Answer(text=said.text, finish_reason="stop")
