"""/v1/responses as OpenAI's own client uses it: whole and streamed."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import httpx2
import openai
import pytest
from openai.types.responses import Response

from penstock.api.errors import Unavailable
from penstock.api.generation import Part, Usage
from penstock.api.response_book import ResponseBook, UnknownResponse
from penstock.api.response_object import ResponseDraft
from penstock.api.response_schemas import ResponsesRequest
from penstock.api.routes.responses import _frames as frames_of
from penstock.jobs.fake_engine import expected_text
from penstock.jobs.frames import Delta

from .conftest import MODEL


def draft(**more: Any) -> ResponseDraft:
    return ResponseDraft.of(ResponsesRequest.model_validate({"model": "m", "input": "hi", **more}))


def test_a_text_is_answered(client: openai.OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="hi", metadata={"a": "b"})
    assert response.output_text == expected_text("hi", num_tokens=8)
    assert (response.status, response.object) == ("completed", "response")
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (2, 8)
    assert response.usage.total_tokens == 10
    assert response.metadata == {"a": "b"}
    assert response.completed_at is not None
    assert client.responses.retrieve(response.id) == response


def test_instructions_come_before_messages(client: openai.OpenAI) -> None:
    conversation: Any = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "water"}]},
        {"role": "user", "content": [{"type": "input_text", "text": "more"}]},
    ]
    response = client.responses.create(model=MODEL, input=conversation, instructions="be brief")
    assert response.output_text == expected_text("be brief\nhi\nwater\nmore", num_tokens=8)


def test_an_answer_is_input_of_the_next(client: openai.OpenAI) -> None:
    first = client.responses.create(model=MODEL, input="hi")
    said: Any = [{"role": "user", "content": "hi"}, *(i.to_dict() for i in first.output)]
    second = client.responses.create(model=MODEL, input=[*said, {"role": "user", "content": "?"}])
    whole = f"hi\n{first.output_text}\n?"
    assert second.output_text == expected_text(whole, num_tokens=8)


def test_a_limit_is_obeyed(client: openai.OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="hi", max_output_tokens=2)
    assert response.output_text == expected_text("hi", num_tokens=2)
    assert response.max_output_tokens == 2


def test_one_that_is_cut_says_why() -> None:
    cut = draft()
    cut.add(Part(0, Delta("r", text="wat", finish_reason="length")))
    cut.end(Usage(1, 1, 0))
    told = Response.model_validate(cut.to_object())
    assert (told.status, told.completed_at) == ("incomplete", None)
    assert told.incomplete_details is not None
    assert told.incomplete_details.reason == "max_output_tokens"
    [item] = told.output
    assert item.type == "message"
    assert item.status == "incomplete"


def test_a_stream_that_breaks_ends_with_a_failed_response() -> None:
    async def broken() -> AsyncGenerator[Part, None]:
        yield Part(0, Delta("r", text="wat"))
        raise Unavailable("the worker died", code="worker_lost")

    async def walk() -> list[str]:
        lines = [line async for line in frames_of(cast(Any, broken()), broken_draft)]
        return [line.decode().split("\n")[0] for line in lines]

    broken_draft = draft()
    assert asyncio.run(walk())[-2:] == [
        "event: response.output_text.delta",
        "event: response.failed",
    ]
    assert broken_draft.to_object()["error"]["code"] == "worker_lost"


def test_a_schema_of_the_text_binds_the_engine() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    body = ResponsesRequest.model_validate({"model": "m", "input": "hi", "text": {"format": form}})
    bound = body.sampling()["structured_outputs"]["json"]
    assert bound["properties"] == schema["properties"]
    plain = {"model": "m", "input": "hi", "text": {"format": {"type": "text"}}}
    assert "structured_outputs" not in ResponsesRequest.model_validate(plain).sampling()


def test_a_stream_tells_the_whole_life(client: openai.OpenAI) -> None:
    with client.responses.create(model=MODEL, input="hi", stream=True) as stream:
        events = list(stream)
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds == [
        "created", "in_progress", "output_item.added", "content_part.added",
        *["output_text.delta"] * 8,
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == text == expected_text("hi", num_tokens=8)
    assert client.responses.retrieve(last.response.id) == last.response


def test_the_clients_own_stream_gathers_it(client: openai.OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="hi") as stream:
        stream.until_done()
        assert stream.get_final_response().output_text == expected_text("hi", num_tokens=8)


def test_a_failure_is_a_status_or_an_event(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.responses.create(model=MODEL, input="[[fail]]")
    assert caught.value.code == "engine_error"


def test_what_must_not_be_stored_is_not(client: openai.OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="hi", store=False)
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.retrieve(response.id)
    assert caught.value.code == "response_not_found"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"background": True, "stream": True}, "stream"),
        ({"background": True, "store": False}, "store"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input.0.call_id"),
        ({"input": [{"role": "user", "content": 7}]}, "input.0.content"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "required", "background": True}, "tool_choice"),
        ({"max_output_tokens": 0, "background": True}, "max_tokens"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input"),
        (
            {"input": [{"role": "user", "content": [{"type": ["input_text"], "text": "x"}]}]},
            "input",
        ),
        ({"input": []}, "input"),
        ({"max_output_tokens": 0}, "max_tokens"),
        ({"max_output_tokens": 10**6}, "max_tokens"),
        ({"made_up": 1}, "made_up"),
    ],
)
def test_what_we_lack_is_refused(http: httpx2.Client, change: dict, param: str) -> None:
    answer = http.post("/v1/responses", json={"model": MODEL, "input": "hi", **change})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_other_tenants_see_nothing() -> None:
    book = ResponseBook()
    kept = draft()
    book.keep("one", kept)
    for call in (book.get, book.delete):
        with pytest.raises(UnknownResponse):
            call(kept.id, "two")
    assert kept.id.encode() in book.get(kept.id, "one")
    book.delete(kept.id, "one")
    with pytest.raises(UnknownResponse):
        book.get(kept.id, "one")


def test_the_book_is_bounded() -> None:
    size = len(draft(user="u").id) + 1_000
    book = ResponseBook(max_bytes=3 * size)
    kept = [draft() for _ in range(20)]
    for each in kept:
        book.keep("t", each)
    with pytest.raises(UnknownResponse):
        book.get(kept[0].id, "t")
    assert book.get(kept[-1].id, "t")
    forgetful = ResponseBook(kept_s=0.0)
    forgetful.keep("t", kept[0])
    with pytest.raises(UnknownResponse):
        forgetful.get(kept[0].id, "t")
