"""What is said to models, and about them. Knows OpenAI's shapes; does no IO (see `talk`)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import httpx2

from .client_errors import InvalidInput, PenstockError, StreamFailed
from .records import ChatAnswer, ChatDelta
from .retry_policy import RetryPolicy
from .talk import Send, Talk, ask, post, read_list

Messages: TypeAlias = str | Sequence[Mapping[str, Any]]

_GENERATING_S = 600.0


def list_models(retry: RetryPolicy) -> Talk[list[dict[str, Any]]]:
    """List the served models."""
    return (yield from ask(Send("GET", "/v1/models"), retry, read_list))


def ready_models(retry: RetryPolicy) -> Talk[list[str]]:
    """Name the models of which an engine has lately brought a row through."""
    send = Send("GET", "/readyz")
    return (yield from ask(send, retry, lambda response: response.json()["models"]))


def list_workers(retry: RetryPolicy) -> Talk[list[dict[str, Any]]]:
    """List the live workers."""
    return (yield from ask(Send("GET", "/v1/workers"), retry, read_list))


def chat(
    messages: Messages, model: str | None, sampling: Mapping[str, Any], retry: RetryPolicy
) -> Talk[ChatAnswer]:
    """Ask for a whole answer."""
    send = yield from _chat(messages, model, sampling, retry)
    return (yield from ask(send, retry, lambda response: ChatAnswer.from_json(response.json())))


def open_chat(
    messages: Messages, model: str | None, sampling: Mapping[str, Any], retry: RetryPolicy
) -> Talk[httpx2.Response]:
    """Ask for an answer that arrives piece by piece."""
    send = yield from _chat(messages, model, dict(sampling) | {"stream": True}, retry)
    return (yield from ask(replace(send, stream=True), retry, lambda response: response))


def read_chat_event(event: httpx2.ServerSentEvent) -> ChatDelta | None:
    """Read one frame of a streamed answer; None is its proper end.

    Raises:
        StreamFailed: the server sent an error in-band.
    """
    if event.data == "[DONE]":
        return None
    data = json.loads(event.data)
    if "error" in data:
        raise StreamFailed(data["error"]["message"], data["error"].get("code"))
    return ChatDelta.from_json(data)


def as_messages(said: Messages) -> list[Mapping[str, Any]]:
    """Take a conversation; a text is one message of the user's.

    Raises:
        InvalidInput: it is neither.
    """
    if isinstance(said, str):
        return [{"role": "user", "content": said}]
    if not isinstance(said, Sequence) or isinstance(said, bytes):
        raise InvalidInput(f"ask with a text or a list of messages, got {type(said).__name__}")
    for number, message in enumerate(said, start=1):
        if not isinstance(message, Mapping):
            raise InvalidInput(
                f"message {number} must be a dict, as in {{'role': 'user', 'content': …}}, got "
                f"{type(message).__name__}"
            )
    return list(said)


def _chat(
    messages: Messages, model: str | None, sampling: Mapping[str, Any], retry: RetryPolicy
) -> Talk[Send]:
    """Make the request of a chat; without a model, the only served one is meant."""
    said = as_messages(messages)
    if model is None:
        served = [item["id"] for item in (yield from list_models(retry))]
        if len(served) != 1:
            names = ", ".join(served) or "none"
            raise PenstockError(f"say which model to chat with; served now: {names}")
        model = served[0]
    body = {"model": model, "messages": said, **sampling}
    return replace(post("/v1/chat/completions"), body=body, read_timeout_s=_GENERATING_S)
