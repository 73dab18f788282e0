"""Functions in /v1/responses: called, streamed, answered, by OpenAI's own client."""

from typing import Any

import openai
import pytest

from penstock.api.generation import Part, Usage
from penstock.api.response_events import EventTeller
from penstock.api.response_object import ResponseDraft
from penstock.api.response_schemas import ResponsesRequest
from penstock.jobs.fake_engine import expected_text
from penstock.jobs.frames import Delta
from penstock.jobs.tool_use import ToolCall

from .conftest import MODEL

TOOL: Any = {
    "type": "function",
    "name": "look",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    "strict": True,
}
CALL = '<tool_call>{"name": "look", "arguments": {"at": "it"}}</tool_call>'


def test_a_call_is_an_item(client: openai.OpenAI) -> None:
    response = client.responses.create(model=MODEL, input=f"[[say]]{CALL}", tools=[TOOL])
    [item] = response.output
    assert item.type == "function_call"
    assert (item.name, item.arguments, item.status) == ("look", '{"at": "it"}', "completed")
    assert item.call_id.startswith("call_") and (item.id or "").startswith("fc_")
    assert (response.status, response.output_text) == ("completed", "")
    [tool] = response.tools
    assert tool.to_dict().items() >= TOOL.items()
    both = client.responses.create(model=MODEL, input=f"[[say]]well {CALL}{CALL}", tools=[TOOL])
    assert [item.type for item in both.output] == ["message", "function_call", "function_call"]
    assert both.output_text.strip() == "well"
    none = client.responses.create(
        model=MODEL, input=f"[[say]]{CALL}", tools=[TOOL], tool_choice="none"
    )
    assert none.output_text == CALL


def test_what_came_of_a_call_goes_back(client: openai.OpenAI) -> None:
    first = client.responses.create(model=MODEL, input=f"[[say]]{CALL}", tools=[TOOL])
    [call] = first.output
    assert call.type == "function_call"
    said: Any = [
        {"role": "user", "content": "look"},
        call.to_dict(),
        {"type": "function_call_output", "call_id": call.call_id, "output": "a fox"},
    ]
    second = client.responses.create(model=MODEL, input=said, tools=[TOOL])
    assert second.output_text == expected_text("look\n\na fox", num_tokens=8)


def test_chats_and_responses_say_the_same_of_calls() -> None:
    calls = [
        {"type": "function_call", "call_id": f"call_{n}", "name": "look", "arguments": "{}"}
        for n in range(2)
    ]
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": " fox"}]
    body = ResponsesRequest.model_validate(
        {
            "model": "m",
            "input": [
                {"role": "assistant", "content": "well"},
                *calls,
                {"type": "function_call_output", "call_id": "call_0", "output": parts},
            ],
            "tools": [TOOL],
            "tool_choice": {"type": "function", "name": "look"},
            "parallel_tool_calls": False,
        }
    )
    said, answer = body.messages()
    assert [call["id"] for call in said["tool_calls"]] == ["call_0", "call_1"]
    assert said["content"] == "well"
    assert answer == {"role": "tool", "tool_call_id": "call_0", "content": "a fox"}
    use = body.tool_use()
    assert use is not None
    assert (use.choice, use.only, use.is_parallel) == ("required", "look", False)
    assert use.tools[0]["function"]["parameters"] == TOOL["parameters"]
    assert body.chat_body()["tool_choice"] == {"type": "function", "function": {"name": "look"}}


@pytest.mark.parametrize("text", ["", "well "])
def test_a_stream_tells_calls(client: openai.OpenAI, text: str) -> None:
    asked: Any = {"model": MODEL, "input": f"[[say]]{text}{CALL}", "tools": [TOOL]}
    with client.responses.create(stream=True, **asked) as stream:
        events = list(stream)
    kinds = [event.type.removeprefix("response.") for event in events]
    message = [
        "output_item.added", "content_part.added", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done",
    ]  # fmt: skip
    call = [
        "output_item.added", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done",
    ]  # fmt: skip
    assert kinds == ["created", "in_progress", *(message if text else ()), *call, "completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    told: list[Any] = [event for event in events if hasattr(event, "output_index")]
    indexes = [event.output_index for event in told]
    assert indexes == [*[0] * len(message), *[1] * len(call)] if text else [0] * len(call)
    with client.responses.stream(**asked) as stream:
        stream.until_done()
        final = stream.get_final_response()
    assert [item.type for item in final.output] == (["message"] if text else []) + ["function_call"]


def test_text_behind_a_call_is_told_only_if_it_says_something() -> None:
    draft = ResponseDraft.of(ResponsesRequest.model_validate({"model": "m", "input": "hi"}))
    teller = EventTeller(draft)
    told = [*teller.begin()]
    call = ToolCall("call_1", "look", "{}")
    for delta in (
        Delta("r", tool_calls=(call,)),
        Delta("r", text="\n"),
        Delta("r", text="so"),
        Delta("r", text=" be it", finish_reason="stop"),
    ):
        draft.add(Part(0, delta))
        told += teller.news()
    draft.end(Usage(1, 4, 0))
    told += teller.end()
    whole = draft.to_object()
    assert [item["type"] for item in whole["output"]] == ["function_call", "message"]
    assert whole["output"][1]["content"][0]["text"] == "so be it"
    assert b"".join(told).count(b"event: response.output_text.delta") == 2
