"""OpenAI's own client through every endpoint: plain, raw, streamed, synchronous and not.

What an answer holds is told elsewhere, by endpoint; here it is that every way of asking works.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from penstock.jobs.fake_engine import SAY, expected_text

from .conftest import MODEL, Stack
from .test_chat_tools import PARIS, WEATHER
from .test_webhooks import receiver

ASK: Any = [{"role": "user", "content": "hi"}]
SAID = expected_text("hi", num_tokens=8)
LINE = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": MODEL, "messages": ASK},
}


class Order(BaseModel):
    item: str
    amount: int


def saying(text: str) -> Any:
    return [{"role": "user", "content": SAY + text}]


def with_async(stack: Stack, walk: Callable[[openai.AsyncOpenAI], Awaitable[None]]) -> None:
    async def run() -> None:
        async with stack.async_openai() as client:
            await walk(client)

    asyncio.run(run())


@asynccontextmanager
async def kept(client: openai.AsyncOpenAI, content: bytes) -> AsyncIterator[str]:
    file = await client.files.create(file=("a.jsonl", content), purpose="batch")
    try:
        yield file.id
    finally:
        await client.files.delete(file.id)


def test_raw_answers_have_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=ASK)
    assert raw.status_code == 200
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.parse().choices[0].message.content == SAID
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    for ask in (
        lambda: client.completions.with_raw_response.create(model=MODEL, prompt="hi"),
        lambda: client.embeddings.with_raw_response.create(model=MODEL, input="hi"),
        lambda: client.responses.with_raw_response.create(model=MODEL, input="hi"),
        lambda: client.models.with_raw_response.retrieve(MODEL),
        lambda: client.models.with_raw_response.list(),
        lambda: client.files.with_raw_response.list(),
        lambda: client.batches.with_raw_response.list(),
        lambda: client.webhooks.with_raw_response.list(),
    ):
        raw = ask()
        assert raw.status_code == 200
        assert raw.headers["content-type"] == "application/json"
        assert raw.parse()


def test_answers_are_read_as_they_arrive(client: openai.OpenAI, tmp_path: Path) -> None:
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=ASK, stream=True
    ) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    with client.responses.with_streaming_response.create(model=MODEL, input="hi") as answer:
        assert answer.parse().output_text == SAID
    file = client.files.create(file=("a", b"abc" * 1_000), purpose="user_data")
    with client.files.with_streaming_response.content(file.id) as answer:
        answer.stream_to_file(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"abc" * 1_000
    client.files.delete(file.id)


def test_a_stream_that_is_left_early_is_closed(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "[[long]]"}], stream=True
    ) as stream:
        assert next(iter(stream)).choices[0].delta.role == "assistant"
    assert client.chat.completions.create(model=MODEL, messages=ASK).choices


def test_generation_not_waited_for(stack: Stack) -> None:
    async def walk(client: openai.AsyncOpenAI) -> None:
        chats = client.chat.completions
        raw = await chats.with_raw_response.create(model=MODEL, messages=ASK)
        assert raw.parse().choices[0].message.content == SAID
        text = await client.completions.create(model=MODEL, prompt="hi")
        assert text.choices[0].text == SAID
        pieces = await client.completions.create(model=MODEL, prompt="hi", stream=True)
        assert "".join([piece.choices[0].text async for piece in pieces]) == SAID
        made = await client.embeddings.create(model=MODEL, input=["hi", "ho"])
        assert len(made.data) == 2
        assert MODEL in [model.id async for model in client.models.list()]
        assert (await client.models.retrieve(MODEL)).id == MODEL

    with_async(stack, walk)


def test_helpers_for_chats_not_waited_for(stack: Stack) -> None:
    async def walk(client: openai.AsyncOpenAI) -> None:
        chats = client.chat.completions
        order = '{"item": "tea", "amount": 2}'
        parsed = await chats.parse(model=MODEL, messages=saying(order), response_format=Order)
        assert parsed.choices[0].message.parsed == Order(item="tea", amount=2)
        async with chats.stream(
            model=MODEL, messages=saying(order), response_format=Order
        ) as stream:
            kinds = {event.type async for event in stream}
            final = await stream.get_final_completion()
        assert {"chunk", "content.delta", "content.done"} <= kinds
        assert final.choices[0].message.parsed == Order(item="tea", amount=2)
        async with chats.stream(model=MODEL, messages=saying(PARIS), tools=[WEATHER]) as stream:
            final = await stream.get_final_completion()
        assert final.choices[0].finish_reason == "tool_calls"

    with_async(stack, walk)


def test_responses_are_parsed(client: openai.OpenAI) -> None:
    order = SAY + '{"item": "tea", "amount": 2}'
    parsed = client.responses.parse(model=MODEL, input=order, text_format=Order)
    assert parsed.output_parsed == Order(item="tea", amount=2)
    with client.responses.stream(model=MODEL, input=order, text_format=Order) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert {"response.created", "response.output_text.delta", "response.completed"} <= kinds
    assert final.output_parsed == Order(item="tea", amount=2)


def test_responses_not_waited_for(stack: Stack) -> None:
    async def walk(client: openai.AsyncOpenAI) -> None:
        made = await client.responses.create(model=MODEL, input="hi")
        assert (await client.responses.retrieve(made.id)).output_text == SAID
        stream = await client.responses.create(model=MODEL, input="hi", stream=True)
        kinds = [event.type async for event in stream]
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
        order = SAY + '{"item": "tea", "amount": 2}'
        async with client.responses.stream(model=MODEL, input=order, text_format=Order) as events:
            final = await events.get_final_response()
        assert final.output_parsed == Order(item="tea", amount=2)
        await client.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(made.id)

    with_async(stack, walk)


def test_files_and_uploads_not_waited_for(stack: Stack) -> None:
    async def walk(client: openai.AsyncOpenAI) -> None:
        content = json.dumps(LINE).encode() * 1_000
        async with kept(client, content) as file_id:
            assert (await client.files.wait_for_processing(file_id)).status == "processed"
            assert (await client.files.content(file_id)).content == content
            assert file_id in [file.id async for file in client.files.list(limit=1)]
        done = await client.uploads.upload_file_chunked(
            file=content,
            filename="a.jsonl",
            bytes=len(content),
            mime_type="text/jsonl",
            purpose="batch",
            part_size=len(content) // 3,
        )
        assert done.file is not None
        assert (await client.files.content(done.file.id)).content == content
        await client.files.delete(done.file.id)
        begun = await client.uploads.create(
            bytes=1, filename="a", mime_type="text/jsonl", purpose="batch"
        )
        assert (await client.uploads.cancel(begun.id)).status == "cancelled"

    with_async(stack, walk)


def test_pages_of_batches_follow_each_other(stack: Stack, client: openai.OpenAI) -> None:
    async def walk(client: openai.AsyncOpenAI) -> None:
        async with kept(client, json.dumps(LINE).encode()) as file_id:
            made = [await _batch(client, file_id) for _ in range(3)]
            listed = [batch.id async for batch in client.batches.list(limit=2)]
            assert listed[:3] == made[::-1]
            for batch_id in made:
                await _ended(client, batch_id)

    with_async(stack, walk)
    first = client.batches.list(limit=1)
    assert first.has_next_page()
    [second] = first.get_next_page().data
    assert second.id not in [batch.id for batch in first.data]


async def _batch(client: openai.AsyncOpenAI, file_id: str) -> str:
    batch = await client.batches.create(
        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    return batch.id


async def _ended(client: openai.AsyncOpenAI, batch_id: str) -> None:
    async with asyncio.timeout(60):
        while (batch := await client.batches.retrieve(batch_id)).status != "completed":
            await asyncio.sleep(0.05)
    assert batch.output_file_id is not None
    [told] = (await client.files.content(batch.output_file_id)).text.splitlines()
    assert json.loads(told)["response"]["body"]["choices"][0]["message"]["content"] == SAID


def test_webhooks_not_waited_for(stack: Stack) -> None:
    async def walk(client: openai.AsyncOpenAI) -> None:
        made = await client.webhooks.create(
            name="a", url="http://127.0.0.1:9/", event_types=["batch.completed"]
        )
        changed = await client.webhooks.update(made.id, name="b")
        assert (await client.webhooks.retrieve(made.id)).name == changed.name == "b"
        assert (await client.webhooks.rotate_secret(made.id)).signing_secret != made.signing_secret
        assert made.id in [each.id async for each in client.webhooks.list(limit=1)]
        assert "batch.completed" in (await client.webhooks.event_types.list()).data
        assert (await client.webhooks.delete(made.id)).deleted

    with_async(stack, walk)


def test_an_endpoint_is_tried_with_a_sample(client: openai.OpenAI) -> None:
    with receiver(lambda number: 200 if number == 1 else 500) as (url, received):
        made = client.webhooks.create(name="a", url=url, event_types=["batch.expired"])
        for status in (200, 500):  # it is told, and not tried again
            told = client.webhooks.test(made.id, event_type="batch.failed")
            assert (told.status_code, told.event_type) == (status, "batch.failed")
        assert len(received) == 2
        headers, body = received[0]
        event = client.webhooks.unwrap(body, headers, secret=made.signing_secret)
        assert event.type == "batch.failed"
    with pytest.raises(openai.BadRequestError) as caught:
        client.webhooks.test(made.id, event_type="batch.failed")
    assert caught.value.code == "endpoint_unreachable"
    client.webhooks.delete(made.id)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"model": "no-such-model", "messages": ASK}, openai.NotFoundError),
        ({"model": MODEL, "messages": []}, openai.BadRequestError),
        ({"model": MODEL, "messages": saying("x" * 200_000)}, openai.BadRequestError),
    ],
)
def test_refusals_are_its_own_errors(
    stack: Stack, client: openai.OpenAI, body: Any, error: type[openai.APIStatusError]
) -> None:
    async def walk(client: openai.AsyncOpenAI) -> None:
        for stream in (False, True):
            with pytest.raises(error) as caught:
                await client.chat.completions.create(**body, stream=stream)
            assert caught.value.request_id
            assert caught.value.code

    with_async(stack, walk)
    with pytest.raises(error):
        client.chat.completions.with_raw_response.create(**body)
