"""OpenAI's own client, as ours gives it out: bound to the same server, with the same key."""

import asyncio
import json
import sys
from typing import Any

import openai
import pytest

from penstock.api.async_client import AsyncClient
from penstock.api.client import Client
from penstock.api.client_errors import MissingPackage

from .conftest import MODEL, Stack

MESSAGES: Any = [{"role": "user", "content": "hello"}]


def test_a_chat_and_a_stream(stack: Stack) -> None:
    with Client(stack.url) as ours, ours.openai() as client:
        assert type(client) is openai.OpenAI
        answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=3)
        assert answer.choices[0].message.content
        stream = client.chat.completions.create(
            model=MODEL, messages=MESSAGES, max_tokens=3, stream=True
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_a_batch(stack: Stack) -> None:
    body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 2}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    with Client(stack.url) as ours, ours.openai() as client:
        file = client.files.create(file=("in.jsonl", json.dumps(line).encode()), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        assert client.batches.retrieve(batch.id).request_counts is not None
        client.batches.cancel(batch.id)


def test_its_twin(stack: Stack) -> None:
    async def ask() -> str | None:
        async with AsyncClient(stack.url) as ours, ours.openai() as client:
            assert type(client) is openai.AsyncOpenAI
            answer = await client.chat.completions.create(
                model=MODEL, messages=MESSAGES, max_tokens=3
            )
            return answer.choices[0].message.content

    assert asyncio.run(ask())


def test_has_our_key_and_takes_its_own_arguments() -> None:
    with Client("http://host:1/", "secret") as ours, ours.openai(max_retries=7) as client:
        assert (str(client.base_url), client.api_key) == ("http://host:1/v1/", "secret")
        assert client.max_retries == 7
    with Client("http://host:1") as ours, ours.openai() as client:
        assert client.api_key  # the package insists on one


def test_names_the_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with Client("http://host:1") as ours:
        with pytest.raises(MissingPackage, match="pip install openai"):
            ours.openai()
        batch = ours.batcher(model="m")
        with pytest.raises(MissingPackage, match=r"create needs .* pip install openai"):
            batch.chat.completions.create(messages=MESSAGES)
    with pytest.raises(MissingPackage, match="pip install openai"):
        AsyncClient("http://host:1").openai()
